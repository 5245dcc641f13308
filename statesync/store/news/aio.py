"""asyncio: an observer that wakes a task. The event loop is only told."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from statesync.store.news.told import News
from statesync.store.news.waiting import Waiting


class Reading:
    """An observer that wakes a task. It does not hold the iterator, which ends when nobody holds it."""

    def __init__(self, names: frozenset[str] | None) -> None:
        self.waiting: Waiting = Waiting(names)
        self.has_come: asyncio.Event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def put(self, news: News) -> None:
        """Take news, and return at once."""
        if self.waiting.put(news):
            self._wake()

    def stop(self) -> None:
        """Take nothing any more."""
        self.waiting.end()
        self._wake()

    def wait(self, _timeout: float | None) -> bool:
        """Return True at once: no thread is busy with it."""
        return True

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self.has_come.set)

    async def next(self) -> News | None:
        """Return the next news, once there are any; None at the end."""
        while (news := self.waiting.take()) is None:
            if self.waiting.is_over:
                return None
            await self.has_come.wait()
            self.has_come.clear()
        return news
