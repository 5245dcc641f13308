"""A hub that is served as its users serve it: by ``statesync hub serve``, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from attrs import define, field

PATIENCE = 30.0


def wait_for(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@define(eq=False)
class Server:
    """``statesync hub serve`` in a process of its own, and what it has logged."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str] = field(factory=list)
    """What it logged."""
    said: list[str] = field(factory=list)
    """What it printed."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, what: str) -> int:
        return sum(what in line for line in self.lines)

    def is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running(url: str, *options: str, workers: int = 1, descriptors: str = "") -> Iterator[Server]:
    """Run the command; ``descriptors`` is what ``ulimit`` is to say of them before it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "statesync", "hub", "serve", "--port", str(port)]
    limited = ["sh", "-c", f'ulimit {descriptors}; exec "$@"', "sh"] if descriptors else []
    process = subprocess.Popen(
        [*limited, *command, "--workers", str(workers), *options],
        env=os.environ | {"STATESYNC_HUB_DATABASE": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process, port)
    with process, _reading(process.stdout, server.said), _reading(process.stderr, server.lines):
        try:
            wait_for(lambda: server.count("Application startup complete") >= workers, "the hub did not start")
            yield server
        finally:
            process.terminate()
            process.wait(PATIENCE)


@contextmanager
def _reading(stream: IO[str] | None, lines: list[str]) -> Iterator[None]:
    """Collect the lines of a stream beside the block, and until it ends."""
    assert stream is not None
    reader = threading.Thread(target=lambda: lines.extend(iter(stream.readline, "")))
    reader.start()
    try:
        yield
    finally:
        reader.join(PATIENCE)
