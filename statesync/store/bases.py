"""Records that are here in another version than their object's cursor says. Owns ``statesync_base``.

The base of a change is what the device had read of the hub when the record was changed first: its object's
cursor. A record that came with the answer to an upload is ahead of it. Only such exceptions are kept, each
until the cursor has passed its version; mostly there is none, and then they cost nothing.

An exception at or below the cursor says that the record is an older one than the cursor promises. It
stays until somebody takes it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

TABLE = "statesync_base"

NEWER = "SELECT key FROM statesync_base WHERE object = :object AND version > :since"
"""The keys of an object's records that are here in a version after ``:since``, as a part of a statement."""


class Step(NamedTuple):
    """How far an object's cursor moves."""

    object: str
    before: int
    now: int


class Base(NamedTuple):
    """The base of a change of a known record, ``logged.key`` of ``:object``, as parts of a statement.

    ``since`` is since when a delete of the record would be news, 0 where that is its ``version``.
    """

    version: str
    since: str


def with_exceptions(connection: sqlite3.Connection, name: str, as_read: Base) -> Base:
    """Return the base of a change; ``as_read`` is that of a record that is no exception."""
    some = connection.execute("SELECT 1 FROM statesync_base WHERE object = ? LIMIT 1", (name,)).fetchone()
    if some is None:
        return as_read
    own = "FROM statesync_base WHERE object = :object AND key = logged.key"
    return Base(
        f"coalesce((SELECT version {own}), {as_read.version})",
        f"CASE WHEN EXISTS (SELECT 1 {own}) THEN 0 ELSE {as_read.since} END",
    )


def exceptions(connection: sqlite3.Connection, name: str) -> dict[object, int]:
    """Return the versions of those records of an object that are exceptions to the cursor's rule."""
    return dict(connection.execute("SELECT key, version FROM statesync_base WHERE object = ?", (name,)))


def remember(connection: sqlite3.Connection, name: str, key: str, version: int) -> None:
    """Say that a record is here in this version, whatever the cursor says."""
    connection.execute("INSERT OR REPLACE INTO statesync_base VALUES (?, ?, ?)", (name, key, version))


def remember_those(connection: sqlite3.Connection, name: str, versions: Mapping[str, int]) -> None:
    """Say in which versions these records are here, whatever the cursor says."""
    connection.executemany(
        "INSERT OR REPLACE INTO statesync_base VALUES (?, ?, ?)",
        ((name, key, version) for key, version in versions.items()),
    )


def forget_record(connection: sqlite3.Connection, name: str, key: str) -> None:
    """Say that a record is as its object's cursor says."""
    connection.execute("DELETE FROM statesync_base WHERE object = ? AND key = ?", (name, key))


def pass_over(connection: sqlite3.Connection, steps: Iterable[Step]) -> None:
    """Forget what the cursors pass: from now on they say the same. With the page that moves them."""
    connection.executemany(
        "DELETE FROM statesync_base WHERE object = ? AND version > ? AND version <= ?", steps
    )


def forget_those(connection: sqlite3.Connection, which: str, known: Mapping[str, object]) -> None:
    """Forget the exceptions of ``:object`` that ``which`` picks."""
    connection.execute(f"DELETE FROM statesync_base WHERE object = :object AND {which}", known)


def forget(connection: sqlite3.Connection, name: str) -> None:
    """Forget all exceptions of an object: the versions mean nothing any more, or its records are gone."""
    connection.execute("DELETE FROM statesync_base WHERE object = ?", (name,))
