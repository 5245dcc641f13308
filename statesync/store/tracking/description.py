"""How a tracked object looks: its table, key, columns and references. A value that can be kept as JSON."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, Self

from attrs import field

from statesync.classes import define, frozen
from statesync.conflicts import Record
from statesync.store.tracking.quoting import quoted

SCALAR, BOOLEAN, BLOB = "scalar", "boolean", "blob"


@frozen
class Column:
    """One column besides the key. ``kind`` says how it travels: scalar, boolean or blob.

    ``default`` is what a new record gets whose writer does not know the column. ``is_filled`` says that the
    device may have filled it in by itself, with a value of its own for each record, ``is_required`` that it
    must not be empty and nobody has a value for it.
    """

    name: str
    kind: str
    default: str | int | float | None = None
    is_filled: bool = False
    is_required: bool = False


@frozen
class Reference:
    """A foreign key: ``column`` names the key of ``parent``, an object or a table."""

    column: str
    parent_table: str
    parent_column: str


@frozen
class Term:
    """One term of a unique index: a column's name or an expression, as SQL, and how its values compare."""

    sql: str
    collation: str = "BINARY"
    is_expression: bool = False


@frozen
class UniqueIndex:
    """A unique index; ``where`` is the condition on the records that it is about, None for all of them."""

    terms: tuple[Term, ...]
    where: str | None = None


@define(eq=True, slots=False)
class Description:
    """One object: its ``name`` on the wire, its ``table``, the ``key`` column and the other columns.

    ``uniques`` are the unique indexes besides the key's: a write may replace another record there.
    ``others`` are the table's columns that are not tracked, which the terms of an index may name.
    ``stand_ins`` are columns that must not be empty, each with what OR REPLACE writes there for NULL, as SQL.
    ``is_gone`` says that there is no such table any more: the object is kept for what waits of it.
    """

    name: str
    table: str
    key: str
    columns: tuple[Column, ...]
    references: tuple[Reference, ...] = ()
    uniques: tuple[UniqueIndex, ...] = field(default=())
    others: tuple[str, ...] = ()
    stand_ins: tuple[tuple[str, str], ...] = ()
    is_gone: bool = False

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns besides the key."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def has_blobs(self) -> bool:
        """Whether any column holds bytes."""
        return any(column.kind == BLOB for column in self.columns)

    def record_of(self, values: tuple[Any, ...]) -> Record:
        """Return column values, in order, as a record."""
        return dict(zip(self.column_names, values, strict=True))

    def known(self, record: Record) -> Record:
        """Return a record without columns that are none of the object's: it may be older than a migration."""
        return {name: value for name, value in record.items() if name in self.column_names}

    # -- as text -------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the description that is kept in the database."""
        return json.dumps(
            {
                "table": self.table,
                "key": self.key,
                "columns": [[c.name, c.kind, c.default, c.is_filled, c.is_required] for c in self.columns],
                "references": [[r.column, r.parent_table, r.parent_column] for r in self.references],
                "uniques": [
                    [[[t.sql, t.collation, t.is_expression] for t in index.terms], index.where]
                    for index in self.uniques
                ],
                "others": self.others,
                "stand_ins": self.stand_ins,
                "is_gone": self.is_gone,
            }
        )

    @classmethod
    def from_json(cls, name: str, text: str) -> Self:
        """Read a description that ``to_json`` wrote."""
        raw = json.loads(text)
        return cls(
            name=name,
            table=raw["table"],
            key=raw["key"],
            columns=tuple(Column(*column) for column in raw["columns"]),
            references=tuple(Reference(*reference) for reference in raw["references"]),
            uniques=tuple(map(_unique_index, raw["uniques"])),
            others=tuple(raw.get("others", ())),
            stand_ins=tuple((name, sql) for name, sql in raw.get("stand_ins", ())),
            is_gone=raw.get("is_gone", False),
        )


def _unique_index(raw: list[Any]) -> UniqueIndex:
    """Read a unique index. Older descriptions have the names of its columns instead, and nothing else."""
    if all(isinstance(name, str) for name in raw):
        return UniqueIndex(tuple(Term(quoted(name)) for name in raw))
    terms, where = raw
    return UniqueIndex(tuple(Term(*term) for term in terms), where)
