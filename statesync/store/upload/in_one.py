"""The payload of a batch in one go, for most batches: records of one object whose values are as declared.

What needs a look at each record (a delete, a value that does not travel, a column that is spared, a size)
makes no payload here: ``drafts`` goes through such a batch one by one then. Both write the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

import msgspec

from statesync.store.outbox.queue import Waiting
from statesync.store.tracking.wire_form import WireForm
from statesync.wire import MAX_KEY_LENGTH, MAX_RECORD_BYTES

_INFINITE = frozenset({float("inf"), float("-inf")})

Rows = Sequence[tuple[Any, ...]]


class _Upsert(msgspec.Struct, frozen=True, omit_defaults=True):
    """``wire.Change``, with a record that has not been written yet."""

    object: str
    key: str
    op: str
    base: int
    data: msgspec.Struct
    since: int = 0


def are_upserts(waiting: Iterable[Waiting]) -> bool:
    """Tell whether changes are upserts of one object, by keys that travel."""
    _, names, keys, operations, *_ = zip(*waiting, strict=True)
    return len(set(names)) == 1 and "delete" not in operations and _are_plain_keys(keys)


def _are_plain_keys(keys: Sequence[Any]) -> bool:
    return (
        set(map(type, keys)) == {str}
        and "" not in keys
        and max(map(len, keys)) <= MAX_KEY_LENGTH
        and "\0" not in "".join(keys)
    )


def payload(wire: WireForm, waiting: Sequence[Waiting], rows: Rows) -> bytes | None:
    """Return the payload of upserts from their ``rows``, (key, values), or None if one needs a look.

    One of at most ``MAX_RECORD_BYTES`` has no record that is larger, and is no batch that is too large.
    """
    keys = list(map(itemgetter(2), waiting))
    if list(map(itemgetter(0), rows)) != keys:
        return None
    columns = list(zip(*rows, strict=True))[1:]
    if not columns or not _are_stored_types(wire, columns):
        return None
    bases, since = map(itemgetter(4), waiting), map(itemgetter(5), waiting)
    name, records = waiting[0].object, wire.records(columns)
    upserts = map(_Upsert, repeat(name), keys, repeat("upsert"), bases, records, since)
    text = msgspec.json.encode(list(upserts))
    # An infinite number has been written as null.
    if len(text) > MAX_RECORD_BYTES or (b"null" in text and _has_infinite(columns)):
        return None
    return text


def _are_stored_types(wire: WireForm, columns: Iterable[Iterable[object]]) -> bool:
    """Tell whether the values of all columns are of types that travel from there."""
    return all(
        types.issuperset(map(type, values)) for types, values in zip(wire.stored_types, columns, strict=True)
    )


def _has_infinite(columns: Iterable[Iterable[object]]) -> bool:
    return not _INFINITE.isdisjoint(chain.from_iterable(columns))
