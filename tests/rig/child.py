"""A device in a process of its own, which a test can kill at any moment.

It is forked from a server that has opened nothing and has imported the package once: an interpreter of its
own would take a third of a second of processor for that.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from . import TESTS
from .device import device_at

PROCESSES = multiprocessing.get_context("forkserver")
"""What starts processes; a run of the tests has one server, and it imports what any of them needs."""

PROCESSES.set_forkserver_preload(
    [
        "statesync.net.remote",
        "statesync.scope",
        "statesync.session.inside",
        "statesync.store.opening",
        "statesync.hub",
        "statesync.hub.db.file.opening",
        "statesync.hub.db.server.opening",
    ]
)


def on_a_device(**more: str) -> dict[str, str]:
    """Return the environment of a Python of its own that is a device's: it has no driver of PostgreSQL."""
    folders = [str(TESTS / "rig" / "on_a_device"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), **more}


@frozen
class Child:
    """The process."""

    process: multiprocessing.process.BaseProcess

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for its end, and return how it ended: 0, or minus the signal; None if it goes on."""
        self.process.join(seconds)
        return self.process.exitcode


@contextmanager
def start_child(path: Path, url: str, space: str, **options: Any) -> Iterator[Child]:
    """Sync the device at ``path`` in a child process; whatever is left of it at the end is killed."""
    child = Child(PROCESSES.Process(target=sync_here, args=(path, url, space, options)))
    child.process.start()
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def sync_here(path: Path, url: str, space: str, options: dict[str, Any]) -> None:
    """Be such a device, in this process: sync once."""
    # A suite that runs in the background ignores the keyboard's interrupt, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with device_at(path, url, space) as device:
        device.sync(**options)
