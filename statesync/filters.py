"""Filters: which records of an object a device wants. One value for options, store, wire, hub and test kit.

A filter names fields, and for each the values that it may have. A record passes if every named field has
one of its values; a field that is not there is null. Values compare as in JSON: 1 is 1.0, and true is not 1.
On the wire the field with the empty name, which no column can have, is the record's key.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from statesync.classes import frozen

Scalar = str | int | float | bool | None
"""What a filter can ask for."""

KEY = ""
"""The record's key as a field of a filter that travels: a hub knows a key, not what its column is called."""

WireFilter = dict[str, list[Scalar]]
"""A filter as it travels: a field and its values."""

MOST_FIELDS = 100
"""Fields that one filter may look at. A hub may allow less."""

MOST_VALUES = 10_000
"""Values that one filter may ask for, in all its fields together. A hub may allow less."""

_INFINITY = float("inf")

_Allowed = tuple[str, frozenset[Scalar], frozenset[Scalar]]


@frozen
class Filter:
    """Which records of one object are wanted; without fields it lets everything pass. Made by ``of``."""

    fields: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()

    @classmethod
    def of(cls, wanted: Mapping[str, object]) -> Filter:
        """Return the filter that a program means by ``{field: value or values}``.

        The same filter always looks the same, whatever the order. Raises ``ValueError`` for a value that no
        filter can ask for.
        """
        return cls(tuple((name, _in_order(_several(values))) for name, values in wanted.items()))

    @classmethod
    def from_text(cls, text: str | None) -> Filter:
        """Read what ``as_text`` returned."""
        return NO_FILTER if text is None else cls.from_wire(json.loads(text))

    @classmethod
    def from_wire(cls, wanted: Mapping[str, Iterable[Scalar]] | None) -> Filter:
        """Read what ``on_the_wire`` returned."""
        return cls(tuple((name, tuple(values)) for name, values in (wanted or {}).items()))

    @property
    def is_open(self) -> bool:
        """Whether it lets everything pass."""
        return not self.fields

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that it looks at."""
        return tuple(name for name, _ in self.fields)

    def on_the_wire(self) -> WireFilter | None:
        """Return the filter as it travels; None for one that lets everything pass."""
        return {name: list(values) for name, values in self.fields} or None

    def as_text(self) -> str | None:
        """Return the filter as a store keeps it; None for one that lets everything pass."""
        wanted = self.on_the_wire()
        return None if wanted is None else json.dumps(wanted, sort_keys=True)

    def passes(self, record: Mapping[str, Any], key: str | None = None) -> bool:
        """Tell whether a record has, in every field that is looked at, one of the values."""
        return all(
            _is_among(key if name == KEY else record.get(name), plain, truths)
            for name, plain, truths in self._allowed
        )

    @cached_property
    def _allowed(self) -> tuple[_Allowed, ...]:
        """Each field with its values: true and false apart, which Python takes for 1 and 0."""
        return tuple(
            (
                name,
                frozenset(value for value in values if not isinstance(value, bool)),
                frozenset(value for value in values if isinstance(value, bool)),
            )
            for name, values in self.fields
        )


NO_FILTER = Filter()
Filters = Mapping[str, Filter]
"""The filters of several objects, by the objects' names."""


def excess(wanted: Mapping[str, Collection[object]], most_fields: int, most_values: int) -> str | None:
    """Return in words what of a filter is over a limit; None if nothing is."""
    if len(wanted) > most_fields:
        return f"looks at {len(wanted)} fields, and the limit is {most_fields}; name fewer fields"
    values = sum(map(len, wanted.values()))
    if values > most_values:
        return f"asks for {values} values, and the limit is {most_values}; ask for fewer, or for all records"
    return None


def is_held(value: object) -> bool:
    """Tell whether a column can hold ``value``: whole numbers of 64 bits, or what a double says exactly."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63 or (abs(value) < 2**1024 and _as_double(value) == value)
    return not isinstance(value, float) or abs(value) < _INFINITY


def _several(values: object) -> Iterable[object]:
    return values if isinstance(values, list | tuple | set | frozenset) else (values,)


def _in_order(values: Iterable[object]) -> tuple[Scalar, ...]:
    unique: dict[tuple[str, str], Scalar] = {}
    for value in values:
        if not (value is None or isinstance(value, str | int | float)):
            raise ValueError(f"a filter can ask for text, numbers, booleans and None, not {value!r}")
        if not is_held(value):
            raise ValueError("a filter asks for a number that no column holds")
        unique[type(value).__name__, str(value)] = value
    return tuple(unique[name] for name in sorted(unique))


def _as_double(value: int) -> float:
    try:
        return float(value)
    except OverflowError:  # it would be rounded up to 2**1024
        return _INFINITY


def _is_among(value: object, plain: frozenset[Scalar], truths: frozenset[Scalar]) -> bool:
    # In Python true equals 1, in JSON it does not.
    if isinstance(value, bool):
        return value in truths
    return (value is None or isinstance(value, str | int | float)) and value in plain
