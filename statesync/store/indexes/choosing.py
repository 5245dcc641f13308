"""Which indexes of a table nobody needs while it is filled: the table may be written without them, and read.

An index may be more than a way to find rows. One that is unique is a rule; so is one whose expression fails
for some values, as such a record would wait in quarantine. And code of the program's that SQLite runs for
each row, or that names an index, needs it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from statesync.store.indexes.marks import Mark
from statesync.store.schema.statements import has_table
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.tables.index_text import can_fail, terms_and_condition
from statesync.store.tracking.tables.table import TableColumn, columns_of

_COLLATIONS = frozenset({"BINARY", "NOCASE", "RTRIM"})
"""Those of SQLite's own: a program's may fail, and not every program has it."""

_IS_NEEDED_BY_TRIGGERS = r"""
SELECT 1 FROM main.sqlite_master AS made
WHERE made.type = 'trigger' AND made.name NOT LIKE 'statesync\_%' ESCAPE '\'
AND (made.tbl_name = :table COLLATE NOCASE OR instr(lower(made.sql), lower(:table))
     OR EXISTS (SELECT 1 FROM main.sqlite_master WHERE type = 'view'))
"""

_NOT_UNIQUE = """
SELECT listed.name, made.sql FROM pragma_index_list(:table, 'main') AS listed
JOIN main.sqlite_master AS made ON made.type = 'index' AND made.name = listed.name
WHERE NOT listed."unique" AND listed.origin = 'c' ORDER BY listed.name
"""

_IS_NAMED = """
SELECT 1 FROM main.sqlite_master WHERE type IN ('view', 'trigger')
AND sql LIKE '%INDEXED%' AND (instr(lower(sql), lower(:name)) OR :name GLOB '*[]["''`]*')
"""
"""Whether a view or a trigger may name an index by INDEXED BY: one with a quote is written in many ways."""


def can_wait(connection: sqlite3.Connection, tracked: TrackedObject) -> list[Mark]:
    """Return the indexes of an object's table that can be built when it is filled. Only reads."""
    table = tracked.table
    if connection.execute(_IS_NEEDED_BY_TRIGGERS, {"table": table}).fetchone():
        return []
    analysed = _analysed(connection, table)
    columns = {column.name.lower(): column for column in columns_of(connection, table)}
    sought = {reference.column.lower() for reference in tracked.references}
    return [
        Mark(name, table, sql)
        for name, sql in connection.execute(_NOT_UNIQUE, {"table": table}).fetchall()
        if name not in analysed
        and _is_plain(connection, name, sql, columns, sought)
        and connection.execute(_IS_NAMED, {"name": name}).fetchone() is None
    ]


def has_key_alone(connection: sqlite3.Connection, tracked: TrackedObject) -> bool:
    """Tell whether an object's table has no index but that of its key: a scan writes it from end to end."""
    others = connection.execute(
        "SELECT 1 FROM pragma_index_list(?, 'main') WHERE origin <> 'pk'", (tracked.table,)
    )
    return others.fetchone() is None


def _analysed(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the indexes that SQLite has figures of: these would go with them, until the next ANALYZE."""
    if not has_table(connection, "sqlite_stat1"):
        return set()
    rows = connection.execute("SELECT idx FROM main.sqlite_stat1 WHERE tbl = ? COLLATE NOCASE", (table,))
    return {name for (name,) in rows}


def _is_plain(
    connection: sqlite3.Connection, name: str, sql: str, columns: dict[str, TableColumn], sought: set[str]
) -> bool:
    """Tell whether an index only finds rows, and nobody looks for parents or children by it (``orphans``)."""
    parts = list(_parts(connection, name))
    if any(collation.upper() not in _COLLATIONS for _, collation in parts):
        return False
    terms, condition = terms_and_condition(sql)
    texts = [text for text, (column, _) in zip(terms, parts, strict=True) if column is None]
    texts += [] if condition is None else [condition]
    if texts and (any(map(can_fail, texts)) or any(column.is_generated for column in columns.values())):
        return False
    named = [column.lower() for column, _ in parts if column is not None]
    if any(column in columns and columns[column].is_generated for column in named):
        return False
    return not (named and parts[0][0] is not None and named[0] in sought)


def _parts(connection: sqlite3.Connection, name: str) -> Iterator[tuple[str | None, str]]:
    """Yield the columns of an index with their collations; None is an expression."""
    rows = connection.execute(
        "SELECT name, coll FROM pragma_index_xinfo(?, 'main') WHERE key ORDER BY seqno", (name,)
    )
    yield from rows.fetchall()
