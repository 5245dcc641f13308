"""Why a record does not fit its table: what SQLite said of it, and which record is in the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from statesync.store import quarantine
from statesync.store.file.reading import StoredKey, key_for_people, read
from statesync.store.quarantine import Reason
from statesync.store.tracking.description import UniqueIndex
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted
from statesync.values import RecordError

REFUSALS = (sqlite3.DatabaseError, OverflowError, UnicodeEncodeError)
"""What may be raised where a record does not fit; ``reason_of`` tells whether it says that."""

_SAVEPOINT = "statesync_attempt"

NOT_UNIQUE = "not_unique"
DOES_NOT_FIT = "does_not_fit"

_CODES = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: NOT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: NOT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_ROWID: NOT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: "not_null",
    sqlite3.SQLITE_CONSTRAINT_CHECK: "check",
    sqlite3.SQLITE_CONSTRAINT_TRIGGER: "refused",
    sqlite3.SQLITE_MISMATCH: "wrong_type",
    sqlite3.SQLITE_TOOBIG: "too_big",
}
_OF_THE_RECORD = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
}
"""SQLite's words for what a statement, its values or its table's rules are wrong in. All others (a full disk,
a lock, damage) say nothing of the record."""

_NOT_IN_THE_INDEX = (
    "the full-text index, or another virtual table, that a trigger writes to does not know the row as it is; "
    "build it again, in FTS5 with INSERT INTO name(name) VALUES ('rebuild')"
)
"""What SQLite calls corrupt of a virtual table says nothing of the file: often an index was never filled."""


def reason_of(error: Exception) -> Reason | None:
    """Return why a record does not fit, or None where the error says nothing of the record."""
    if isinstance(error, OverflowError | UnicodeEncodeError | msgspec.MsgspecError):
        return Reason("wrong_type", str(error))
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by this library, of a key's twin
        return Reason(DOES_NOT_FIT, str(error)) if isinstance(error, sqlite3.IntegrityError) else None
    if code == sqlite3.SQLITE_CORRUPT_VTAB:
        return Reason(DOES_NOT_FIT, f"{_NOT_IN_THE_INDEX} ({error})")
    if code & 0xFF not in _OF_THE_RECORD:
        return None
    return Reason(_CODES.get(code, DOES_NOT_FIT), str(error))


class PageDoesNotFit(Exception):
    """A record of a page does not fit its table; nobody has looked which. Nothing is to be committed."""


class TransactionLost(Exception):
    """A rule of a table has rolled the whole transaction back when this record was written.

    Whoever began the transaction may begin it again, and leave this record out.
    """

    def __init__(self, name: str, key: str, reason: Reason) -> None:
        super().__init__(
            f"a rule of the table rolls the whole transaction back where {name} {key} is written: "
            f"{reason.message}; let it raise ABORT, which undoes that write alone"
        )
        self.name: str = name
        self.key: str = key
        self.reason: Reason = reason


def attempt(connection: sqlite3.Connection, name: str, key: str, write: Callable[[], None]) -> Reason | None:
    """Write one record, or nothing of it, and then return why. In a transaction.

    Raises ``TransactionLost`` where nothing is left of the transaction.
    """
    connection.execute(f"SAVEPOINT {_SAVEPOINT}")
    reason = None
    try:
        write()
    except REFUSALS as error:
        reason = reason_of(error)
        if reason is None:
            raise
        if not connection.in_transaction:
            raise TransactionLost(name, key, reason) from error
        connection.execute(f"ROLLBACK TO {_SAVEPOINT}")
    connection.execute(f"RELEASE {_SAVEPOINT}")
    return reason


def objects_without_a_fit(connection: sqlite3.Connection, objects: Objects) -> list[RecordError]:
    """Say of which objects records wait, and not one is in its table: the table or its model is wrong."""
    waiting = quarantine.counts(connection)
    return [
        RecordError(
            name,
            "",
            "nothing_fits",
            f"not one of {waiting[name]} records of {name} fits the table {tracked.table}; compare the model "
            "and its table with what the hub sends (`statesync quarantine`), and migrate the table",
        )
        for name, tracked in objects.items()
        if name in waiting and not _has_rows(connection, tracked)
    ]


def _has_rows(connection: sqlite3.Connection, tracked: TrackedObject) -> bool:
    try:
        found = connection.execute(f"SELECT 1 FROM {in_main(tracked.table)} LIMIT 1").fetchone()
    except sqlite3.OperationalError:  # there is no such table any more
        return False
    return found is not None


def keys_in_the_way(
    connection: sqlite3.Connection, tracked: TrackedObject, row: Sequence[object]
) -> set[str]:
    """Return the keys of other records that have a value of ``row``, (key, *columns), that must be unique."""
    values = [None if value is msgspec.UNSET else value for value in row]
    values += [None] * len(tracked.others)
    found = set()
    for index in tracked.uniques:
        sql = _clash_sql(tracked, index)
        rows = read(connection, partial(_fetched, connection, sql, tuple(values)))
        found |= {key_for_people(key) for (key,) in rows}
    return found


def _fetched(connection: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> list[tuple[StoredKey]]:
    return connection.execute(sql, values).fetchall()


def _clash_sql(tracked: TrackedObject, index: UniqueIndex) -> str:
    """Select the key of a record that clashes with a new one in one index.

    A name within the new record's SELECT means its column; outside it means the table's.
    """
    names = ", ".join(map(quoted, (tracked.key, *tracked.column_names, *tracked.others)))
    marks = ", ".join("?" * (1 + len(tracked.column_names) + len(tracked.others)))
    key = quoted(tracked.key)
    clashes = [
        f"({term.sql}) = (SELECT ({term.sql}) FROM new) COLLATE {quoted(term.collation)}"
        for term in index.terms
    ]
    if index.where is not None:
        clashes += [f"({index.where})", f"(SELECT ({index.where}) FROM new)"]
    return (
        f"WITH new({names}) AS (VALUES ({marks})) SELECT {key} FROM {in_main(tracked.table)} "
        f"WHERE {' AND '.join(clashes)} AND NOT ({is_key(key, '?1')})"
    )
