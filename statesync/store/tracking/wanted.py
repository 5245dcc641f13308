"""Which records of a tracked object are wanted: a program's filter, made fit for the object and the wire."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from statesync.errors import BadOptions, UnknownObject
from statesync.filters import KEY, Filter, Scalar
from statesync.store.tracking.description import BOOLEAN, Description


def fitted(wanted: Filter, of: Description) -> Filter:
    """Return the filter that a hub understands: the key by the wire's name for it, booleans as they travel.

    Raises ``BadOptions`` for a column that the object has not, and for a key that is no text.
    """
    kinds = {column.name: column.kind for column in of.columns}
    unknown = [name for name in wanted.names if name not in kinds and name != of.key]
    if unknown:
        raise BadOptions(
            f"the filter of {of.name} names {', '.join(unknown)}; its columns are: "
            f"{', '.join((of.key, *kinds))}"
        )
    fields = {
        KEY if name == of.key else name: _fitted_values(name, values, kinds.get(name), of)
        for name, values in wanted.fields
    }
    return Filter.of(fields)


def _fitted_values(
    name: str, values: tuple[Scalar, ...], kind: str | None, of: Description
) -> tuple[Scalar, ...]:
    if kind is None and not all(isinstance(value, str) for value in values):
        raise BadOptions(f"the filter of {of.name} asks for a key, {name}, that is no text")
    if kind != BOOLEAN:
        return values
    # SQLite keeps a boolean as a number, and a program may ask for either; it travels as true or false.
    return tuple(bool(value) if value in (0, 1) else value for value in values)


def check_names(filters: Mapping[str, Filter], names: Collection[str]) -> None:
    """Raise ``UnknownObject`` if one of ``filters`` is of no object of ``names``."""
    for name in filters:
        if name not in names:
            raise UnknownObject(f"the filter names {name}, which is not in this scope: {', '.join(names)}")
