"""asyncio: the news of a store as an iterator. The event loop is only told."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from statesync.store.news.told import News
from statesync.store.news.waiting import Waiting


class Observers(Protocol):
    """Where an observer is let in and out."""

    def enter(self, observer: _Reading) -> None:
        """Tell it what is committed from now on. Raises ``StoreError``."""

    def leave(self, observer: _Reading) -> None:
        """Tell it nothing any more."""


class _Reading:
    """An observer that wakes a task. It does not hold the iterator, which ends when nobody holds it."""

    def __init__(self, names: frozenset[str] | None) -> None:
        self.waiting: Waiting = Waiting(names)
        self.has_come: asyncio.Event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def put(self, news: News) -> None:
        if self.waiting.put(news):
            self._wake()

    def stop(self) -> None:
        self.waiting.end()
        self._wake()

    def wait(self, timeout: float | None) -> bool:
        """No thread is busy with it."""
        return timeout is None or timeout >= 0

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self.has_come.set)


class Changes:
    """The news of a store, one after the other. Made by ``changes()``: whatever is committed since is told.

    It ends with ``aclose()``, as an ``async with`` block, when the store is closed, and when nobody holds it
    any more. A reader that is slow gets one news for each object, with ``everything``, when a thousand wait.
    """

    def __init__(self, observers: Observers, names: frozenset[str] | None) -> None:
        self._reading = reading = _Reading(names)
        observers.enter(reading)
        self._end: Callable[[], object] = weakref.finalize(self, _end, observers, reading)

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> News:
        """Return the next news."""
        reading = self._reading
        while (news := reading.waiting.take()) is None:
            if reading.waiting.is_over:
                raise StopAsyncIteration
            await reading.has_come.wait()
            reading.has_come.clear()
        return news

    async def aclose(self) -> None:
        """Be told nothing any more. A task that waits for the next news waits no longer."""
        self._end()

    async def __aenter__(self) -> Changes:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _end(observers: Observers, reading: _Reading) -> None:
    reading.stop()
    observers.leave(reading)
