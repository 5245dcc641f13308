"""What a Peewee model says of its object: names, how values convert, and what a new record gets.

The rest is read from the table (``fitting``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

from peewee import (
    BigIntegerField,
    BinaryUUIDField,
    BlobField,
    BooleanField,
    CompositeKey,
    Field,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
    UUIDField,
)
from peewee import _StringField as StringField

from statesync.errors import UnsupportedModel
from statesync.store.tracking.description import BLOB, BOOLEAN, SCALAR, Column, Reference
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.tables.fitting import counted_parent

_NAME = re.compile(r'[^"\\\x00-\x1f]+')


def describe(model: type[Model], name: str | None = None) -> TrackedObject:
    """Describe a Peewee model. Raises ``UnsupportedModel`` for one whose key cannot be synced."""
    meta = model._meta
    key = _checked_key(model)
    if meta.schema not in (None, "main"):
        raise UnsupportedModel(
            f"{model.__name__} stands in the schema {meta.schema!r}, and only tables of the store's own "
            f"file are "
            "synced; leave schema out of its Meta"
        )
    fields = [other for other in meta.sorted_fields if other is not key]
    for column in fields:
        if not _NAME.fullmatch(column.column_name):
            raise UnsupportedModel(
                f"{model.__name__}.{column.name} is stored in a column called {column.column_name!r}; names"
                " with quotes, backslashes or control characters cannot travel: give it another column_name"
            )
    return TrackedObject(
        name=name or model.__name__,
        table=meta.table_name,
        key=key.column_name,
        columns=tuple(map(_column, fields)),
        references=tuple(_reference(model, other) for other in fields if isinstance(other, ForeignKeyField)),
    )


def computed_defaults(model: type[Model]) -> dict[str, Callable[[], Any]]:
    """Return what computes a new record's values, by their columns, where the model has no constant for them.

    A column that may be empty is left empty in a record whose writer did not know it.
    """
    fields = [one for one in model._meta.sorted_fields if callable(one.default) and not one.null]
    return {one.column_name: partial(_computed, one) for one in fields if not one.primary_key}


def _computed(column: Field) -> str | int | float | bytes | None:
    return _stored(column, column.default())


def _checked_key(model: type[Model]) -> Field:
    name = model.__name__
    key = model._meta.primary_key
    if not isinstance(key, Field) or isinstance(key, CompositeKey):
        raise UnsupportedModel(f"{name} has no single key column; give it one text or UUID key")
    kind = key
    while isinstance(kind, ForeignKeyField):
        kind = kind.rel_field
    if isinstance(kind, IntegerField | BigIntegerField):
        raise UnsupportedModel(
            f"{name}.{key.name} is a number that each device would count for itself, so two devices would "
            "use the same key for different records; derive the model from statesync.Model, or give it a "
            "CharField or UUIDField as primary_key with a UUID as default"
        )
    if isinstance(kind, BinaryUUIDField) or not isinstance(kind, StringField | UUIDField | TextField):
        raise UnsupportedModel(f"{name}.{key.name} is no text or UUID key; use CharField or UUIDField")
    return key


def _kind(column: Field) -> str:
    while isinstance(column, ForeignKeyField):
        column = column.rel_field
    if isinstance(column, BooleanField):
        return BOOLEAN
    return BLOB if isinstance(column, BlobField | BinaryUUIDField) else SCALAR


def _column(field: Field) -> Column:
    computes = callable(field.default) and not field.null
    default = constant_default(field)
    return Column(
        field.column_name,
        _kind(field),
        None if isinstance(default, bytes) else default,
        is_filled=computes or isinstance(default, bytes),
    )


def constant_default(field: Field) -> str | int | float | bytes | None:
    """Return what the model gives to a new record.

    What is computed is computed now, for those who sync the file without the model, and only if it must be.
    """
    if not callable(field.default):
        return _stored(field, field.default)
    return None if field.null else _stored(field, field.default())


def _stored(field: Field, value: object) -> str | int | float | bytes | None:
    """Return a value of the program as SQLite stores it."""
    stored = None if value is None else field.db_value(value)  # type: ignore[no-untyped-call]
    if isinstance(stored, date | Decimal):
        return str(stored)
    return stored if isinstance(stored, str | int | float | bytes) else None


def _reference(model: type[Model], column: ForeignKeyField) -> Reference:
    parent = column.rel_model
    if column.rel_field is parent._meta.primary_key and isinstance(column.rel_field, IntegerField):
        raise UnsupportedModel(counted_parent(model.__name__, column.name, parent.__name__))
    return Reference(column.column_name, parent._meta.table_name, column.rel_field.column_name)
