"""Copying what can still be read of a damaged database into a new file."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from statesync.errors import StoreCorrupt
from statesync.store.file.database import Database
from statesync.store.tracking.quoting import quoted


def salvage(database: Database) -> Path:
    """Put a sound copy in the place of a damaged database and return where the damaged one is kept.

    Every row that can be read is in the copy. Raises ``StoreCorrupt``, and changes nothing, where not even
    the list of tables can be read.
    """
    path = database.path
    fresh = path.with_name(path.name + ".salvaged")
    damaged = path.with_name(path.name + ".damaged")
    fresh.unlink(missing_ok=True)
    database.close()
    try:
        _copy(path, fresh)
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt(
            f"{path.name} is damaged beyond repair ({error}); restore it from a backup"
        ) from error
    for ending in ("", "-wal", "-shm"):
        source = path.with_name(path.name + ending)
        if source.exists():
            shutil.move(source, damaged.with_name(damaged.name + ending))
    fresh.rename(path)
    return damaged


def _copy(path: Path, fresh: Path) -> None:
    source, target = sqlite3.connect(path), sqlite3.connect(fresh, isolation_level=None)
    try:
        entries = source.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' "
            "ESCAPE '\\' ORDER BY type = 'table' DESC"
        ).fetchall()
        target.execute("BEGIN")
        for kind, name, sql in entries:
            if kind == "table":
                target.execute(sql)
                _copy_rows(source, target, name)
        for kind, _, sql in entries:  # triggers last, so that the copying itself is not tracked
            if kind != "table":
                target.execute(sql)
        target.execute("COMMIT")
    finally:
        source.close()
        target.close()


def _copy_rows(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> None:
    """Copy a table's rows from its beginning, and from its end if a damaged page is in the way."""
    key = _order(source, table)
    for direction in ("ASC", "DESC"):
        try:
            for row in source.execute(f"SELECT * FROM {quoted(table)} ORDER BY {key} {direction}"):
                marks = ", ".join("?" * len(row))
                target.execute(f"INSERT OR IGNORE INTO {quoted(table)} VALUES ({marks})", row)
        except sqlite3.DatabaseError:
            continue  # the damage begins here: the other end is tried next
        return


def _order(source: sqlite3.Connection, table: str) -> str:
    """Return the order in which a table is stored, so that reading it needs no index and no sorting."""
    columns = source.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    keys = [quoted(name) for _, name, _, _, _, place in sorted(columns, key=lambda c: c[5]) if place]
    listed = source.execute("PRAGMA table_list").fetchall()
    without_rowid = any(row[1] == table and row[4] for row in listed)
    return ", ".join(keys) if without_rowid else "rowid"
