"""Whose turn it is: keepers that share a store, or that are to run one after the other, begin in turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Turns:
    """One holder at a time, in the order in which they asked. Nobody waits in a thread: each is called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[object, Callable[[], object]]] = deque()
        self._holder: object | None = None

    def take(self, who: object, begin: Callable[[], object]) -> None:
        """Call ``begin`` when it is the turn of ``who``: at once, or in the thread that gives a turn back."""
        with self._lock:
            if self._holder is not None:
                self._waiting.append((who, begin))
                return
            self._holder = who
        begin()

    def give_back(self, who: object) -> None:
        """End the turn of ``who``, or its wait for one."""
        following = None
        with self._lock:
            if self._holder is not who:
                self._waiting = deque(each for each in self._waiting if each[0] is not who)
                return
            self._holder = None
            if self._waiting:
                self._holder, following = self._waiting.popleft()
        if following is not None:
            following()
