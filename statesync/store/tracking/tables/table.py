"""A table as the database has it. What is unique, generated, named, collated and referenced is read here."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import cached_property

from statesync.classes import frozen
from statesync.store.tracking.description import Reference, Term, UniqueIndex
from statesync.store.tracking.quoting import literal, quoted
from statesync.store.tracking.tables.index_text import terms_and_condition

_GENERATED = (2, 3)
"""What SQLite calls hidden: a column that it computes, when it is read or when it is written."""
_EXPRESSION = -2
"""The place of a column, in a list of an index's terms, that is no column."""
_CONSTANT = r"[-+]?[\d.]+(?:e[-+]?\d+)?|x?'(?:[^']|'')*'|true|false|current_(?:time|date|timestamp)"
"""A default that is the same for every record of a write, and means the same wherever it stands."""


@frozen
class TableColumn:
    """One column. ``default`` is what SQLite gives to a record that does not say, as SQL; None: nothing."""

    name: str
    type: str
    not_null: bool
    default: str | None
    key_place: int
    is_generated: bool

    @property
    def affinity(self) -> str:
        """What SQLite makes of values that are written to the column (section 3.1 of its page on types)."""
        declared = self.type.upper()
        if "INT" in declared:
            return "INTEGER"
        if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
            return "TEXT"
        if not declared or "BLOB" in declared:
            return "BLOB"
        return "REAL" if any(word in declared for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"

    @property
    def stand_in(self) -> str | None:
        """What OR REPLACE writes in place of NULL, as SQL that can stand elsewhere; None: nobody knows."""
        if not self.not_null or self.default is None:
            return None
        text = self.default.strip("() ")
        if text.startswith('"'):  # which SQLite takes for a text
            return literal(text[1:-1].replace('""', '"'))
        return text if re.fullmatch(_CONSTANT, text, re.IGNORECASE) else None


@frozen(slots=False)
class Table:
    """One ordinary table of the file itself."""

    name: str
    columns: tuple[TableColumn, ...]
    uniques: tuple[UniqueIndex, ...]
    references: tuple[Reference, ...]

    @cached_property
    def by_name(self) -> dict[str, TableColumn]:
        """The columns by their names in lower case: SQLite's names have no case."""
        return {column.name.lower(): column for column in self.columns}

    @property
    def key_columns(self) -> list[TableColumn]:
        """The columns of the primary key, in its order."""
        return sorted((c for c in self.columns if c.key_place), key=lambda c: c.key_place)

    def column(self, name: str) -> TableColumn | None:
        """Return a column by its name, in any case."""
        return self.by_name.get(name.lower())

    def uniques_of(self, name: str) -> list[Term]:
        """Return the terms of the unique indexes that are about this column alone, and about every record."""
        wanted = quoted(name).lower()
        return [
            index.terms[0]
            for index in self.uniques
            if len(index.terms) == 1 and index.where is None and index.terms[0].sql.lower() == wanted
        ]


def kind_of(connection: sqlite3.Connection, name: str) -> str | None:
    """Return what a name means in the file itself: ``table``, ``view``, ``virtual``; None: nothing."""
    row = connection.execute(
        "SELECT type, sql FROM main.sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE "
        "NOCASE",
        (name,),
    ).fetchone()
    if row is None:
        return None
    kind, sql = row
    return "virtual" if sql.upper().startswith("CREATE VIRTUAL") else str(kind)


def other_homes(connection: sqlite3.Connection, name: str) -> list[str]:
    """Return the other schemas that have a table or view of this name: ``temp``, or an attached file."""
    schemas = [row[1] for row in connection.execute("PRAGMA database_list") if row[1] != "main"]
    return [
        schema
        for schema in schemas
        if connection.execute(
            f"SELECT 1 FROM {quoted(schema)}.sqlite_master "
            "WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
            (name,),
        ).fetchone()
    ]


def read_table(connection: sqlite3.Connection, name: str) -> Table | None:
    """Return an ordinary table of the file itself; None if there is none of this name."""
    if kind_of(connection, name) != "table":
        return None
    columns = columns_of(connection, name)
    return Table(
        name,
        columns,
        (*_uniques(connection, name), *_numbers(connection, name, columns)),
        tuple(_references(connection, name)),
    )


def columns_of(connection: sqlite3.Connection, name: str) -> tuple[TableColumn, ...]:
    """Return the columns of a table of the file itself; none if it is not there."""
    rows = connection.execute(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?, 'main')", (name,)
    )
    return tuple(
        TableColumn(column, declared, bool(not_null), default, place, hidden in _GENERATED)
        for column, declared, not_null, default, place, hidden in rows
    )


def ignores(connection: sqlite3.Connection, table: str, column: str) -> str | None:
    """Return what comparisons of a column pass over: ``case``, ``trailing spaces``, or None."""
    name = quoted(column)
    case, spaces = connection.execute(
        f"SELECT one.{name} = 'A', one.{name} = 'a ' FROM "
        f"(SELECT {name} FROM main.{quoted(table)} WHERE 0 UNION ALL SELECT 'a') AS one"
    ).fetchone()
    return "case" if case else "trailing spaces" if spaces else None


def _uniques(connection: sqlite3.Connection, table: str) -> Iterator[UniqueIndex]:
    rows = connection.execute(
        "SELECT listed.name, made.sql FROM pragma_index_list(?, 'main') AS listed "
        "LEFT JOIN main.sqlite_master AS made ON made.type = 'index' AND made.name = listed.name "
        'WHERE listed."unique" ORDER BY listed.name',
        (table,),
    )
    for index, sql in rows.fetchall():
        texts, where = terms_and_condition(sql) if sql else ([], None)
        parts = connection.execute(
            "SELECT cid, name, coll FROM pragma_index_xinfo(?, 'main') WHERE key ORDER BY seqno", (index,)
        ).fetchall()
        yield UniqueIndex(
            tuple(
                Term(texts[place] if cid == _EXPRESSION else quoted(name), collation, cid == _EXPRESSION)
                for place, (cid, name, collation) in enumerate(parts)
            ),
            where,
        )


def _numbers(
    connection: sqlite3.Connection, table: str, columns: tuple[TableColumn, ...]
) -> Iterator[UniqueIndex]:
    """Yield the key that SQLite numbers records by, where it is a column: it is unique, and has no index."""
    for column in columns:
        if column.key_place and counts_its_key(connection, table, column.name):
            yield UniqueIndex((Term(quoted(column.name)),))


def _references(connection: sqlite3.Connection, table: str) -> Iterator[Reference]:
    """Find the foreign keys of one column; one of several names no key of a tracked table."""
    rows = connection.execute(
        'SELECT min("from"), min("table"), min("to") FROM pragma_foreign_key_list(?, \'main\') '
        "GROUP BY id HAVING count(*) = 1 ORDER BY id DESC",
        (table,),
    )
    for column, parent, parent_column in rows.fetchall():
        keys = [c.name for c in columns_of(connection, parent) if c.key_place]
        if parent_column is not None or len(keys) == 1:
            yield Reference(column, parent, parent_column or keys[0])


def counts_its_key(connection: sqlite3.Connection, table: str, column: str) -> bool:
    """Tell whether SQLite gives out the numbers in a column by itself: it is the table's rowid."""
    keys = [found for found in columns_of(connection, table) if found.key_place]
    if len(keys) != 1 or keys[0].type.upper() != "INTEGER" or keys[0].name.lower() != column.lower():
        return False
    made = connection.execute(
        f"SELECT count(*) FROM pragma_index_list({literal(table)}, 'main') WHERE origin = 'pk'"
    )
    return bool(made.fetchone()[0] == 0)
