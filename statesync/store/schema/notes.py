"""What a store remembers of its own file: the program's migrations it took, and how its tables were."""

from __future__ import annotations

import sqlite3

_UNKNOWN = -1


def steps_taken(connection: sqlite3.Connection) -> int:
    """Return how many of the program's migrations this file has been through; -1 if that is lost."""
    return _remembered(connection, "migrations") or 0


def settle_steps(connection: sqlite3.Connection, known: int) -> None:
    """Take all the ``known`` migrations for taken where a damaged page has taken their count.

    A migration that is taken twice destroys what it has made.
    """
    if steps_taken(connection) == _UNKNOWN:
        note_steps(connection, known)


def forget_steps(connection: sqlite3.Connection) -> None:
    """Remember that this is lost; ``settle_steps`` answers for it."""
    _remember(connection, "migrations", _UNKNOWN)


def note_steps(connection: sqlite3.Connection, number: int) -> None:
    """Remember how many of the program's migrations this file has been through."""
    _remember(connection, "migrations", number)


def is_as_noted(connection: sqlite3.Connection) -> bool:
    """Tell whether no table, index or trigger was changed since ``note_schema``."""
    return _remembered(connection, "schema") == _version_of_schema(connection)


def note_schema(connection: sqlite3.Connection) -> None:
    """Remember how the tables are now."""
    if not is_as_noted(connection):
        _remember(connection, "schema", _version_of_schema(connection))


def _version_of_schema(connection: sqlite3.Connection) -> int:
    """Return SQLite's own count of changes to the schema of the file."""
    return int(connection.execute("PRAGMA main.schema_version").fetchone()[0])


def _remembered(connection: sqlite3.Connection, key: str) -> int | None:
    row = connection.execute("SELECT value FROM statesync_meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else int(row[0])


def _remember(connection: sqlite3.Connection, key: str, value: int) -> None:
    connection.execute("INSERT OR REPLACE INTO statesync_meta VALUES (?, ?)", (key, value))
