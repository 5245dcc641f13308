"""News that wait for one observer: no more than some, however slow it is."""

from __future__ import annotations

import threading
from collections import deque

from statesync.store.news.told import News

MOST_WAITING = 1000
"""News that wait for an observer at most; then they become one for each object: everything."""


class Waiting:
    """What one observer of these objects, or (None) of all, is still to be told."""

    def __init__(self, names: frozenset[str] | None) -> None:
        self._names = names
        self._lock = threading.RLock()  # a signal handler may stop the observer
        self._news: deque[News] = deque()
        self.is_over: bool = False

    def put(self, news: News) -> bool:
        """Add news; tell whether they are any of the observer's business."""
        if self._names is not None and news.object not in self._names:
            return False
        with self._lock:
            if self.is_over:
                return False
            self._news.append(news)
            if len(self._news) > MOST_WAITING:
                names = dict.fromkeys(each.object for each in self._news)
                self._news = deque(News(name, everything=True) for name in names)
        return True

    def take(self) -> News | None:
        """Return what comes next, None if nothing waits."""
        with self._lock:
            return self._news.popleft() if self._news else None

    def end(self) -> None:
        """Let nothing come any more."""
        with self._lock:
            self.is_over = True
            self._news.clear()
