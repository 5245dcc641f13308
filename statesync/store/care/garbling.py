"""Rows that can be read and are not what was written: a torn page leaves them, or one of another table."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from statesync.store.care.losses import Entry, Loss, Losses
from statesync.store.care.shapes import OWN
from statesync.store.tracking.quoting import quoted

_TYPES = {"TEXT": "('text', 'blob')", "INTEGER": "('integer')"}
"""What columns have that must have something; a key that is no text is a blob, and is kept."""
_JSON = {
    "image",
    "theirs",
    "spared",
    "base",
    "local",
    "remote",
    "kept",
    "detail",
    "objects",
    "unread",
    "here",
}
"""Columns of the store's own tables in which a text is JSON."""


def compare(
    connection: sqlite3.Connection, table: str, index: str, columns: list[str]
) -> tuple[tuple[Entry, ...], tuple[int, ...]]:
    """Hold a damaged table against a sound unique index of it.

    Returns what the index knows of rows that are not as it has them, and the rowids of those that are there.
    """
    names = ", ".join(map(quoted, columns))
    by_index = f"SELECT rowid, {names} FROM {quoted(table)} INDEXED BY {quoted(index)}"
    as_read = f"SELECT rowid, {names} FROM {quoted(table)} NOT INDEXED"
    lost = connection.execute(f"{by_index} EXCEPT {as_read}").fetchall()
    strange = connection.execute(f"{as_read} EXCEPT {by_index}").fetchall()
    return tuple(dict(zip(columns, row[1:], strict=True)) for row in lost), tuple(row[0] for row in strange)


def entries(
    connection: sqlite3.Connection, table: str, columns: list[str], rowids: list[int]
) -> tuple[Entry, ...]:
    """Return these rows as an index of these columns has them."""
    names = ", ".join(map(quoted, columns))
    rows = connection.execute(
        f"SELECT {names} FROM {quoted(table)} NOT INDEXED WHERE rowid IN (SELECT value FROM json_each(?))",
        (json.dumps(rowids),),
    )
    return tuple(dict(zip(columns, row, strict=True)) for row in rows)


def drop(connection: sqlite3.Connection, tables: Iterable[str], losses: Losses) -> list[Loss]:
    """Delete from the store's own tables what it never wrote; return what is lost with that.

    A program's table keeps such rows: it has triggers, and the object is read again from the hub.
    """
    found = (_drop(connection, name, losses.of(name)) for name in tables if name.startswith(OWN))
    return [loss for loss in found if loss is not None]


def _drop(connection: sqlite3.Connection, table: str, loss: Loss | None) -> Loss | None:
    if loss is not None and loss.garbled:
        strange = json.dumps(loss.garbled)
        connection.execute(
            f"DELETE FROM {quoted(table)} WHERE rowid IN (SELECT value FROM json_each(?))", (strange,)
        )
    unfit = _unfit(connection, table)
    before = loss.known if loss is not None else None
    columns = list(before[0]) if before else []
    names = ", ".join(map(quoted, columns)) or "1"
    rows = (
        connection.execute(f"SELECT {names} FROM {quoted(table)} WHERE {unfit}").fetchall() if unfit else []
    )
    if not rows:
        return None
    connection.execute(f"DELETE FROM {quoted(table)} WHERE {unfit}")
    (read,) = connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()
    if before is None:
        return Loss(table, read, None)
    known = (*before, *(dict(zip(columns, row, strict=True)) for row in rows))
    return Loss(table, read, len(known), known)


def _unfit(connection: sqlite3.Connection, table: str) -> str:
    """Return the condition for rows with values that a table of the store's own cannot have."""
    rows = connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    unfit = [
        f"typeof({quoted(name)}) NOT IN {_TYPES[declared]}"
        for _, name, declared, is_required, _, _ in rows
        if is_required and declared in _TYPES
    ]
    texts = [quoted(name) for _, name, declared, *_ in rows if declared == "TEXT" and name in _JSON]
    return " OR ".join([*unfit, *(f"(typeof({text}) = 'text' AND NOT json_valid({text}))" for text in texts)])
