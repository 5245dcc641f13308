"""Hypothesis strategies for the rows of Peewee models. Needs the extra ``testing``."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import peewee
from hypothesis import strategies as st

from statesync.errors import UnsupportedModel

Row = dict[str, Any]

_TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_FIRST, _LAST = datetime(1, 1, 1), datetime(9999, 12, 31)

# The first kind that fits is taken, so the narrower ones go first.
_KINDS: tuple[tuple[type[peewee.Field], st.SearchStrategy[Any]], ...] = (
    (peewee.BooleanField, st.booleans()),
    (peewee.SmallIntegerField, st.integers(-(2**15), 2**15 - 1)),
    (peewee.BigIntegerField, st.integers(-(2**63), 2**63 - 1)),
    (peewee.IntegerField, st.integers(-(2**31), 2**31 - 1)),
    (peewee.FloatField, st.floats(allow_nan=False, allow_infinity=False)),
    (peewee.DateTimeField, st.datetimes(_FIRST, _LAST)),
    (peewee.DateField, st.dates()),
    (peewee.TimeField, st.times()),
    (peewee.UUIDField, st.uuids()),
    (peewee.BlobField, st.binary(max_size=64)),
    (peewee.TextField, st.text(_TEXT, max_size=64)),
)


def record_strategy(model: type[peewee.Model], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    """Return a strategy for rows of ``model``: dicts for ``Model.create(**row)``, key included.

    ``fields`` replaces the strategy of a field by its name; a foreign key needs that, unless it may be
    null. Choices, lengths and nulls are respected, unique columns are not. Raises ``UnsupportedModel`` for
    a field of a kind that is not known here.
    """
    found = {field.name: field for field in model._meta.sorted_fields}
    unknown = fields.keys() - found.keys()
    if unknown:
        raise UnsupportedModel(f"{model.__name__} has no field {', '.join(sorted(unknown))}")
    return st.fixed_dictionaries(
        {name: fields[name] if name in fields else field_strategy(field) for name, field in found.items()}
    )


def field_strategy(field: peewee.Field) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of one field."""
    if field.primary_key:
        return _keys(field)
    values = _values(field)
    return st.none() | values if field.null and not isinstance(field, peewee.ForeignKeyField) else values


def _keys(field: peewee.Field) -> st.SearchStrategy[Any]:
    if isinstance(field, peewee.UUIDField):
        return st.uuids()
    return st.uuids().map(str)


def _values(field: peewee.Field) -> st.SearchStrategy[Any]:
    if field.choices:
        return st.sampled_from([value for value, _ in field.choices])
    if isinstance(field, peewee.ForeignKeyField):
        if not field.null:
            raise UnsupportedModel(
                f"{field.model.__name__}.{field.name} names another record; give it a strategy: "
                f"record_strategy({field.model.__name__}, {field.name}=…)"
            )
        return st.none()
    if isinstance(field, peewee.DecimalField):
        return _decimals(field)
    if isinstance(field, peewee.CharField):
        return st.text(_TEXT, max_size=min(field.max_length, 64))
    for kind, strategy in _KINDS:
        if isinstance(field, kind):
            return strategy
    raise UnsupportedModel(
        f"{field.model.__name__}.{field.name} is a {type(field).__name__}, which has no strategy here; "
        f"give it one: record_strategy({field.model.__name__}, {field.name}=…)"
    )


def _decimals(field: peewee.DecimalField) -> st.SearchStrategy[Decimal]:
    most = 10**field.max_digits - 1
    return st.integers(-most, most).map(lambda digits: Decimal(digits).scaleb(-field.decimal_places))
