"""Dropping indexes before an empty table is filled, and building them when it is.

SQLite keeps every index with every row. Where they come in the order of their keys, the table is written
from its beginning to its end, and an index here and there. Built at the end, it is sorted once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import Logger, getLogger

from statesync.store.file.database import Database
from statesync.store.indexes import marks
from statesync.store.indexes.choosing import can_wait
from statesync.store.indexes.marks import Mark
from statesync.store.schema import notes
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, quoted

logger: Logger = getLogger(__name__)

WORTH_IT = 10_000
"""Records from which on a table is filled without its indexes: with fewer there is little to gain."""

_CREATE = "CREATE INDEX "
"""How SQLite begins what it keeps of such a statement, whatever it was made by."""

_MEMORY = -1000
"""The cache while an index is built, as SQLite's pragma says it: KiB. As many are sorted at once, and SQLite
hears no interrupt meanwhile: with 16 MB that was a quarter of a second. It takes no longer with less."""

_STEPS = 5000
"""Steps of SQLite's machine between two looks for a cancel: less than a millisecond."""

_CANNOT_BE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG)
"""What SQLite says to a statement that means nothing any more, such as of a column that is gone."""

Question = Callable[[], bool]


def put_off(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Drop the indexes of an empty table that can wait, and leave their marks. In a transaction."""
    if connection.execute(f"SELECT 1 FROM {in_main(tracked.table)} LIMIT 1").fetchone():
        return
    waiting = can_wait(connection, tracked)
    if waiting:
        with _schema_noted(connection):
            for mark in waiting:
                marks.leave(connection, mark)
                connection.execute(f"DROP INDEX main.{quoted(mark.name)}")


def build_all(database: Database, is_called: Question | None = None) -> bool:
    """Build the indexes that wait, each in a transaction of its own; False if that was broken off.

    It is as soon as ``is_called`` says so, which is asked all the time; what is built by then stays. Raises
    ``StoreError`` where an index cannot be written, such as on a full disk: its mark stays.
    """
    with database.errors_mapped():
        waiting = marks.waiting(database.raw())
        if not waiting:
            return True
        with _ready_to_sort(database.raw(), is_called):
            return all(_build_alone(database, mark, is_called) for mark in waiting)


def build_of(connection: sqlite3.Connection, table: str | None = None) -> None:
    """Build the indexes that wait, or those of one table; in the caller's transaction."""
    for mark in marks.waiting(connection, table):
        build(connection, mark)


def build(connection: sqlite3.Connection, mark: Mark) -> None:
    """Build an index that waits, and take its mark away; in a transaction.

    It goes too where the index is there again, and where it cannot be made any more: that is logged.
    """
    with _schema_noted(connection):
        if not _is_there(connection, mark.name):
            try:
                connection.execute(f"{_CREATE}main.{mark.sql.removeprefix(_CREATE)}")
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _CANNOT_BE:
                    raise
                logger.warning(
                    "the index %s of %s, which was to be built once the table was filled, cannot be made any "
                    "more: %s; its statement was: %s",
                    mark.name,
                    mark.table,
                    error,
                    mark.sql,
                )
        marks.remove(connection, mark.name)


class _BrokenOff(Exception):
    """An index was not built, because its builder was called away."""


def _build_alone(database: Database, mark: Mark, is_called: Question | None) -> bool:
    if is_called is not None and is_called():
        return False
    try:
        with database.transaction() as connection:
            try:
                build(connection, mark)
            except sqlite3.OperationalError as error:
                is_interrupt = error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
                if is_interrupt and is_called is not None and is_called():
                    raise _BrokenOff from error
                raise
    except _BrokenOff:
        return False
    return True


@contextmanager
def _ready_to_sort(connection: sqlite3.Connection, is_called: Question | None) -> Iterator[None]:
    """Let a connection sort in little memory, and ask on the way whether it is called away."""
    (before,) = connection.execute("PRAGMA main.cache_size").fetchone()
    connection.execute(f"PRAGMA main.cache_size = {_MEMORY}")
    if is_called is not None:
        connection.set_progress_handler(is_called, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute(f"PRAGMA main.cache_size = {before}")


@contextmanager
def _schema_noted(connection: sqlite3.Connection) -> Iterator[None]:
    """Change the schema without anybody having to look what was changed; unless they have to look anyway."""
    is_noted = notes.is_as_noted(connection)
    yield
    if is_noted:
        notes.note_schema(connection)


def _is_there(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM main.sqlite_master WHERE type = 'index' AND name = ? COLLATE NOCASE", (name,)
    )
    return found.fetchone() is not None
