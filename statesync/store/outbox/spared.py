"""Writes and columns that do not concern each other: what a change leaves as the hub has it.

An object gets new columns while its changes wait, and while the hub may have values for them. So a change has
``spared`` columns: those that the device has only filled in. They do not go up until they are written.
"""

from __future__ import annotations

import json
import sqlite3

from statesync.conflicts import Record
from statesync.store.cursors import rereads
from statesync.store.file.reading import StoredKey, read
from statesync.store.outbox.settled import WAITING
from statesync.store.tracking.images import image_of, image_sql, record_of_image
from statesync.store.tracking.log import KEPT, log_columns
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted

LEAST_BASE = 1
"""The base of a change of a known record of which the device had seen nothing."""


def untold_keys(connection: sqlite3.Connection, tracked: TrackedObject) -> str | None:
    """Return the statement that finds the records of a log none of whose rows tells of a tracked column.

    None if the table has tracked columns alone: there every write counts. A column that is not tracked, or
    not yet, may have been written: a migration by hand fills in a new one.
    """
    found = {
        name.lower(): hidden
        for name, hidden in connection.execute(
            "SELECT name, hidden FROM pragma_table_xinfo(?, 'main')", (tracked.table,)
        )
    }
    known = {name.lower() for name in (tracked.key, *tracked.column_names)}
    if not known <= found.keys() or not any(
        not hidden and name not in known for name, hidden in found.items()
    ):
        return None
    same = "".join(
        f" AND now.{quoted(name)} COLLATE BINARY IS log.{was} "
        f"AND typeof(now.{quoted(name)}) = typeof(log.{was})"
        for name, was in zip(tracked.column_names, log_columns(tracked), strict=True)
    )
    row = f"{in_main(tracked.table)} AS now ON {is_key(f'now.{quoted(tracked.key)}', 'log.key')}"
    rows = f"SELECT log.key FROM {in_main(tracked.log)} AS log JOIN {row} WHERE"
    # The first row of a record need not tell how it was: a program's trigger may write within a write, and
    # its write is logged before the one that it is part of.
    # An insert that replaces tells nothing by itself: what was in its way comes first.
    first = f"SELECT key, changed, known, min(rowid) FROM {in_main(tracked.log)} GROUP BY key"
    replaced = f"SELECT key FROM ({first}) WHERE changed <= {KEPT} AND known"
    told = f"NOT (log.known{same}) AND (log.known OR log.key NOT IN ({replaced}))"
    return f"{rows} log.known{same} EXCEPT {rows} {told}"


def drop_untold(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Drop from an object's log what tells of no tracked column. Runs before the log is folded."""
    untold = untold_keys(connection, tracked)
    if untold is not None:
        connection.execute(f"DELETE FROM {in_main(tracked.log)} WHERE key IN ({untold})")


def note_spared(connection: sqlite3.Connection, tracked: TrackedObject, before: int) -> None:
    """Say which columns the changes that were folded last leave as the hub has them.

    ``before`` is the position of the last change that had been there. Runs before the log is emptied.
    """
    unread = rereads.unread(connection, tracked.name)
    if not unread and not _has_spared(connection, tracked.name):
        return
    changes = (
        f"SELECT position, spared, image, key FROM {WAITING} "
        "WHERE object = :object AND image IS NOT NULL AND (spared IS NOT NULL OR :unread AND position > "
        ":before)"
    )
    of = {"object": tracked.name, "unread": bool(unread), "before": before}
    rows = read(connection, lambda: connection.execute(changes, of).fetchall())
    written = _written_columns(connection, tracked)
    for position, spared, image, key in rows:
        if key not in written:
            continue
        kept = unread if spared is None else frozenset(json.loads(spared))
        old, changed = written[key]
        record = record_of_image(image) or {}
        for name in kept & changed:
            record.setdefault(name, old[name])
        if unread & changed:  # whatever the hub has there, this device had not seen it
            connection.execute(
                "UPDATE statesync_change SET since = max(since, base), base = min(base, ?) "
                "WHERE position = ?",
                (LEAST_BASE, position),
            )
        left = kept - changed
        for name in left:
            record.pop(name, None)
        connection.execute(
            "UPDATE statesync_change SET spared = ?, image = ? WHERE position = ?",
            (json.dumps(sorted(left)) if left else None, image_of(record), position),
        )


def keys_of_unseen(connection: sqlite3.Connection, tracked: TrackedObject) -> frozenset[StoredKey]:
    """Return the logged records of which a column was written that this device has not read so far.

    Whatever the hub has there, the device had not seen it: ``note_spared`` takes their base down.
    """
    unread = rereads.unread(connection, tracked.name)
    if not unread:
        return frozenset()
    written = _written_columns(connection, tracked)
    return frozenset(key for key, (_, changed) in written.items() if unread & changed)


def _has_spared(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether any change of an object leaves columns as the hub has them."""
    found = connection.execute(
        f"SELECT 1 FROM {WAITING} WHERE object = ? AND spared IS NOT NULL LIMIT 1", (name,)
    )
    return found.fetchone() is not None


def _written_columns(
    connection: sqlite3.Connection, tracked: TrackedObject
) -> dict[StoredKey, tuple[Record, frozenset[str]]]:
    """Return of each logged record what it was before, and the columns that are other now."""
    names = ", ".join(f"now.{quoted(name)}" for name in tracked.column_names)
    image = image_sql(tracked, "first")
    statement = f"SELECT first.key, {image}, {names} {_first_and_now(tracked)} WHERE first.known"
    rows = read(connection, lambda: connection.execute(statement).fetchall())
    found = {}
    for key, image, *values in rows:
        old = record_of_image(image) or {}
        now = tracked.record_of(tuple(values))
        found[key] = (old, frozenset(name for name in old if not _is_same(old[name], now[name])))
    return found


def _is_same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _first_and_now(tracked: TrackedObject) -> str:
    """Return the part of a statement that joins each record's first row of the log with its row of today."""
    log, key = in_main(tracked.log), f"now.{quoted(tracked.key)}"
    return (
        f"FROM (SELECT min(rowid) AS place FROM {log} GROUP BY key) AS start "
        f"JOIN {log} AS first ON first.rowid = start.place "
        f"JOIN {in_main(tracked.table)} AS now ON {is_key(key, 'first.key')}"
    )
