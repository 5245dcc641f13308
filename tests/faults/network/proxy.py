"""A TCP proxy between device and hub that does to each request what a bad network does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import BinaryIO, cast
from urllib.parse import urlsplit

DELAY = 0.05

HELLO = b"\x16\x03"
"""How TLS begins: a device that was hung up on asks whether it is spoken here, and that is no request."""


class Fault(StrEnum):
    """What becomes of one request."""

    PASS = "pass"
    DROP_REQUEST = "drop_request"
    """The connection breaks before the hub has heard anything."""
    CUT_REQUEST = "cut_request"
    """It breaks in the middle of the request's body."""
    DROP_ANSWER = "drop_answer"
    """It breaks after the hub has done everything."""
    CUT_ANSWER = "cut_answer"
    """It breaks in the middle of the answer's body."""
    DELAY = "delay"
    """The answer comes late."""
    REPEAT = "repeat"
    """The hub hears the request twice; the device gets the second answer."""
    BLACK = "black"
    """Nobody hears the request, nobody answers, and the connection stays open."""
    BLACK_AFTER = "black_after"
    """The hub does everything, and the answer disappears; the connection stays open."""


FAULTS = tuple(Fault)[1:]


class Proxy:
    """Listens on loopback and passes requests on to ``hub``; ``plan`` maps a request's number to its fault.

    Requests count from 1; ``requests`` holds their paths and bodies in the order in which they came.
    """

    def __init__(self, hub: str, plan: Callable[[int], Fault] = lambda _: Fault.PASS) -> None:
        address = urlsplit(hub)
        self._hub = (str(address.hostname), int(address.port or 0))
        self.plan = plan
        self.requests: list[tuple[str, bytes]] = []
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with suppress(OSError):  # it may not be connected to anything
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5.0)
            assert not thread.is_alive(), "a connection of the proxy did not end"

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(0.05)
        with client, suppress(ConnectionError):  # the device hung up
            while (request := self._read_request(client)) is not None:
                self.requests.append((_path_of(request), _split(request)[1]))
                if not self._treat(client, request, self.plan(len(self.requests))):
                    return

    def _read_request(self, client: socket.socket) -> bytes | None:
        """Return the next request, or None if the device or the proxy hangs up."""
        message = b""
        while not _is_whole(message):
            if self._closing.is_set():
                return None
            with suppress(TimeoutError):
                part = client.recv(1 << 16)
                if not part or part.startswith(HELLO):
                    return None
                message += part
        return message

    def _treat(self, client: socket.socket, request: bytes, fault: Fault) -> bool:
        """Do what the fault says; tell whether the connection goes on."""
        if fault is Fault.DROP_REQUEST:
            return False
        if fault is Fault.CUT_REQUEST:
            self._send_half(request)
            return False
        if fault is Fault.BLACK:
            return self._hang(client)
        answer = self._ask(request)
        if fault is Fault.REPEAT:
            answer = self._ask(request)
        if fault is Fault.DROP_ANSWER:
            return False
        if fault is Fault.CUT_ANSWER:
            client.sendall(_half(answer))
            return False
        if fault is Fault.BLACK_AFTER:
            return self._hang(client)
        if fault is Fault.DELAY:
            time.sleep(DELAY)
        client.sendall(answer)
        return True

    def _hang(self, client: socket.socket) -> bool:
        """Say nothing until the device gives up."""
        while not self._closing.is_set():
            with suppress(TimeoutError):
                if not client.recv(1 << 16):
                    return False
        return False

    def _send_half(self, request: bytes) -> None:
        with socket.create_connection(self._hub) as hub:
            hub.sendall(_half(request))

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(self._hub) as hub, hub.makefile("rb") as stream:
            hub.sendall(request)
            return _read_answer(cast(BinaryIO, stream))


def _read_answer(stream: BinaryIO) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.readline()
    return head + stream.read(_length(head))


def _split(message: bytes) -> tuple[bytes, bytes]:
    head, _, body = message.partition(b"\r\n\r\n")
    return head, body


def _half(message: bytes) -> bytes:
    """Return a message cut off in the middle of its body."""
    return message[: -(_length(_split(message)[0]) // 2)]


def _is_whole(message: bytes) -> bool:
    head, body = _split(message)
    return b"\r\n\r\n" in message and len(body) >= _length(head)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _path_of(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode()
