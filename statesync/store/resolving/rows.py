"""Records as instances of the program's model, and back: what the model converts, SQLite stores."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from peewee import Field, Model, Select, SqliteDatabase, Value

from statesync.classes import frozen
from statesync.conflicts import Record
from statesync.store.file.reading import UnreadableText, read
from statesync.store.tracking.description import BLOB, BOOLEAN
from statesync.store.tracking.objects import TrackedObject

_TRUTH = {"true": 1, "false": 0}


def record_here(connection: sqlite3.Connection, tracked: TrackedObject, key: str) -> Record | None:
    """Return a record as the device has it, None if it has none."""
    wanted = json.dumps([key])
    row = read(connection, lambda: connection.execute(tracked.sql.select, (wanted,)).fetchone())
    return None if row is None else tracked.record_of(tuple(row[1:]))


def readable(record: Record | None) -> Record | None:
    """Leave out what nobody can look at: what a text that is no UTF-8 was before is not known."""
    if record is None:
        return None
    return {name: value for name, value in record.items() if not isinstance(value, UnreadableText)}


@frozen(eq=False)
class RowForm:
    """One object, with its model where the store knows it."""

    tracked: TrackedObject
    model: type[Model] | None

    def instance(self, key: str, record: Record) -> Any:
        """Return a record as an instance of its model, None without a model."""
        if self.model is None:
            return None
        made: Any = self.model(__no_default__=True)
        stored = {self.tracked.key: key, **record}
        for field in _fields(self.model):
            if field.column_name in stored:
                setattr(made, field.name, field.python_value(stored[field.column_name]))  # type: ignore[no-untyped-call]
        made._dirty.clear()
        return made

    def record(self, connection: sqlite3.Connection, key: str, given: object) -> Record:
        """Return what SQLite stores of an instance, or of a mapping from columns or fields to values.

        Raises ``TypeError`` for what is neither, ``ValueError`` for what does not fit the object.
        """
        if isinstance(given, Model):
            return self._of_instance(connection, key, given)
        if not isinstance(given, Mapping):
            raise TypeError(f"{given!r} is no record of {self.tracked.name}")
        return self._of_mapping(connection, given)

    def _of_instance(self, connection: sqlite3.Connection, key: str, given: Model) -> Record:
        if self.model is None or not isinstance(given, self.model):
            raise ValueError(f"an instance of {type(given).__name__} is no record of {self.tracked.name}")
        own = self.model._meta.columns[self.tracked.key]
        if str(own.db_value(given.__data__.get(own.name))) != key:
            raise ValueError(
                f"its key is {given.__data__.get(own.name)!r}, not {key}; a key stays what it is"
            )
        known = [field for field in _fields(self.model) if field.column_name in self.tracked.column_names]
        return {
            field.column_name: _stored(connection, field, given.__data__[field.name])
            for field in known
            if field.name in given.__data__
        }

    def _of_mapping(self, connection: sqlite3.Connection, given: Mapping[Any, Any]) -> Record:
        columns = {name: self._column(name) for name in given}
        odd = sorted(str(name) for name, column in columns.items() if column is None)
        if odd:
            raise ValueError(
                f"{self.tracked.name} has no columns {odd}; it has {', '.join(self.tracked.column_names)}"
            )
        record = {column: self._value(connection, column, given[name]) for name, column in columns.items()}
        unfit = sorted(str(name) for name, value in record.items() if not _is_storable(value))
        if unfit:
            raise ValueError(f"SQLite cannot hold the values of {unfit}")
        return record  # type: ignore[return-value]

    def _column(self, name: object) -> str | None:
        if name in self.tracked.column_names:
            return str(name)
        field = None if self.model is None else self.model._meta.fields.get(name)
        column = None if field is None else field.column_name
        return column if column in self.tracked.column_names else None

    def _value(self, connection: sqlite3.Connection, column: str | None, value: Any) -> Any:
        """Let the model convert what SQLite has no form for: a date, a dict of a JSON field.

        What does not read back as it was is left for what it is: a text field would make a text of anything.
        On a command line all is text: so true and false are taken for a boolean.
        """
        kind = next((known.kind for known in self.tracked.columns if known.name == column), None)
        if kind == BOOLEAN and isinstance(value, str) and value in _TRUTH:
            return _TRUTH[value]
        if kind == BLOB and isinstance(value, str):
            raise ValueError(f"{column} holds bytes, not a text")
        field = None if self.model is None else self.model._meta.columns.get(column)
        if field is None or _is_storable(value):
            return value
        stored = _stored(connection, field, value)
        return stored if field.python_value(stored) == value else value


def _fields(model: type[Model]) -> list[Field]:
    return list(model._meta.sorted_fields)


def _is_storable(value: object) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, str):
        return value.isascii() or value.encode("utf-8", "replace").decode() == value
    return value is None or isinstance(value, float | bytes)


def _stored(connection: sqlite3.Connection, field: Field, value: Any) -> Any:
    """Return what SQLite gets of a value: a model may convert by a function of SQL."""
    query = Select(columns=[Value(value, converter=field.db_value)])
    try:
        context: Any = SqliteDatabase(None).get_sql_context()
        sql, parameters = context.sql(query).query()
        (stored,) = connection.execute(sql, parameters).fetchone()
    except (sqlite3.Error, ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{field.name} cannot be {value!r}: {error}") from error
    return stored
