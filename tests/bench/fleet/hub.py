"""The hub that a fleet meets: ``statesync hub serve`` in processes of its own, and what they use."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

from attrs import define

from ..runner import ROOT

_PATIENCE = 30.0
_PAUSE = 0.1
_TICK = os.sysconf("SC_CLK_TCK")


@define
class Use:
    """What the hub's processes used: at most at once, and of processor time in all."""

    memory: float = 0.0
    """MB of the largest process."""
    descriptors: int = 0
    """Of the process with the most."""
    processor: float = 0.0
    """Seconds of all."""


@define(eq=False)
class HubProcess:
    """A hub at one port, which can be killed and started again."""

    url: str
    workers: int
    options: tuple[str, ...]
    log: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        options = ("--port", str(self.port), "--workers", str(self.workers), *self.options)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "statesync", "hub", "serve", *options],
                cwd=ROOT,
                env=os.environ | {"STATESYNC_HUB_DATABASE": self.url},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the hub did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(_PAUSE)

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._end(kill=True)

    def stop(self) -> None:
        """End it as a signal does: what is under way is finished."""
        self._end(kill=False)

    def lines(self) -> int:
        """Return how many lines it has logged."""
        return self.log.read_bytes().count(b"\n")

    def processes(self) -> list[int]:
        """Return the numbers of its processes that serve."""
        process = self._process  # another thread may end it meanwhile
        if process is None:
            return []
        return [process.pid] if self.workers == 1 else _children(process.pid)

    def _end(self, *, kill: bool) -> None:
        if self._process is not None:
            children = self.processes()
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(_PATIENCE)
            for child in children if kill else ():
                with suppress(ProcessLookupError):
                    os.kill(child, 9)
            self._process = None

    def _is_ready(self) -> bool:
        http = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            http.request("GET", "/readyz")
            return http.getresponse().status == 200
        except OSError:
            return False
        finally:
            http.close()


@contextmanager
def watched(hub: HubProcess) -> Iterator[Use]:
    """Look at the hub's processes while the block runs, ten times a second."""
    use, over, seen = Use(), threading.Event(), {}
    begun = {process: processor(process) for process in hub.processes()}

    def look() -> None:
        for process in hub.processes():
            with suppress(OSError):  # it may end while it is looked at
                seen[process] = processor(process)
                use.memory = max(use.memory, _memory(process))
                use.descriptors = max(use.descriptors, len(os.listdir(f"/proc/{process}/fd")))

    def watch() -> None:
        while not over.wait(_PAUSE):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield use
    finally:
        over.set()
        thread.join()
        look()
        use.processor = sum(spent - begun.get(process, 0.0) for process, spent in seen.items())


def _children(process: int) -> list[int]:
    with suppress(OSError):
        found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [int(child) for child in found if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]
    return []


def processor(process: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _memory(process: int) -> float:
    """Return the resident memory of a process in MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
