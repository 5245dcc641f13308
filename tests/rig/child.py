"""A device in a process of its own, which a test can kill at any moment.

Run as a program it opens a device and syncs it once: ``python -m rig.child DATABASE URL SPACE OPTIONS``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import TESTS
from .device import device_at

Child = subprocess.Popen[bytes]


@contextmanager
def start_child(path: Path, url: str, space: str, **options: Any) -> Iterator[Child]:
    """Sync the device at ``path`` in a child process; whatever is left of it at the end is killed."""
    arguments = [str(path), url, space, json.dumps(options)]
    child = subprocess.Popen([sys.executable, "-m", __name__, *arguments], cwd=TESTS)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _sync(path: str, url: str, space: str, options: str) -> None:
    # A suite that runs in the background ignores the keyboard's interrupt, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with device_at(Path(path), url, space) as device:
        device.sync(**json.loads(options))


if __name__ == "__main__":
    _sync(*sys.argv[1:])
