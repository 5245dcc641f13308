"""A real HTTP server in front of a hub, where the test decides what becomes of each request and when."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import urllib3
from attrs import Factory, define, field

PATIENCE = 20.0
"""Seconds after which a test that waits for something has failed."""


def wait_for(holds: Callable[[], bool]) -> bool:
    """Wait until something holds that another thread or process brings about; False if it never does."""
    tick = threading.Event()
    for _ in range(int(PATIENCE * 200)):
        if holds():
            return True
        tick.wait(0.005)
    return False


Reply = tuple[int, dict[str, str], bytes]


@define(eq=False)
class Seen:
    """One request that came to the gate."""

    verb: str
    body: dict[str, Any]


Step = Callable[["Gate", str, bytes, dict[str, str]], Reply | None]
"""What becomes of one request: the answer to give, or None to break the connection."""


def pass_on(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
    """Let the hub answer."""
    return gate.ask_hub(path, body, headers)


def lose_request(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
    """Break the connection before the hub hears anything."""
    return None


def lose_answer(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
    """Let the hub apply the request, and break the connection in place of the answer."""
    gate.ask_hub(path, body, headers)
    return None


def answer(status: int, body: bytes, **headers: str) -> Step:
    """Answer in the hub's place."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda gate, path, sent, received: (status, named, body)


def refuse(status: int, code: str, **headers: str) -> Step:
    """Refuse as a hub does."""
    body = json.dumps({"error": {"code": code, "message": "the test says so"}}).encode()
    return answer(status, body, **headers)


def rejecting(**more: object) -> Step:
    """Turn the hub's verdicts on a push into refusals, and let the rest pass; ``more`` is in each of them.

    The hub has heard of the push, so that it goes on counting with the device.
    """
    verdict = {"status": "rejected", "code": "no", "message": "the test says so", **more}

    def reject(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        status, named, said = gate.ask_hub(path, body, headers)
        answer = json.loads(said)
        if "results" in answer:
            answer["results"] = [verdict] * len(answer["results"])
        return status, named, json.dumps(answer).encode()

    return reject


@define(eq=False)
class Hold:
    """Hold a request at the gate: ``arrived`` is set once it is there, ``release`` lets it go on.

    The hub has answered it by then, unless ``before_hub`` says that it must not have heard of it.
    """

    then: Step = pass_on
    before_hub: bool = False
    arrived: threading.Event = Factory(threading.Event)
    released: threading.Event = Factory(threading.Event)

    def __call__(self, gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        reply = None if self.before_hub else self.then(gate, path, body, headers)
        self.arrived.set()
        assert self.released.wait(PATIENCE), "nobody released the request"
        return self.then(gate, path, body, headers) if self.before_hub else reply

    def wait(self) -> None:
        """Wait until the request is held."""
        assert self.arrived.wait(PATIENCE), "no request came to the gate"

    def release(self) -> None:
        """Let it go on."""
        self.released.set()


@define(eq=False)
class Gate:
    """The server: ``plan`` says what becomes of the next requests; those without a plan pass."""

    hub: str
    seen: list[Seen] = field(factory=list)
    connections: set[socket.socket] = field(factory=set)
    _steps: deque[Step] = field(factory=deque)
    asked: list[str] = field(factory=list)
    """The questions for news, which have plans of their own."""
    _answers: deque[Step] = field(factory=deque)
    _holds: list[Hold] = field(factory=list)
    _pool: urllib3.PoolManager = Factory(lambda: urllib3.PoolManager(timeout=PATIENCE, retries=False))
    url: str = ""

    def plan(self, *steps: Step) -> None:
        """Say what becomes of the next requests, one step for each."""
        self._steps.extend(steps)

    def plan_questions(self, *steps: Step) -> None:
        """Say what becomes of the next questions for news, one step for each."""
        self._answers.extend(steps)

    def forget_plans(self) -> None:
        """Let every later request pass."""
        self._steps.clear()

    def hold(self, then: Step = pass_on, *, before_hub: bool = False) -> Hold:
        """Hold the next request that has no plan yet."""
        held = Hold(then, before_hub)
        self._holds.append(held)
        self.plan(held)
        return held

    def verbs(self) -> list[str]:
        """The verbs of the requests so far, in their order."""
        return [seen.verb for seen in self.seen]

    def wait_for_no_connection(self) -> bool:
        """Wait until every connection to the gate is closed; False if one stays."""
        return wait_for(lambda: not self.connections)

    def ask_hub(self, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        method = "GET" if "?" in path else "POST"
        reply = self._pool.request(method, self.hub + path, body=body or None, headers=headers)
        return reply.status, {"Content-Type": "application/json"}, reply.data

    def serve_question(self, path: str, headers: dict[str, str]) -> Reply | None:
        self.asked.append(path)
        step = self._answers.popleft() if self._answers else pass_on
        return step(self, path, b"", headers)

    def serve(self, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        self.seen.append(Seen(path.rsplit("/", 1)[-1], json.loads(body)))
        step = self._steps.popleft() if self._steps else pass_on
        return step(self, path, body, headers)

    def close(self) -> None:
        for held in self._holds:
            held.release()
        self._pool.clear()


class _Server(ThreadingHTTPServer):
    """It sleeps until somebody connects: one that looks for its end now and then costs all tests that."""

    daemon_threads = True
    gate: Gate
    has_ended = False

    def serve(self) -> None:
        """Take connections until the end."""
        while not self.has_ended:
            self.handle_request()

    def end(self) -> None:
        """Let ``serve`` return."""
        self.has_ended = True
        socket.create_connection(("127.0.0.1", self.server_port)).close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that cut its connection is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        gate = cast(_Server, self.server).gate
        gate.connections.add(self.connection)
        try:
            super().handle()
        finally:
            gate.connections.discard(self.connection)

    def do_GET(self) -> None:
        self._give(cast(_Server, self.server).gate.serve_question(self.path, self._kept()))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._give(cast(_Server, self.server).gate.serve(self.path, body, self._kept()))

    def _kept(self) -> dict[str, str]:
        names = ("Authorization", "Content-Type")
        return {name: self.headers[name] for name in names if name in self.headers}

    def _give(self, reply: Reply | None) -> None:
        if reply is None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, content = reply
        lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def gate_before(hub: str) -> Iterator[Gate]:
    """Run a gate in front of the hub at the address ``hub``."""
    gate = Gate(hub)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.gate = gate
    gate.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve, name="gate")
    thread.start()
    try:
        yield gate
    finally:
        gate.close()
        server.end()
        thread.join()
        server.server_close()
