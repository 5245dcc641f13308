"""A store's methods for coroutines: each does beside the event loop what the one without ``_async`` does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import TypeVar
from uuid import UUID

from peewee import Model

from statesync.store.news import verdict
from statesync.store.news.observed import ObservedSelection
from statesync.store.news.verdict import RecordVerdict
from statesync.values import ConflictEntry, PendingChange, Quarantined

_Result = TypeVar("_Result")


class AwaitedSelection(ObservedSelection):
    """Some or all objects of a store, also for coroutines.

    What ends in ``_async`` runs in a thread of its own, and raises what the method without it raises. A task
    that is cancelled meanwhile waits for the end of what has begun, which is committed or has failed then.
    In a transaction of the loop's thread they raise ``UsageError``.
    """

    async def _beside(self, call: Callable[[], _Result], stop: Callable[[], object] | None = None) -> _Result:
        # asyncio is a tenth of what the import of statesync takes, and most programs have threads.
        from statesync.store.awaited.beside import beside

        return await beside(self._parts.database, call, *(() if stop is None else (stop,)))

    async def pending_async(self) -> list[PendingChange]:
        """Do what ``pending`` does."""
        return await self._beside(self.pending)

    async def conflicts_async(self, limit: int = 1000, *, waiting: bool = False) -> list[ConflictEntry]:
        """Do what ``conflicts`` does."""
        return await self._beside(partial(self.conflicts, limit, waiting=waiting))

    async def quarantine_async(self) -> list[Quarantined]:
        """Do what ``quarantine`` does."""
        return await self._beside(self.quarantine)

    async def resolve_async(self, conflict: ConflictEntry | int, choice: object) -> None:
        """Do what ``resolve`` does."""
        await self._beside(partial(self.resolve, conflict, choice))

    async def retry_async(
        self, what: Model | type[Model] | str | None = None, key: str | UUID | None = None
    ) -> int:
        """Do what ``retry`` does."""
        return await self._beside(partial(self.retry, what, key))

    async def rollback_async(self, what: Model | type[Model] | None = None) -> int:
        """Do what ``rollback`` does."""
        return await self._beside(partial(self.rollback, what))

    async def clear_async(self, *, discard_pending: bool = False) -> None:
        """Do what ``clear`` does."""
        await self._beside(partial(self.clear, discard_pending=discard_pending))

    async def reset_async(self, *, keep_records: bool = False, discard_pending: bool = False) -> None:
        """Do what ``reset`` does."""
        await self._beside(partial(self.reset, keep_records=keep_records, discard_pending=discard_pending))

    async def wait_for_async(
        self, what: Model | type[Model] | str, key: str | UUID | None = None, timeout: float | None = None
    ) -> RecordVerdict:
        """Do what ``wait_for`` does. A task that is cancelled waits no longer."""
        name, found = self._record(what, key)
        stop = Event()
        return await self._beside(
            partial(verdict.wait_for, self._parts, name, found, timeout, stop), stop.set
        )
