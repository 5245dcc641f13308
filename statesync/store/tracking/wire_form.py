"""An object's records as they travel: JSON text, a member a column."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import cached_property
from typing import Annotated, Any

import msgspec

from statesync.conflicts import Record
from statesync.store.tracking.description import BLOB, BOOLEAN, SCALAR, Column, Description

_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_WIRE_TYPES: dict[str, Any] = {
    SCALAR: str | _Whole | float | bool | None,
    BOOLEAN: str | _Whole | float | bool | None,
    BLOB: bytes | None,
}
_PLAIN: frozenset[type[Any]] = frozenset({str, int, float, type(None)})
_BYTES: frozenset[type[Any]] = frozenset({bytes, type(None)})


class WireForm:
    """Makes the JSON text of one object's records, and reads it.

    ``stored_types`` are those that a column's values may have to travel; an infinite number may not.
    """

    def __init__(self, of: Description) -> None:
        self._columns = of.columns
        self._names = of.column_names
        self._booleans = tuple(index for index, c in enumerate(of.columns) if c.kind == BOOLEAN)
        self.stored_types: tuple[frozenset[type[Any]], ...] = tuple(
            _BYTES if c.kind == BLOB else _PLAIN for c in of.columns
        )
        self._row_name = f"{of.name}Row"

    @cached_property
    def row_type(self) -> type[msgspec.Struct]:
        """The shape of this object's records on the wire: one field a column, each may be missing."""
        fields = [
            (f"c{index}", _WIRE_TYPES[column.kind] | msgspec.UnsetType, msgspec.UNSET)
            for index, column in enumerate(self._columns)
        ]
        names = {f"c{index}": column.name for index, column in enumerate(self._columns)}
        return msgspec.defstruct(self._row_name, fields, rename=names, frozen=True, gc=False)

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[Any]:
        """Decodes the JSON text of a record into a row."""
        return msgspec.json.Decoder(self.row_type)

    @cached_property
    def whole_decoder(self) -> msgspec.json.Decoder[Any]:
        """Decodes the text of a record that has every column into a row."""
        fields = [(field.name, _WIRE_TYPES[column.kind]) for field, column in self._fields()]
        names = {field.name: field.encode_name for field, _ in self._fields()}
        whole = msgspec.defstruct(f"Whole{self._row_name}", fields, rename=names, frozen=True, gc=False)
        return msgspec.json.Decoder(whole)

    def _fields(self) -> Iterator[tuple[msgspec.structs.FieldInfo, Column]]:
        return zip(msgspec.structs.fields(self.row_type), self._columns, strict=True)

    def text(self, values: tuple[Any, ...], spared: Container[str] = ()) -> bytes:
        """Return a record, given as its column values, as the JSON text that travels, without ``spared``."""
        if self._booleans:
            changed = list(values)
            for index in self._booleans:
                if changed[index] is not None:
                    changed[index] = bool(changed[index])
            values = tuple(changed)
        if spared:
            values = tuple(
                msgspec.UNSET if name in spared else value
                for name, value in zip(self._names, values, strict=True)
            )
        return msgspec.json.encode(self.row_type(*values))

    def records(self, columns: list[tuple[Any, ...]]) -> Iterable[msgspec.Struct]:
        """Return records, given as the values of each column, in the shape that travels."""
        for index in self._booleans:
            column = columns[index]
            columns[index] = (
                tuple(None if value is None else bool(value) for value in column)
                if None in column
                else tuple(map(bool, column))
            )
        return map(self.row_type, *columns)

    def read(self, text: bytes | msgspec.Raw) -> Record:
        """Return a record that travelled as JSON text; columns unknown to this device are left out.

        Raises ``msgspec.ValidationError`` for a text of another shape.
        """
        values = msgspec.structs.astuple(self.decoder.decode(text))
        return {
            name: int(value) if isinstance(value, bool) else value
            for name, value in zip(self._names, values, strict=True)
            if value is not msgspec.UNSET
        }
