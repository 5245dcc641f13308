"""Of what kinds the values of a table can be: by that its rows are told from those of another table."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from statesync.store.tracking.quoting import quoted

OWN = "statesync_"
"""How the names of the store's own tables begin."""


class Kind(Enum):
    """A kind of value, as far as SQLite keeps kinds apart in every table."""

    NOTHING = auto()
    NUMBER = auto()
    TEXT = auto()
    """A text or a blob."""


Shape = tuple[frozenset[Kind], ...]
"""The kinds that each stored value of a row can be of."""

_EVERY = frozenset(Kind)


class _Column(NamedTuple):
    declared: str
    is_required: bool
    is_rowid: bool


def kind_of(serial: int) -> Kind:
    """Return the kind of a value by how the file's format writes it."""
    if serial == 0:
        return Kind.NOTHING
    return Kind.NUMBER if serial < 12 else Kind.TEXT


def fits(serials: Sequence[int], shape: Shape) -> bool:
    """Tell whether a row can be of a table of this shape; one from before a column was added is shorter."""
    return all(kind_of(serial) in kinds for serial, kinds in zip(serials, shape, strict=False))


def shape_of(connection: sqlite3.Connection, table: str) -> Shape:
    """Return the shape of a table that has rowids."""
    rows = connection.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    keys = sum(row[5] > 0 for row in rows)
    columns = [
        _Column(declared.upper(), bool(required), keys == 1 == key and declared.upper() == "INTEGER")
        for _, _, declared, required, _, key, hidden in rows
        if hidden != 2  # a virtual generated column is not stored
    ]
    return tuple(_kinds(column, is_own=table.startswith(OWN)) for column in columns)


def _kinds(column: _Column, *, is_own: bool) -> frozenset[Kind]:
    if column.is_rowid:
        return frozenset({Kind.NOTHING})  # its value stands elsewhere
    kinds = _EVERY
    if "INT" not in column.declared and any(part in column.declared for part in ("CHAR", "CLOB", "TEXT")):
        kinds -= {Kind.NUMBER}  # SQLite makes it a text
    elif is_own and column.declared == "INTEGER":
        kinds -= {Kind.TEXT}  # a program's column may have one
    return kinds - {Kind.NOTHING} if column.is_required else kinds
