"""The device database: connections, transactions, and the one border where SQLite's errors become ours."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from peewee import PeeweeException

from statesync.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    UsageError,
)
from statesync.store.file.connections import DeviceDatabase
from statesync.store.file.tenure import Tenure
from statesync.store.file.witness import Witness

_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",  # the outbox must survive a power cut
    "foreign_keys": 1,
    "cache_size": -16_000,  # KiB
}

# What SQLite says, in the order in which it is looked for.
_MEANINGS: tuple[tuple[str, type[StoreError], str], ...] = (
    ("is full", StoreFull, "free some space and sync again"),
    ("locked", StoreLocked, "another program is writing to it for too long; try again when it is done"),
    ("readonly", StoreReadOnly, "make the file and its folder writable"),
    ("read-only", StoreReadOnly, "make the file and its folder writable"),
    ("unable to open", StoreReadOnly, "check that its folder exists and can be written"),
    ("not a database", StoreCorrupt, "check the path, or restore the file from a backup"),
    ("unsupported file format", StoreCorrupt, "restore the file from a backup"),
    ("malformed", StoreCorrupt, "restore the file from a backup"),
    (
        "no such table: statesync_",
        StoreCorrupt,
        "the store's own table is gone; restore the file from a backup",
    ),
    ("disk I/O error", StoreError, "check the disk"),
    ("out of memory", StoreError, "give the program more, or let it read less at once"),
)


class Database:
    """One SQLite file. Every thread that uses it has a connection of its own.

    ``busy_timeout`` is how many seconds a write waits for another writer before it fails with
    ``StoreLocked``. ``path`` is the real file, as it is found now: links, another spelling and a later change
    of the working directory lead to the same file, and to the same lock beside it.
    """

    def __init__(self, path: str | Path, busy_timeout: float = 5.0) -> None:
        if str(path) == ":memory:" or not str(path):
            raise UsageError(
                "a store needs a file, because its threads and sessions share it; give it a path"
            )
        self.path: Path = _real(path)
        self.busy_timeout: float = busy_timeout
        self.peewee: DeviceDatabase = DeviceDatabase(
            str(self.path), pragmas=_PRAGMAS, timeout=busy_timeout, lock_type="IMMEDIATE"
        )
        self.witness: Witness | None = None

    def __str__(self) -> str:
        return self.path.name

    def errors_mapped(self) -> AbstractContextManager[None]:
        """Turn what SQLite and Peewee raise inside the block into a ``StoreError``."""
        return _Border(self)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one write transaction; an error rolls it back. Nested, it joins the outer one.

        It is not committed to a file that is no longer where it was opened: ``StoreError``.
        """
        witness = self.witness
        with self.errors_mapped():
            if witness is not None:
                is_open = self.peewee.in_transaction()
                with witness.part() if is_open else witness.transaction() as connection:
                    yield connection
            elif self.peewee.in_transaction():
                yield self.raw()
            else:
                with self.peewee.atomic():
                    yield self.raw()
                    self.peewee.check_in_place()

    @contextmanager
    def part(self) -> Iterator[None]:
        """Run the block as a part of the open transaction; an error undoes that part alone.

        Where a rule of a table has rolled the whole transaction back, nothing is left to undo.
        """
        savepoint = self.peewee.savepoint()
        savepoint.__enter__()
        try:
            yield
            savepoint.commit(begin=False)
        except BaseException:
            if self.raw().in_transaction:
                savepoint.rollback(begin=False)
            raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Let the block read one state of the database, whoever writes meanwhile; waits for nobody.

        Inside a transaction it reads what that transaction sees.
        """
        with self.errors_mapped():
            if self.peewee.in_transaction():
                yield self.raw()
            else:
                with self.peewee.atomic("DEFERRED"):
                    yield self.raw()

    @contextmanager
    def session_connection(self, tenure: Tenure) -> Iterator[sqlite3.Connection]:
        """Give a session's thread its connection for the length of the block.

        On it, nothing is committed once ``tenure`` is over, and no writer waited for after its time.
        Foreign keys are not enforced on it: children can precede their parents in a feed.
        """
        with self.errors_mapped():
            self.peewee.connect_session(tenure)
        try:
            yield self.raw()
        finally:
            self.peewee.close_session()

    @contextmanager
    def without_foreign_keys(self) -> Iterator[None]:
        """Enforce no foreign keys on the calling thread's connection for the length of the block.

        Raises ``UsageError`` inside a transaction, where SQLite ignores the switch.
        """
        if self.peewee.in_transaction():
            raise UsageError("this cannot be done inside a transaction; end it first")
        before = _enforces_foreign_keys(self.raw())
        self.raw().execute("PRAGMA foreign_keys = OFF")
        try:
            yield
        finally:
            self.raw().execute(f"PRAGMA foreign_keys = {int(before)}")

    def equip(self, connection: sqlite3.Connection) -> None:
        """Give another connection the collations and functions that the program has registered."""
        database: Any = self.peewee
        kinds = ["aggregates", "collations", "functions", "window_functions"]
        if database._extensions:
            kinds.append("extensions")
        for kind in kinds:
            getattr(database, f"_load_{kind}")(connection)

    def in_transaction(self) -> bool:
        """Tell whether the calling thread is in a transaction, of Peewee's or begun by itself in SQL."""
        if self.peewee.is_closed():
            return False
        return self.peewee.in_transaction() or self.raw().in_transaction

    def raw(self) -> sqlite3.Connection:
        """Return the calling thread's sqlite3 connection, opened if need be."""
        try:
            return self.peewee.raw_connection()
        except _FOREIGN as error:
            raise self.meaning(error) from error

    def close(self) -> None:
        """Close the calling thread's connection, and what the last session has left to the next."""
        self.peewee.drop_spare()
        self.leave()

    def leave(self) -> None:
        """Close the calling thread's connections, if it has any."""
        self.peewee.leave_aside()
        if not self.peewee.is_closed():
            self.peewee.close()

    def clear_up(self) -> None:
        """Close the connection of the calling thread, if it has one; what is open on it is rolled back."""
        self.peewee.close_session()

    def meaning(self, error: Exception) -> StoreError:
        """Return what an error of SQLite's or Peewee's means; its connection is not used again."""
        self.peewee.distrust()
        said = str(error) or "out of memory"  # the one error that says nothing
        for words, kind, advice in _MEANINGS:
            if words in said:
                return kind(f"{self}: {said}; {advice}")
        return StoreError(f"{self}: {said}")


def _real(path: str | Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except OSError as error:  # only a path without a folder asks for one that may be gone
        raise StoreReadOnly(
            f"{path} cannot be reached: {error.strerror}; give a whole path, or change into a folder that is "
            "there"
        ) from error


class _Border:
    """Where the errors of one database become ours. A class: every block of a session passes through one."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, _FOREIGN):
            raise self._database.meaning(error) from error


_FOREIGN = (sqlite3.Error, PeeweeException, MemoryError)


def _enforces_foreign_keys(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA foreign_keys").fetchone()[0])
