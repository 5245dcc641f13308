"""Records that are here in another version than their object's cursor says. Owns ``statesync_base``.

The base of a change is what the device had read of the hub when the record was changed first: its object's
cursor. A record that came with the answer to an upload is ahead of it. Only such exceptions are kept, each
until the cursor has passed its version; mostly there is none, and then they cost nothing.

An exception at or below the cursor says that the record is an older one than the cursor promises. It
stays until somebody takes it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

TABLE = "statesync_base"

_AS_READ = "max(1, :cursor)"


class Step(NamedTuple):
    """How far an object's cursor moves."""

    object: str
    before: int
    now: int


def base_sql(connection: sqlite3.Connection, name: str) -> str:
    """Return the expression for the base of a change of a known record: ``logged.key`` of ``:object``.

    ``:cursor`` in it is how far the object's feed is applied.
    """
    some = connection.execute("SELECT 1 FROM statesync_base WHERE object = ? LIMIT 1", (name,)).fetchone()
    if some is None:
        return _AS_READ
    own = "SELECT version FROM statesync_base WHERE object = :object AND key = logged.key"
    return f"coalesce(({own}), {_AS_READ})"


def exceptions(connection: sqlite3.Connection, name: str) -> dict[object, int]:
    """Return the versions of those records of an object that are exceptions to the cursor's rule."""
    return dict(connection.execute("SELECT key, version FROM statesync_base WHERE object = ?", (name,)))


def remember(connection: sqlite3.Connection, name: str, key: str, version: int) -> None:
    """Say that a record is here in this version, whatever the cursor says."""
    connection.execute("INSERT OR REPLACE INTO statesync_base VALUES (?, ?, ?)", (name, key, version))


def forget_record(connection: sqlite3.Connection, name: str, key: str) -> None:
    """Say that a record is as its object's cursor says."""
    connection.execute("DELETE FROM statesync_base WHERE object = ? AND key = ?", (name, key))


def pass_over(connection: sqlite3.Connection, steps: Iterable[Step]) -> None:
    """Forget what the cursors pass: from now on they say the same. With the page that moves them."""
    connection.executemany(
        "DELETE FROM statesync_base WHERE object = ? AND version > ? AND version <= ?", steps
    )


def forget(connection: sqlite3.Connection, name: str) -> None:
    """Forget all exceptions of an object: the versions mean nothing any more, or its records are gone."""
    connection.execute("DELETE FROM statesync_base WHERE object = ?", (name,))
