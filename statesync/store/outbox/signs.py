"""Signs of the outbox by which is seen, without a look at what is in it, whether something has come to it."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from statesync.store.file.reading import read
from statesync.store.outbox import settled
from statesync.store.outbox.settled import WAITING
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main


class OutboxSign(NamedTuple):
    """How many changes wait, and the positions of the last one there is, and of the last there ever was.

    Whoever folds a row of a log gives a position out, also where its record has one: so ``ever`` moves with
    every fold, whatever comes of it.
    """

    waiting: int
    last: int
    ever: int


def of_outbox(connection: sqlite3.Connection) -> OutboxSign:
    """Return the sign of all that waits."""
    row = connection.execute(
        f"SELECT {settled.COUNT_WAITING}, (SELECT ifnull(max(position), 0) FROM {WAITING}), "
        "ifnull((SELECT seq FROM main.sqlite_sequence WHERE name = 'statesync_change'), 0)"
    ).fetchone()
    return OutboxSign(*row)


def rows_logged(connection: sqlite3.Connection, tracked: TrackedObject) -> int:
    """Return how many rows an object's log has: it grows at its end, and is emptied whole."""
    row = connection.execute(f"SELECT ifnull(max(rowid), 0) FROM {in_main(tracked.log)}").fetchone()
    return int(row[0])


def keys_logged(
    connection: sqlite3.Connection, tracked: TrackedObject, after: int, up_to: int
) -> list[object]:
    """Return the keys of the records that some rows of a log are of."""
    sql = f"SELECT DISTINCT key FROM {in_main(tracked.log)} WHERE rowid > ? AND rowid <= ?"
    rows = read(connection, lambda: connection.execute(sql, (after, up_to)).fetchall())
    return [key for (key,) in rows]
