"""Describing a Peewee model as a tracked object."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

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

_NAME = re.compile(r'[^"\\\x00-\x1f]+')


def describe(model: type[Model], name: str | None = None) -> TrackedObject:
    """Describe a Peewee model. Raises ``UnsupportedModel`` for one whose key cannot be synced."""
    meta = model._meta
    key = _checked_key(model)
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
        columns=tuple(Column(other.column_name, _kind(other), _default(other)) for other in fields),
        references=tuple(_reference(other) for other in fields if isinstance(other, ForeignKeyField)),
        uniques=_unique_groups(model, fields),
    )


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


def _default(column: Field) -> str | int | float | None:
    """Return what the model gives to a new record; what is computed anew each time, only if it must be."""
    default = column.default
    if callable(default):
        default = None if column.null else default()
    stored = None if default is None else column.db_value(default)  # type: ignore[no-untyped-call]
    if isinstance(stored, date | Decimal):
        return str(stored)
    return stored if isinstance(stored, str | int | float) else None


def _reference(column: ForeignKeyField) -> Reference:
    return Reference(column.column_name, column.rel_model._meta.table_name, column.rel_field.column_name)


def _unique_groups(model: type[Model], fields: list[Field]) -> tuple[tuple[str, ...], ...]:
    single = [(column.column_name,) for column in fields if column.unique]
    combined = [
        tuple(model._meta.combined[name].column_name for name in names)
        for names, is_unique in (index for index in model._meta.indexes if isinstance(index, tuple))
        if is_unique
    ]
    return (*single, *combined)
