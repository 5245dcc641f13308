"""The threads that came into being since: what earlier tests left is about to end, and changes its names."""

from __future__ import annotations

import threading


class NewThreads:
    """Tells the threads that are there now, and had another name or were not there when it was made."""

    def __init__(self) -> None:
        self._before = {(one, one.name) for one in threading.enumerate()}

    def called(self, name: str) -> list[threading.Thread]:
        """Return those in whose names ``name`` occurs."""
        there = {(one, one.name) for one in threading.enumerate()}
        return [one for one, called in there - self._before if name in called]
