"""What the store knows of each tracked object: its table, key, columns and references.

A description is made from a Peewee model and kept in the database, so that a session can be run without
the program's models. It also writes the SQL that depends on the columns.
"""

from __future__ import annotations

import json
from collections.abc import Container
from functools import cached_property
from typing import Annotated, Any

import msgspec
from attrs import define, field, frozen

from statesync.conflicts import Record

SCALAR, BOOLEAN, BLOB = "scalar", "boolean", "blob"

_MEMBERS = 50
"""How many members one ``json_object`` gets: SQLite's functions take 127 arguments, two of them a member."""


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


def quoted(name: str) -> str:
    """Return ``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _literal(value: object) -> str:
    return repr(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


def _is_unchanged(column: str) -> str:
    """Compare to the byte, whatever the column's collation says: 1 is not 1.0, and a is not A."""
    new = f"excluded.{column}"
    return f"{column} COLLATE BINARY IS {new} AND typeof({column}) = typeof({new})"


@define(eq=True, slots=False)
class TrackedObject:
    """One object: its ``name`` on the wire, its ``table``, the ``key`` column and the other columns.

    ``uniques`` are the column groups with a unique index: a write may replace another record there.
    Programs only hand it on: from a device of the test kit to its hub.
    """

    name: str
    table: str
    key: str
    columns: tuple[Column, ...]
    references: tuple[Reference, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = field(default=())

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
    def from_json(cls, name: str, text: str) -> TrackedObject:
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

    # -- statements ----------------------------------------------------------------------------------

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns besides the key."""
        return tuple(column.name for column in self.columns)

    def upsert_of(self, columns: tuple[str, ...], spared: Container[str] = ()) -> str:
        """Insert or update (key, *columns), leaving other columns of a known record as they are.

        A new record gets the defaults of the other columns. ``spared`` columns of a known record are not
        set; where one of them would change, the whole record is left as it is.
        """
        unset = [c for c in self.columns if c.name not in columns and c.default is not None]
        names = ", ".join(quoted(name) for name in (self.key, *columns, *(c.name for c in unset)))
        marks = ", ".join(["?"] * (len(columns) + 1) + [_literal(c.default) for c in unset])
        updates = ", ".join(
            f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name not in spared
        )
        unchanged = " AND ".join(_is_unchanged(quoted(name)) for name in columns if name in spared)
        where = f" WHERE {unchanged}" if unchanged else ""
        action = f"UPDATE SET {updates}{where}" if updates else "NOTHING"
        key, table = quoted(self.key), quoted(self.table)
        return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({key}) DO {action}"

    @cached_property
    def delete_sql(self) -> str:
        """Delete one record by its key."""
        return f"DELETE FROM {quoted(self.table)} WHERE {quoted(self.key)} = ?"

    @cached_property
    def select_sql(self) -> str:
        """Select (key, *columns) of the records whose keys are in a JSON list."""
        names = ", ".join(quoted(name) for name in (self.key, *self.column_names))
        return (
            f"SELECT {names} FROM {quoted(self.table)} "
            f"WHERE {quoted(self.key)} IN (SELECT value FROM json_each(?))"
        )

    # -- the log of writes ---------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """The name of the table that the object's triggers append to."""
        return f"statesync_log_{self.name}"

    @cached_property
    def log_columns(self) -> tuple[str, ...]:
        """Where the log keeps the columns of the record before the write, as SQL identifiers."""
        return tuple(quoted(f"was_{name}") for name in self.column_names)

    def image_sql(self, row: str) -> str:
        """Return the expression for the image of a ``row`` of the log: JSON, exact for every value.

        JSON text of SQLite's own would round floats to 15 digits and refuse blobs, so a float is
        ``[digits]`` and a blob ``[null, hex]``.
        """
        values = [f"{row}.{name}" for name in self.log_columns]
        members = [
            f"{_literal(name)}, CASE typeof({value}) "
            f"WHEN 'real' THEN json_array(printf('%!.20e', {value})) "
            f"WHEN 'blob' THEN json_array(NULL, hex({value})) ELSE {value} END"
            for name, value in zip(self.column_names, values, strict=True)
        ]
        parts = [members[start : start + _MEMBERS] for start in range(0, len(members) or 1, _MEMBERS)]
        objects = [f"json_object({', '.join(part)})" for part in parts]
        if len(objects) == 1:
            return objects[0]
        return "'{' || " + " || ',' || ".join(f"trim({each}, '{{}}')" for each in objects) + " || '}'"

    # -- records -------------------------------------------------------------------------------------

    @cached_property
    def row_type(self) -> type[msgspec.Struct]:
        """The shape of this object's records on the wire: one field a column, each may be missing."""
        fields = [
            (f"c{index}", _WIRE_TYPES[column.kind] | msgspec.UnsetType, msgspec.UNSET)
            for index, column in enumerate(self.columns)
        ]
        names = {f"c{index}": column.name for index, column in enumerate(self.columns)}
        return msgspec.defstruct(f"{self.name}Row", fields, rename=names, frozen=True)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self.row_type)

    @cached_property
    def list_decoder(self) -> msgspec.json.Decoder[Any]:
        """Decode a JSON list of records into rows."""
        return msgspec.json.Decoder(list[self.row_type])  # type: ignore[name-defined]

    @cached_property
    def _booleans(self) -> tuple[int, ...]:
        return tuple(index for index, column in enumerate(self.columns) if column.kind == BOOLEAN)

    @cached_property
    def has_blobs(self) -> bool:
        """Whether any column holds bytes."""
        return any(column.kind == BLOB for column in self.columns)

    def wire_text(self, values: tuple[Any, ...]) -> bytes:
        """Return a record, given as its column values, as the JSON text that travels."""
        if self._booleans:
            changed = list(values)
            for index in self._booleans:
                if changed[index] is not None:
                    changed[index] = bool(changed[index])
            values = tuple(changed)
        return msgspec.json.encode(self.row_type(*values))

    def read_wire(self, text: bytes | msgspec.Raw) -> Record:
        """Return a record that travelled as JSON text; columns unknown to this device are left out.

        Raises ``msgspec.ValidationError`` for a text of another shape.
        """
        values = msgspec.structs.astuple(self._decoder.decode(text))
        return {
            name: int(value) if isinstance(value, bool) else value
            for name, value in zip(self.column_names, values, strict=True)
            if value is not msgspec.UNSET
        }

    def record_of(self, values: tuple[Any, ...]) -> Record:
        """Return column values, in order, as a record."""
        return dict(zip(self.column_names, values, strict=True))


Objects = dict[str, TrackedObject]
"""Tracked objects by their names."""


def image_of(record: Record | None) -> str | None:
    """Return a record's image: the same text form that ``TrackedObject.image_sql`` makes."""
    return None if record is None else json.dumps({name: _wrapped(value) for name, value in record.items()})


def record_of_image(image: str | None) -> Record | None:
    """Read an image back into the values that SQLite stores."""
    return None if image is None else {name: _unwrapped(value) for name, value in json.loads(image).items()}


def _wrapped(value: Any) -> Any:
    if isinstance(value, float):
        return [repr(value)]
    return [None, value.hex()] if isinstance(value, bytes) else value


def _unwrapped(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return float(value[0]) if len(value) == 1 else bytes.fromhex(value[1])


_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_WIRE_TYPES: dict[str, Any] = {
    SCALAR: str | _Whole | float | bool | None,
    BOOLEAN: str | _Whole | float | bool | None,
    BLOB: bytes | None,
}
