"""The payload of a batch in one go, for most batches: records of one object whose values are as declared.

What needs a look at each record (a delete, a value that does not travel, a column that is spared, a size)
makes no payload here: ``drafts`` goes through such a batch one by one then. Both write the same bytes. Where
even the changes are alike (a run, ``outbox.queue``), nothing but the records is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import msgspec

from statesync.classes import frozen
from statesync.store.outbox.queue import Run, WaitingRow
from statesync.store.tracking.wire_form import WireForm
from statesync.wire import MAX_KEY_LENGTH, MAX_RECORD_BYTES

_INFINITE = frozenset({float("inf"), float("-inf")})

Rows = Sequence[tuple[Any, ...]]


class _Upsert(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """``wire.Change``, with a record that has not been written yet."""

    object: str
    key: str
    op: str
    base: int
    data: msgspec.Struct
    since: int = 0


@frozen
class Upserts:
    """Upserts of one object, by keys that travel."""

    object: str
    keys: tuple[str, ...]
    bases: Iterable[int]
    since: Iterable[int]


def upserts(rows: Iterable[WaitingRow]) -> Upserts | None:
    """Return what waits as upserts of one object, or None if one of them needs a look."""
    _, names, keys, operations, bases, since, *_ = zip(*rows, strict=True)
    is_of_one = names.count(names[0]) == len(names)
    if not is_of_one or "delete" in operations or not _are_plain_keys(keys):
        return None
    return Upserts(names[0], keys, bases, since)


def _are_plain_keys(keys: Sequence[Any]) -> bool:
    return (
        set(map(type, keys)) == {str}
        and min(map(len, keys)) > 0
        and max(map(len, keys)) <= MAX_KEY_LENGTH
        and "\0" not in "".join(keys)
    )


def payload(wire: WireForm, upserts: Upserts, rows: Rows) -> bytes | None:
    """Return the payload of upserts from their ``rows``, (key, values), or None if one needs a look.

    One of at most ``MAX_RECORD_BYTES`` has no record that is larger, and is no batch that is too large.
    """
    if len(rows) != len(upserts.keys):
        return None
    keys, *columns = zip(*rows, strict=True)
    if keys != upserts.keys:
        return None
    return _text(wire, upserts, columns)


def payload_of_run(wire: WireForm, run: Run, rows: Rows) -> bytes | None:
    """Return the payload of a run from the ``rows`` of all its records, or None if one needs a look."""
    keys, *columns = zip(*rows, strict=True)
    if not _are_plain_keys(keys):
        return None
    return _text(wire, Upserts(run.object, keys, repeat(run.base), repeat(run.since)), columns)


def _text(wire: WireForm, upserts: Upserts, columns: list[tuple[Any, ...]]) -> bytes | None:
    if not columns or not _can_travel(wire, columns):
        return None
    name, keys, bases, records = upserts.object, upserts.keys, upserts.bases, wire.records(columns)
    changes = map(_Upsert, repeat(name), keys, repeat("upsert"), bases, records, upserts.since)
    text = msgspec.json.encode(list(changes))
    return text if len(text) <= MAX_RECORD_BYTES else None


def _can_travel(wire: WireForm, columns: Iterable[tuple[Any, ...]]) -> bool:
    """Tell whether the values of all columns are of types that travel from there, and none is infinite."""
    for types, values in zip(wire.stored_types, columns, strict=True):
        found = set(map(type, values))
        if not found <= types or (float in found and not _INFINITE.isdisjoint(values)):
            return False
    return True
