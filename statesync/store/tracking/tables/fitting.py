"""Fitting an object to its table: the model says how values convert, the database says all the rest.

The description that comes of it has every column that any program on this file has tracked, as long as the
table has it. So an older program, or a small tool, syncs what a newer one wrote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from attrs import evolve

from statesync.errors import UnsupportedModel
from statesync.store.tracking.description import Column, Reference
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import quoted
from statesync.store.tracking.tables.table import (
    Table,
    counts_its_key,
    ignores,
    kind_of,
    other_homes,
    read_table,
)

_KEEPS_TEXT = ("TEXT", "BLOB")


def table_of(connection: sqlite3.Connection, wanted: TrackedObject) -> Table | None:
    """Return the table of an object; None if it is not there.

    Raises ``UnsupportedModel`` where something else stands under its name.
    """
    kind = kind_of(connection, wanted.table)
    homes = other_homes(connection, wanted.table) if kind is None else []
    if kind not in (None, "table"):
        what = "a view" if kind == "view" else "a virtual table"
        raise UnsupportedModel(
            f"{wanted.name} cannot be tracked: {wanted.table} is {what}, whose writes no trigger sees "
            f"as records; "
            "track the tables that hold the records instead"
        )
    if homes:
        raise UnsupportedModel(
            f"{wanted.name} cannot be tracked: {wanted.table} stands in the schema {homes[0]!r}, and "
            f"only tables of "
            "the store's own file are synced; put it into the file itself (main), or give it another name"
        )
    return read_table(connection, wanted.table)


def fit(table: Table, wanted: TrackedObject, known: TrackedObject | None) -> TrackedObject:
    """Return how an object looks: ``wanted`` by its model, ``known`` until now, with what ``table`` has."""
    columns = tuple(_columns(table, wanted, known))
    tracked = {column.name.lower() for column in columns} | {wanted.key.lower()}
    key = quoted(wanted.key).lower()
    uniques = tuple(
        index
        for index in table.uniques
        if index.where is not None
        or [(term.sql.lower(), term.collation) for term in index.terms] != [(key, "BINARY")]
    )
    return evolve(
        wanted,
        columns=columns,
        references=tuple(_references(table, wanted, known, tracked)),
        uniques=uniques,
        others=tuple(column.name for column in table.columns if column.name.lower() not in tracked),
        stand_ins=tuple(
            (column.name, column.stand_in)
            for column in table.columns
            if column.stand_in is not None and (uniques or quoted(column.name).lower() == key)
        ),
    )


def check(connection: sqlite3.Connection, table: Table, tracked: TrackedObject) -> None:
    """Raise ``UnsupportedModel`` for a table whose records could not be synced as they are."""
    _check_key(connection, table, tracked)
    for reference in tracked.references:
        if counts_its_key(connection, reference.parent_table, reference.parent_column):
            raise UnsupportedModel(counted_parent(tracked.name, reference.column, reference.parent_table))
    named = {name.lower() for name in (tracked.key, *tracked.column_names)}
    for column in table.columns:
        is_left_out = column.name.lower() not in named and not column.is_generated
        if is_left_out and column.not_null and column.default is None:
            raise UnsupportedModel(
                f"{tracked.name} has no field for the column {column.name} of the table {table.name}, "
                f"which must not "
                "be empty: no record of another device could be stored; add the field to the model, or "
                "give the "
                "column a default"
            )


def counted_parent(name: str, column: str, parent: str) -> str:
    """Return why a foreign key to such a parent is refused, and what to declare instead."""
    return (
        f"{name}.{column} names records of {parent} by a number that each device counts for itself, so "
        f"it would "
        f"name another record on another device; give {parent} a text or UUID key, by deriving its "
        f"model from "
        f"statesync.Model, and track it, or keep the number in an IntegerField, without a foreign key"
    )


def _columns(table: Table, wanted: TrackedObject, known: TrackedObject | None) -> Iterator[Column]:
    """Yield the columns that travel: what was known in its order, then what is new.

    A column that came later than the object may be missing in the hub's records.
    """
    by_model = {column.name.lower(): column for column in wanted.columns}
    before = {column.name.lower(): column for column in known.columns} if known else {}
    for name in (*before, *(name for name in by_model if name not in before)):
        found = table.column(name)
        if found is None or found.is_generated or name == wanted.key.lower():
            continue
        column, earlier = by_model.get(name), before.get(name)
        chosen = column or earlier
        if chosen is not None:
            is_filled = (
                chosen.is_filled
                or (earlier is not None and earlier.is_filled)
                or (known is not None and earlier is None)
                or (found.default is not None and chosen.default is None)
            )
            # What is computed was computed once for those without the model; another time is no other column.
            is_same = chosen.is_filled and earlier is not None and earlier.default is not None
            default = earlier.default if is_same and earlier is not None else chosen.default
            is_required = found.not_null and found.default is None and default is None
            yield evolve(chosen, default=default, is_filled=is_filled, is_required=is_required)


def _references(
    table: Table, wanted: TrackedObject, known: TrackedObject | None, tracked: Iterable[str]
) -> Iterator[Reference]:
    """Yield the foreign keys of the model, enforced or not, and those of the table."""
    seen: set[str] = set()
    for reference in (*wanted.references, *table.references, *(known.references if known else ())):
        name = reference.column.lower()
        if name in tracked and name not in seen:
            seen.add(name)
            yield reference


def _check_key(connection: sqlite3.Connection, table: Table, tracked: TrackedObject) -> None:
    key, found = f"{tracked.name}.{tracked.key}", table.column(tracked.key)
    if found is None:
        raise UnsupportedModel(
            f"{key} is the key, but the table {table.name} has no such column, only "
            f"{', '.join(column.name for column in table.columns)}; give the field the column_name that "
            f"the table "
            "has, or rename the column in a migration: "
            f"migrate(migrator.rename_column({table.name!r}, …, {tracked.key!r}))"
        )
    if found.affinity not in _KEEPS_TEXT:
        raise UnsupportedModel(
            f"{key} is declared {found.type}, in which SQLite stores a text as a number where it can, "
            f"so that '007' "
            f"and '7' are one key; declare it TEXT, as a CharField or UUIDField does, or in a migration: "
            f"migrate(migrator.alter_column_type({table.name!r}, {tracked.key!r}, "
            f"CharField(primary_key=True)))"
        )
    terms = table.uniques_of(tracked.key)
    if not terms:
        raise UnsupportedModel(
            f"{key} is the key, but the table {table.name} does not keep it unique; declare it PRIMARY "
            f"KEY, or make "
            f"a unique index on it"
        )
    is_kept = any(term.collation.upper() == "BINARY" for term in terms)
    odd = None if is_kept else terms[0].collation
    passed_over = None if odd else ignores(connection, table.name, tracked.key)
    if odd or passed_over:
        how = f"by the collation {odd}" if odd else f"without looking at {passed_over}"
        raise UnsupportedModel(
            f"{key} compares {how}, so that two keys may be one here and two elsewhere; declare it "
            f"without COLLATE, "
            "or with COLLATE BINARY"
        )
