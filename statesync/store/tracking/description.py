"""How a tracked object looks: its table, key, columns and references. A value that can be kept as JSON."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, Self

from attrs import define, field, frozen

from statesync.conflicts import Record

SCALAR, BOOLEAN, BLOB = "scalar", "boolean", "blob"


@frozen
class Column:
    """One column besides the key. ``kind`` says how it travels: scalar, boolean or blob.

    ``default`` is what a new record gets whose writer does not know the column.
    """

    name: str
    kind: str
    default: str | int | float | None = None


@frozen
class Reference:
    """A foreign key: ``column`` names the key of ``parent``, an object or a table."""

    column: str
    parent_table: str
    parent_column: str


@define(eq=True, slots=False)
class Description:
    """One object: its ``name`` on the wire, its ``table``, the ``key`` column and the other columns.

    ``uniques`` are the column groups with a unique index: a write may replace another record there.
    """

    name: str
    table: str
    key: str
    columns: tuple[Column, ...]
    references: tuple[Reference, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = field(default=())

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

    # -- as text -------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the description that is kept in the database."""
        return json.dumps(
            {
                "table": self.table,
                "key": self.key,
                "columns": [[column.name, column.kind, column.default] for column in self.columns],
                "references": [[r.column, r.parent_table, r.parent_column] for r in self.references],
                "uniques": self.uniques,
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
            uniques=tuple(tuple(group) for group in raw["uniques"]),
        )
