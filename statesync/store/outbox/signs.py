"""Signs of the outbox by which is seen, without a look at what is in it, whether something has come to it."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from attrs import frozen

from statesync.store.file.reading import read
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main


class OutboxSign(NamedTuple):
    """How many changes wait, and the positions of the last one there is, and of the last there ever was."""

    waiting: int
    last: int
    ever: int


Standing = tuple[int, int] | None
"""The position and revision of a record's change, None if it has none."""


@frozen
class LogSign:
    """How many rows a log has, the key of the last one, and how its record stands in the outbox.

    Whoever folds the log moves the latter, or gives a new position out.
    """

    rows: int
    key: bytes = b""
    standing: Standing = None


def of_outbox(connection: sqlite3.Connection) -> OutboxSign:
    """Return the sign of all that waits."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM statesync_change), "
        "(SELECT ifnull(max(position), 0) FROM statesync_change), "
        "ifnull((SELECT seq FROM main.sqlite_sequence WHERE name = 'statesync_change'), 0)"
    ).fetchone()
    return OutboxSign(*row)


def of_log(connection: sqlite3.Connection, tracked: TrackedObject) -> LogSign:
    """Return the sign of an object's log."""
    last = connection.execute(
        f"SELECT rowid, CAST(key AS BLOB) FROM {in_main(tracked.log)} ORDER BY rowid DESC LIMIT 1"
    ).fetchone()
    if last is None:
        return LogSign(0)
    rows, key = last
    return LogSign(rows, key, standing_of(connection, tracked.name, key))


def standing_of(connection: sqlite3.Connection, name: str, key: bytes) -> Standing:
    """Return how the record of a key, given by its bytes, stands in the outbox."""
    standing: Standing = connection.execute(
        "SELECT position, revision FROM statesync_change WHERE object = ? AND key = CAST(? AS TEXT)",
        (name, key),
    ).fetchone()
    return standing


def keys_logged(
    connection: sqlite3.Connection, tracked: TrackedObject, after: int, up_to: int
) -> list[object]:
    """Return the keys of the records that some rows of a log are of."""
    sql = f"SELECT DISTINCT key FROM {in_main(tracked.log)} WHERE rowid > ? AND rowid <= ?"
    rows = read(connection, lambda: connection.execute(sql, (after, up_to)).fetchall())
    return [key for (key,) in rows]
