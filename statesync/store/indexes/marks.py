"""The marks of indexes that were dropped and wait to be built. Owns ``statesync_index``.

A mark is written in the transaction that drops its index, and goes in the one that builds it. So whatever
becomes of the session, the file knows what it lacks.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

TABLE = "statesync_index"


class Mark(NamedTuple):
    """An index that waits: its name, the table that it is of, and its statement as SQLite keeps it."""

    name: str
    table: str
    sql: str


ANY = "EXISTS (SELECT 1 FROM statesync_index)"
"""Whether any index waits to be built, as a part of a statement."""


def are_any(connection: sqlite3.Connection) -> bool:
    """Tell whether any index waits to be built."""
    return bool(connection.execute(f"SELECT {ANY}").fetchone()[0])


def waiting(connection: sqlite3.Connection, table: str | None = None) -> list[Mark]:
    """Return the indexes that wait, or those of one table."""
    rows = connection.execute(
        "SELECT name, tablename, sql FROM statesync_index "
        "WHERE :table IS NULL OR tablename = :table COLLATE NOCASE ORDER BY tablename, name",
        {"table": table},
    )
    return list(map(Mark._make, rows))


def leave(connection: sqlite3.Connection, mark: Mark) -> None:
    """Say that an index waits; in the transaction that drops it."""
    connection.execute("INSERT OR REPLACE INTO statesync_index VALUES (?, ?, ?)", mark)


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Say that an index waits no longer; in the transaction that builds it."""
    connection.execute("DELETE FROM statesync_index WHERE name = ?", (name,))


def forget_table(connection: sqlite3.Connection, table: str) -> None:
    """Let no index of a table wait: it goes, and its indexes with it."""
    connection.execute("DELETE FROM statesync_index WHERE tablename = ? COLLATE NOCASE", (table,))
