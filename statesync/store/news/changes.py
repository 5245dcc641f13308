"""The news of a store as an async iterator. What needs asyncio is loaded with the first one."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from statesync.store.news.told import News

if TYPE_CHECKING:
    from statesync.store.news.aio import Reading


class Observers(Protocol):
    """Where an observer is let in and out."""

    def enter(self, observer: Reading) -> None:
        """Tell it what is committed from now on. Raises ``StoreError``."""

    def leave(self, observer: Reading) -> None:
        """Tell it nothing any more."""


class Changes:
    """The news of a store, one after the other. Made by ``changes()``: whatever is committed since is told.

    It ends with ``aclose()``, as an ``async with`` block, when the store is closed, and when nobody holds it
    any more. A reader that is slow gets one news for each object, with ``everything``, when a thousand wait.
    """

    def __init__(self, observers: Observers, names: frozenset[str] | None) -> None:
        # asyncio is a tenth of what the import of statesync takes, and most programs have threads.
        from statesync.store.news.aio import Reading

        self._reading = reading = Reading(names)
        observers.enter(reading)
        self._end: Callable[[], object] = weakref.finalize(self, _end, observers, reading)

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> News:
        """Return the next news."""
        news = await self._reading.next()
        if news is None:
            raise StopAsyncIteration
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


def _end(observers: Observers, reading: Reading) -> None:
    reading.stop()
    observers.leave(reading)
