"""Devices with one model each, in one space of a hub in the same process."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from attrs import define
from peewee import TextField
from rig.device import as_downloaded

from statesync import Store, SyncOptions, SyncResult
from statesync.hub import LocalRemote

Define = Callable[[Store], Any]


@define(eq=False)
class Site:
    """One device with one model, whose key is the field ``id`` or whatever the model says."""

    store: Store
    model: Any
    remote: LocalRemote

    def sync(self, **options: Any) -> SyncResult:
        return self.store.scope(self.remote).sync(SyncOptions(**options))

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement on the program's own connection."""
        database: Any = self.store.database
        rows: list[tuple[Any, ...]] = database.execute_sql(sql, values).fetchall()
        return rows

    def rows(self) -> dict[Any, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in self.model.select().tuples()}

    def errors(self) -> dict[str, str]:
        """Sync, and return the code of each record that did not go up."""
        return {error.key: error.code for error in self.sync().errors.upload}

    def operations(self) -> dict[str, str]:
        return {change.key: change.operation for change in self.store.pending()}

    def fold(self) -> None:
        self.store.mark_for_upload()

    @contextmanager
    def other_program(self) -> Iterator[sqlite3.Connection]:
        """A connection of a program that knows nothing of the store."""
        with closing(sqlite3.connect(self.store.database.database)) as other, other:
            yield other

    @contextmanager
    def unseen_program(self) -> Iterator[sqlite3.Connection]:
        """A connection of a program whose writes no trigger sees, and before which nothing is folded."""
        with self.other_program() as other:
            other.execute("UPDATE statesync_tracking SET is_on = 0")
            yield other
            other.execute("UPDATE statesync_tracking SET is_on = 1")

    def unseen(self, sql: str, *values: object) -> None:
        """Run one statement that no trigger sees."""
        self.fold()
        with as_downloaded(self.store):
            self.execute(sql, *values)


def note(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        title = TextField(null=True)

    return Note
