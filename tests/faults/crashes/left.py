"""Which points of a program are worth an end: between two that leave the same files one is enough.

A process that ends at a point leaves its files and nothing else, so between two points without a write no
promise can be kept at one and broken at the other. Both ends of each such stretch are taken, as two runs of a program
may differ by a point.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from statesync.testing import Point, Watch

Program = Callable[[Watch], None]


class _Looking(Watch):
    """Takes down at every point what the files of a folder hold."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None)
        self._folder = folder
        self._one_at_a_time = threading.Lock()
        self.left: list[dict[str, bytes]] = []

    def _pass(self, kind: str, what: str) -> None:
        with self._one_at_a_time:
            self.left.append(_contents(self._folder))
            super()._pass(kind, what)


def telling_points(program: Program, folder: Path) -> tuple[Sequence[Point], Sequence[Point]]:
    """Run the program here; return all its points, and those on either side of a write in the folder."""
    looking = _Looking(folder)
    program(looking)
    points, left = looking.points, looking.left
    last = len(points) - 1
    telling = [
        point
        for at, point in enumerate(points)
        if at in (0, last) or left[at - 1] != left[at] or left[at] != left[at + 1]
    ]
    return points, telling


def _contents(folder: Path) -> dict[str, bytes]:
    """Return a digest of each file but the index of a write-ahead log, which is made anew after a crash."""
    return {
        path.name: hashlib.blake2b(path.read_bytes()).digest()
        for path in folder.iterdir()
        if path.suffix != ".db-shm"
    }
