"""All progress that a session has told so far, at its pace, for whoever reads it from its beginning."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from statesync.values import Progress


class Told:
    """The events of one session, from the first to the last, which has an outcome.

    ``news`` tells of each one to come.
    """

    def __init__(self, news: threading.Condition) -> None:
        self._news = news
        self._events: list[Progress] = []
        self._wakers: list[Callable[[], object]] = []

    def add(self, event: Progress) -> None:
        """Add the next one."""
        with self._news:
            self._events.append(event)
            wakers = self._wakers
            self._news.notify_all()
        for wake in wakers:
            wake()

    def since(self, number: int) -> list[Progress]:
        """Return those after the first ``number``."""
        return self._events[number:]

    def each(self) -> Iterator[Progress]:
        """Return every one, waiting for those to come."""
        at = 0
        while True:
            with self._news:
                self._news.wait_for(lambda: len(self._events) > at)  # noqa: B023 - called before at moves
                event = self._events[at]
            at += 1
            yield event
            if event.outcome is not None:
                return

    def watch(self, wake: Callable[[], object]) -> None:
        """Call ``wake``, which returns at once, whenever there is another one; in any thread."""
        with self._news:
            self._wakers = [*self._wakers, wake]

    def unwatch(self, wake: Callable[[], object]) -> None:
        """Call it no more."""
        with self._news:
            self._wakers = [each for each in self._wakers if each is not wake]
