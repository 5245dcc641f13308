"""What a program does with the records of a store, or of one scope, besides syncing them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from peewee import Model

from statesync.errors import UnknownObject, UsageError
from statesync.store import history, outbox, standing
from statesync.store.core import Core
from statesync.store.outbox import Objects
from statesync.store.tracking import triggers
from statesync.store.tracking.objects import TrackedObject, quoted, record_of_image
from statesync.values import ConflictEntry, PendingChange, SessionInfo

_Row = tuple[str, str, str | None, str | None, str | None]
"""A change: object, key, image, the hub's newer record, and the batch that it went up with."""


class Selection:
    """Some or all objects of a store, and what can be done with their records.

    Every method raises ``StoreNotReady`` before ``setup()`` and ``StoreError`` where the database cannot be
    read or written; what a method writes is one transaction.
    """

    def __init__(self, core: Core, names: tuple[str, ...] | None) -> None:
        self._core = core
        self._names = names

    @property
    def objects(self) -> tuple[str, ...]:
        """The names of the objects."""
        return self._names if self._names is not None else tuple(self._core.objects)

    # -- the outbox ----------------------------------------------------------------------------------

    def pending(self) -> list[PendingChange]:
        """Return the changes that wait for the hub, in the order in which the records were first changed."""
        with self._folded() as connection:
            return outbox.pending(connection, self.objects)

    def has_pending(self) -> bool:
        """Tell whether any change waits for the hub."""
        with self._folded() as connection:
            return bool(outbox.count_waiting(connection, self.objects))

    def defer(self, *records: Model) -> int:
        """Hold the changes of these records back until ``mark_for_upload``; return how many there were."""
        return self._set_deferred(records, deferred=True)

    def mark_for_upload(self, *records: Model) -> int:
        """Let deferred changes of these records go up with the next session; return how many there were."""
        return self._set_deferred(records, deferred=False)

    def _set_deferred(self, records: tuple[Model, ...], *, deferred: bool) -> int:
        keys: dict[str, list[str]] = {}
        for record in records:
            name, key = self._address(record)
            keys.setdefault(name, []).append(key)
        with self._folded() as connection:
            return sum(
                outbox.set_deferred(connection, name, some, deferred=deferred) for name, some in keys.items()
            )

    @contextmanager
    def untracked(self) -> Iterator[None]:
        """Make the block's writes local only: one transaction that leaves no pending changes."""
        with self._folded(), triggers.untracked(self._core.database):
            yield

    def rollback(self, what: Model | type[Model] | None = None) -> int:
        """Undo pending changes: of one record, of one model's records, or (None) of all.

        Each record gets back what it was before its first change, or what the hub has sent since. Returns
        how many records were set back. Raises ``UsageError``, and sets none back, where one of them may have
        reached the hub already (sync first), and inside a transaction.
        """
        with self._quietly() as connection:
            rows = self._changes(connection, what)
            _refuse_unsettled(rows)
            self._make_room(connection, rows)
            for name, key, image, theirs, _ in rows:
                _set_back(connection, self._core.objects[name], key, theirs or image)
            return len(rows)

    def _make_room(self, connection: sqlite3.Connection, rows: list[_Row]) -> None:
        """Delete what would be in the way: values that must be unique may have moved between the records."""
        for name, key, *_ in rows:
            if self._core.objects[name].uniques:
                connection.execute(self._core.objects[name].delete_sql, (key,))

    def _changes(self, connection: sqlite3.Connection, what: Model | type[Model] | None) -> list[_Row]:
        select = "SELECT object, key, image, theirs, batch FROM statesync_change WHERE object = ?"
        if isinstance(what, Model):
            return connection.execute(f"{select} AND key = ?", self._address(what)).fetchall()
        names = self.objects if what is None else (self._name(what),)
        return [row for name in names for row in connection.execute(select, (name,)).fetchall()]

    # -- starting over -------------------------------------------------------------------------------

    def clear(self) -> None:
        """Delete these objects' records and pending changes from the device; the next sync fetches all.

        The hub's records stay. Raises ``SyncInProgress`` while a session runs.
        """
        with self._alone() as connection:
            self._empty(connection)
            standing.reread(connection, self._tracked(), standing.EVERYTHING)

    def reset(self, *, keep_records: bool = False) -> None:
        """Forget the hub: the next sync may be with another one, as if it were the first.

        Records and pending changes are deleted from the device; with ``keep_records`` they stay, and all
        of them are offered to the next hub. Raises ``SyncInProgress`` while a session runs.
        """
        with self._alone() as connection:
            if keep_records:
                for tracked in self._tracked().values():
                    outbox.offer_all(connection, tracked)
            else:
                self._empty(connection)
            standing.forget(connection, self.objects)

    def drop(self) -> None:
        """Delete these objects from the device for good: tables, triggers, pending changes.

        Raises ``SyncInProgress`` while a session runs.
        """
        with self._alone() as connection:
            self._empty(connection)
            standing.forget(connection, self.objects)
            for tracked in self._tracked().values():
                triggers.remove(connection, tracked)
                connection.execute(f"DROP TABLE IF EXISTS {quoted(tracked.table)}")
                connection.execute("DELETE FROM statesync_object WHERE name = ?", (tracked.name,))
        self._core.forget(self.objects)

    def _empty(self, connection: sqlite3.Connection) -> None:
        for tracked in self._tracked().values():
            connection.execute(f"DELETE FROM {quoted(tracked.table)}")
            connection.execute("DELETE FROM statesync_change WHERE object = ?", (tracked.name,))

    # -- history -------------------------------------------------------------------------------------

    def sessions(self, limit: int = 1000) -> list[SessionInfo]:
        """Return the newest ``limit`` sessions that synced any of these objects, oldest first."""
        wanted = set(self.objects)
        with self._core.database.errors_mapped():
            found = history.sessions(self._core.database.raw(), limit)
        return [session for session in found if wanted & set(session.objects)]

    def conflicts(self, limit: int = 1000) -> list[ConflictEntry]:
        """Return the newest ``limit`` entries of these objects' conflict log, oldest first."""
        with self._core.database.errors_mapped():
            return history.conflicts(self._core.database.raw(), objects=self.objects, limit=limit)

    # -- names ---------------------------------------------------------------------------------------

    def _tracked(self) -> Objects:
        return {name: self._core.objects[name] for name in self.objects}

    def _name(self, model: type[Model]) -> str:
        name = self._core.name_of(model)
        if name not in self.objects:
            raise UnknownObject(f"{name} is not in this scope, which has: {', '.join(self.objects)}")
        return name

    def _address(self, record: Model) -> tuple[str, str]:
        name = self._name(type(record))
        tracked = self._core.objects[name]
        key = type(record)._meta.columns[tracked.key]
        return name, str(key.db_value(getattr(record, key.name)))

    @contextmanager
    def _quietly(self) -> Iterator[sqlite3.Connection]:
        """Write untracked and without foreign keys, so that nothing cascades into other records."""
        database = self._core.database
        with database.without_foreign_keys(), self._folded(), triggers.untracked(database) as connection:
            yield connection

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """Write quietly what no session may run beside."""
        with self._core.held(), self._quietly() as connection:
            yield connection

    @contextmanager
    def _folded(self) -> Iterator[sqlite3.Connection]:
        objects = self._core.objects
        with self._core.database.transaction() as connection:
            outbox.fold(connection, objects)
            yield connection


def _refuse_unsettled(rows: list[_Row]) -> None:
    for name, key, _, _, batch in rows:
        if batch is not None:
            raise UsageError(
                f"the change of {name} {key} may have reached the hub; sync to settle that first"
            )


def _set_back(connection: sqlite3.Connection, tracked: TrackedObject, key: str, image: str | None) -> None:
    """Make the record what ``image`` says (None, or JSON's null: nothing) and forget its change."""
    record = record_of_image(image) if image != "null" else None
    if record is None:
        connection.execute(tracked.delete_sql, (key,))
    else:
        connection.execute(tracked.upsert_of(tuple(record)), (key, *record.values()))
    connection.execute("DELETE FROM statesync_change WHERE object = ? AND key = ?", (tracked.name, key))
