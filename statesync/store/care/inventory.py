"""What the device believes that the hub has: its records, without pending changes and what is local only.

Both are known already, and are no differences to be found. So such a record counts as the hub should have it,
and so does one in quarantine.
A record whose key is no text has never been on a hub, and is left out.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from statesync import digest
from statesync.store import local_only, quarantine
from statesync.store.file.reading import read
from statesync.store.outbox.lookup import records_before
from statesync.store.tracking.description import BLOB, BOOLEAN, Column
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, quoted


def keys_cut(connection: sqlite3.Connection, tracked: TrackedObject, size: int) -> list[str]:
    """Return the keys at which ranges of about ``size`` records begin, the first one being empty.

    No range begins at a key with a NUL, which no hub takes.
    """
    key, table = f"{quoted(tracked.key)} COLLATE BINARY", in_main(tracked.table)
    sql = (
        f"SELECT key FROM (SELECT {key} AS key, row_number() OVER (ORDER BY {key}) AS place FROM {table}) "
        "WHERE place % ? = 0 ORDER BY key COLLATE BINARY"
    )
    rows = read(connection, lambda: connection.execute(sql, (size,)).fetchall())
    return ["", *(found for (found,) in rows if isinstance(found, str) and "\0" not in found)]


def tallies(
    connection: sqlite3.Connection, tracked: TrackedObject, bounds: Sequence[str]
) -> list[digest.Sum]:
    """Return the tally of each range of keys, the last one open at its end."""

    def summed() -> list[digest.Sum]:
        found = _digests(connection, tracked, bounds[0], None)
        return digest.sums(len(bounds), ((bisect_right(bounds, key) - 1, each) for key, each in found))

    return read(connection, summed)


def digests(
    connection: sqlite3.Connection, tracked: TrackedObject, low: str, until: str | None
) -> dict[str, int]:
    """Return the digests of the records from ``low`` to before ``until``, as the hub should have them."""
    return read(connection, lambda: dict(_digests(connection, tracked, low, until)))


def _digests(
    connection: sqlite3.Connection, tracked: TrackedObject, low: str, until: str | None
) -> Iterator[tuple[str, int]]:
    key = f"{quoted(tracked.key)} COLLATE BINARY"
    names = ", ".join(quoted(name) for name in (tracked.key, *tracked.column_names))
    within = f"{key} >= :low AND (:until IS NULL OR {key} < :until)"
    bounds = {"low": low, "until": until}
    # A text that is no UTF-8 is encoded as an object: no hub has such a value, so the record differs.
    local = local_only.records(connection, tracked.name, low, until)
    taken_back = local | records_before(connection, tracked.name, low, until)
    held = quarantine.records(connection, tracked.name, low, until)
    shown = _shown_as(tracked)
    for found, *values in connection.execute(
        f"SELECT {names} FROM {in_main(tracked.table)} WHERE {within}", bounds
    ):
        if not isinstance(found, str) or found in held:
            continue
        if found not in taken_back:
            yield found, digest.of_record(found, shown(values))
            continue
        record = taken_back.pop(found)
        if record is not None:  # columns that came after the change was made are as they are
            before = zip(tracked.column_names, values, strict=True)
            yield found, digest.of_record(found, shown([record.get(name, value) for name, value in before]))
    for found, record in taken_back.items():
        if record is not None and found not in held:
            yield found, digest.of_record(found, shown([record.get(name) for name in tracked.column_names]))

    for found, text in held.items():
        if text is not None:
            travelled = quarantine.as_travelled(text)
            yield found, digest.of_record(found, [travelled.get(name) for name in tracked.column_names])


_MOST = 8
"""As many columns of a record are looked at one by one: that is 256 digests."""


def without_filled_in(connection: sqlite3.Connection, tracked: TrackedObject, key: str) -> Iterator[int]:
    """Yield the digests that a record has where columns that the device may have filled in are empty.

    A record of the hub that was written before a column came has nothing there.
    """
    wanted = json.dumps([key])
    row = read(connection, lambda: connection.execute(tracked.sql.select, (wanted,)).fetchone())
    if row is None:
        return
    known = read(connection, lambda: records_before(connection, tracked.name, key, key + "\0"))
    before = known.get(key) or {}
    now = dict(zip(tracked.column_names, row[1:], strict=True))
    values = [before.get(name, value) for name, value in now.items()]
    shown = _shown_as(tracked)
    filled = [at for at, one in enumerate(tracked.columns) if _may_be_filled_in(one, values[at])][-_MOST:]
    for count in range(1, len(filled) + 1):
        for empty in combinations(filled, count):
            kept = [None if place in empty else value for place, value in enumerate(values)]
            yield digest.of_record(key, shown(kept))


def _may_be_filled_in(column: Column, value: object) -> bool:
    is_default = column.default is not None and value == column.default
    return value is not None and (column.is_filled or is_default)


def _shown_as(tracked: TrackedObject) -> Any:
    """Return a function that turns stored values into those that travel: real booleans, blobs in base64."""
    blobs = [place for place, column in enumerate(tracked.columns) if column.kind == BLOB]
    booleans = [place for place, column in enumerate(tracked.columns) if column.kind == BOOLEAN]
    if not blobs and not booleans:
        return lambda values: values

    def shown(values: list[Any]) -> list[Any]:
        for place in blobs:
            if isinstance(values[place], bytes):
                values[place] = base64.b64encode(values[place]).decode()
        for place in booleans:
            if values[place] is not None:
                values[place] = bool(values[place])
        return values

    return shown
