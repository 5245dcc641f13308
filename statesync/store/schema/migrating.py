"""Which format a file has, and how it comes to the newest.

A database of a higher format than this version knows is refused, never guessed at.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache

from statesync.errors import StoreCorrupt, StoreTooNew, UsageError
from statesync.store.file.database import Database
from statesync.store.schema.formats import FORMAT, MIGRATIONS, format_by_tables
from statesync.store.schema.notes import forget_steps
from statesync.store.schema.statements import apply, has_table


def migrate(database: Database) -> None:
    """Bring the store's tables to ``FORMAT``; a new file is given them as they are now, all at once.

    Raises ``StoreTooNew``, ``StoreCorrupt`` for a store that has lost its format, or ``UsageError`` for the
    database of a hub; changes nothing then.
    Several programs may do it at once: each step is taken by the one that gets to write first.
    """
    with database.snapshot() as connection:
        found = _known_format(connection, str(database))
    while found < FORMAT:
        with database.transaction() as connection:
            found = _known_format(connection, str(database))
            if found == 0:
                _refuse_hub(connection, str(database))
                found = _make(connection)
            elif found < FORMAT:
                found = _take_step(connection, found)


def _refuse_hub(connection: sqlite3.Connection, name: str) -> None:
    if has_table(connection, "hub_meta"):
        raise UsageError(f"{name} is the database of a hub; give the store a file of its own")


def _make(connection: sqlite3.Connection) -> int:
    for statement, row in _as_made():
        connection.execute(statement, row)
    return FORMAT


def _take_step(connection: sqlite3.Connection, found: int) -> int:
    apply(connection, MIGRATIONS[found])
    connection.execute("UPDATE statesync_meta SET value = ? WHERE key = 'format'", (found + 1,))
    return found + 1


def _known_format(connection: sqlite3.Connection, name: str) -> int:
    found = _format_of(connection, name)
    if found > FORMAT:
        raise StoreTooNew(
            f"{name} was written by a newer statesync (format {found}, this one knows {FORMAT}); "
            "install that version or a later one"
        )
    return found


@cache
def tables() -> tuple[str, ...]:
    """Return the names of the store's own tables, besides the log of each object."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        _make(fresh)
        rows = fresh.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'statesync%'")
        return tuple(name for (name,) in rows)


@cache
def _as_made() -> tuple[tuple[str, tuple[object, ...]], ...]:
    """Return the statements that make the tables, and their first rows, as all migrations leave them."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        found = 0
        while found < FORMAT:
            found = _take_step(fresh, found)
        schema = "FROM sqlite_master WHERE name LIKE 'statesync%' AND sql IS NOT NULL"
        made = fresh.execute(f"SELECT sql {schema} ORDER BY type = 'table' DESC, rowid").fetchall()
        names = [name for (name,) in fresh.execute(f"SELECT name {schema} AND type = 'table'")]
        rows = [(name, row) for name in names for row in fresh.execute(f"SELECT * FROM {name}")]
    filled = ((f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", tuple(row)) for name, row in rows)
    return (*((sql, ()) for (sql,) in made), *filled)


def missing_tables(connection: sqlite3.Connection) -> list[str]:
    """Return which of the store's own tables are not in a database that has been set up as a store."""
    return [table for table in tables() if not has_table(connection, table)]


def restore_format(connection: sqlite3.Connection) -> None:
    """Write down again which format the file has, where that is lost: the one whose tables it has.

    Raises ``StoreCorrupt`` where it has the tables of none.
    """
    if connection.execute("SELECT 1 FROM statesync_meta WHERE key = 'format'").fetchone():
        return
    found = format_by_tables(connection)
    if not found:
        raise StoreCorrupt("the format of the file is lost; restore the file from a backup")
    connection.execute("INSERT INTO statesync_meta VALUES ('format', ?)", (found,))
    forget_steps(connection)


def is_store(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether the database called ``name`` has been set up as a store.

    Raises ``StoreCorrupt`` for one that was, and has lost the record of it.
    """
    return _format_of(connection, name) > 0


def _format_of(connection: sqlite3.Connection, name: str) -> int:
    found = {table for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "statesync_meta" in found:
        row = connection.execute("SELECT value FROM statesync_meta WHERE key = 'format'").fetchone()
        if row is None:
            raise StoreCorrupt(f"{name}: the record of the file's format is gone; repair() restores it")
        return int(row[0])
    if found.isdisjoint(tables()):
        return 0
    raise StoreCorrupt(f"{name}: the store's table statesync_meta is gone; restore the file from a backup")
