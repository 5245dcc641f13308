"""What the modelled hub keeps of a record, and which records a page may have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from attrs import frozen

from statesync.verify.modelled.answers import size
from statesync.verify.modelled.wire import Fields, Filter


@frozen(slots=False, cache_hash=True)
class Record:
    """One record; without ``data`` it is a tombstone."""

    object: str
    key: str
    version: int
    writer: str
    data: Fields | None


def as_many_as_fit(rows: Sequence[Record], limit: int, most: int) -> int:
    """Return how many of these a page may have: up to ``limit``, and none that begins past ``most`` bytes."""
    sizes = [0 if row.data is None else size(row.data) for row in rows[:limit]]
    return sum(before < most for before in [0, *accumulate(sizes)][: len(sizes)])


def matches(data: Fields, wanted: Filter | None) -> bool:
    """Tell whether a record passes a filter."""
    known = dict(data)
    return all(known.get(name) in values for name, values in wanted or ())
