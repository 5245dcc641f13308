"""Reading an object from the start again, as its cursor has it: begun, begun anew, and ended."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from statesync.store import bases, quarantine
from statesync.store.cursors.cursor import COLUMNS, EPOCH, EVERYTHING, UNKNOWN, UNLOGGED, Cursor


def start_over(connection: sqlite3.Connection, name: str, why: str) -> None:
    """Let an object be read from the start; what a scan has read that is not done becomes a floor.

    A read after a new epoch that has not ended stays one: it alone offers again what the hub has lost. One
    for writes that are not logged does that too, and stays one as well. What a read that has not ended has
    come past says nothing of deletes of records that it had not met.
    """
    forget_seen(connection, name)
    if why in (EPOCH, EVERYTHING):
        bases.forget(connection, name)
    if why == EVERYTHING:
        quarantine.forget(connection, name)
    before = _cursor_of(connection, name)
    floors = "[]" if before is None or why == EVERYTHING else before.floors_after()
    connection.execute(
        "UPDATE statesync_cursor SET cursor = 0, begun = 0, since = 0, after = '', until = '', "
        "floors = :floors, "
        "reread_from = CASE WHEN cursor = 0 THEN reread_from ELSE max(cursor, reread_from) END, "
        "missed_from = CASE WHEN rereading IS NULL OR rereading = :all THEN cursor ELSE missed_from END, "
        "rereading = CASE WHEN :why = :all THEN :why WHEN rereading = :unlogged THEN rereading "
        "WHEN rereading = :epoch AND :why <> :unlogged THEN rereading ELSE :why END "
        "WHERE object = :name",
        {
            "why": why,
            "name": name,
            "floors": floors,
            "epoch": EPOCH,
            "all": EVERYTHING,
            "unlogged": UNLOGGED,
        },
    )


def _cursor_of(connection: sqlite3.Connection, name: str) -> Cursor | None:
    row = connection.execute(f"SELECT {COLUMNS} FROM statesync_cursor WHERE object = ?", (name,)).fetchone()
    return None if row is None else Cursor(*row)


def read_range(connection: sqlite3.Connection, name: str, after: str, until: str) -> None:
    """Let the records behind one key, up to another, be read again as they were at the cursor.

    The object is one whose feed is followed: nothing else of it is read again.
    """
    connection.execute(
        "UPDATE statesync_cursor SET since = cursor, after = ?, until = ? "
        "WHERE object = ? AND cursor > 0 AND since = 0 AND begun = 0 AND rereading IS NULL",
        (after, until, name),
    )


def forget_above(connection: sqlite3.Connection, name: str, version: int) -> None:
    """Say that nobody knows how far an object was read before, if that was further than ``version``.

    It is read from the start, and those records are there in no version that means anything.
    """
    before = _cursor_of(connection, name)
    if before is None:
        return
    floors = [floor for floor in before.tops if floor[1] <= version]
    is_unknown = before.reread_from > version or len(floors) < len(before.tops)
    connection.execute(
        "UPDATE statesync_cursor SET reread_from = ?, missed_from = ?, floors = ? WHERE object = ?",
        (
            UNKNOWN if is_unknown else before.reread_from,
            0 if before.missed_from > version else before.missed_from,
            json.dumps(floors),
            name,
        ),
    )


def restart_rereads(connection: sqlite3.Connection) -> None:
    """Begin anew to read the objects that are being read from the start: what they have met is unknown."""
    rows = connection.execute("SELECT object, rereading FROM statesync_cursor WHERE rereading IS NOT NULL")
    for name, why in rows.fetchall():
        start_over(connection, name, why)


def add_unread(connection: sqlite3.Connection, name: str, columns: Iterable[str]) -> frozenset[str]:
    """Note that an object has new columns, if anything of it was read before they came.

    The hub may have values for them. Until these are read, what the device has there is its own. Returns all
    such columns of the object.
    """
    row = connection.execute(
        "SELECT unread FROM statesync_cursor "
        "WHERE object = ? AND (cursor > 0 OR since > 0 OR rereading IS NOT NULL)",
        (name,),
    ).fetchone()
    if row is None:
        return frozenset()
    unread = frozenset(columns).union(json.loads(row[0] or "[]"))
    connection.execute(
        "UPDATE statesync_cursor SET unread = ? WHERE object = ?", (json.dumps(sorted(unread)), name)
    )
    return unread


def unread(connection: sqlite3.Connection, name: str) -> frozenset[str]:
    """Return the columns of an object whose values the hub has not shown yet."""
    row = connection.execute("SELECT unread FROM statesync_cursor WHERE object = ?", (name,)).fetchone()
    return frozenset(json.loads(row[0])) if row is not None and row[0] is not None else frozenset()


def distrust(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Set cursors to zero that no hub has given, and forget how far they had come."""
    for name in names:
        bases.forget(connection, name)
        connection.execute(
            "UPDATE statesync_cursor SET cursor = 0, begun = 0, since = 0, after = '', until = '', "
            "floors = '[]', reread_from = 0, missed_from = 0 WHERE object = ?",
            (name,),
        )


def note_seen(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> None:
    """Remember the keys that a read from the start has met."""
    connection.executemany(
        "INSERT OR IGNORE INTO statesync_seen VALUES (?, ?)", ((name, key) for key in keys)
    )


def end_reread(connection: sqlite3.Connection, name: str) -> None:
    """Say that a read from the start has come to its end."""
    forget_seen(connection, name)
    connection.execute(
        "UPDATE statesync_cursor SET rereading = NULL, reread_from = 0, missed_from = 0, floors = '[]', "
        "unread = NULL WHERE object = ?",
        (name,),
    )


def forget_seen(connection: sqlite3.Connection, name: str) -> None:
    """Forget the keys that a read from the start has met."""
    connection.execute("DELETE FROM statesync_seen WHERE object = ?", (name,))
