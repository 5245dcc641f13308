"""Where the table of a tracked object is: triggers follow a table that is renamed, and go with it."""

from __future__ import annotations

import sqlite3

from attrs import evolve

from statesync.store.schema.statements import has_table
from statesync.store.tracking import triggers
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.tables.table import columns_of


def is_in_place(connection: sqlite3.Connection, known: TrackedObject) -> bool:
    """Tell whether triggers stand on an object's table, if not all of them."""
    home = triggers.home_of(connection, known.name)
    return home is not None and home.lower() == known.table.lower()


def place_of(connection: sqlite3.Connection, known: TrackedObject) -> TrackedObject | None:
    """Return an object with the table and key that its triggers stand on now; None if they are gone."""
    home = triggers.home_of(connection, known.name)
    return None if home is None else _with_key(connection, known, home)


def _with_key(connection: sqlite3.Connection, known: TrackedObject, table: str) -> TrackedObject | None:
    columns = columns_of(connection, table)
    if any(column.name.lower() == known.key.lower() for column in columns):
        return evolve(known, table=table)
    keys = [column.name for column in columns if column.key_place]
    return evolve(known, table=table, key=keys[0]) if len(keys) == 1 else None


def with_key_of_table(connection: sqlite3.Connection, known: TrackedObject) -> TrackedObject:
    """Return an object with the key that its table has now: it may have been renamed."""
    return _with_key(connection, known, known.table) or known


def fold_where_it_is(connection: sqlite3.Connection, known: TrackedObject) -> None:
    """Fold what was logged of an object, wherever its table is now, and if it is gone."""
    place = place_of(connection, known)
    if place is None and has_table(connection, known.table):  # made anew: its records are what they are there
        place = _with_key(connection, known, known.table)
    if triggers.has_log(connection, known):
        from statesync.store.outbox.fold import (  # few tables change while writes wait
            fold,
            fold_without_table,
        )

        if place is not None:
            fold(connection, {known.name: place})
        else:
            fold_without_table(connection, known)
