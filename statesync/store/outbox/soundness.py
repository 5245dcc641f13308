"""Whether the outbox agrees with the records and the journal, and setting it right where it does not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import quoted

_STRAY = "batch IS NOT NULL AND batch NOT IN (SELECT value FROM json_each(?))"


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many changes are kept of each object, tracked or not."""
    return dict(
        connection.execute("SELECT object, count(*) FROM statesync_change GROUP BY object").fetchall()
    )


def count_stray(connection: sqlite3.Connection, awaited: Iterable[str]) -> int:
    """Return how many changes wait for a batch other than those ``awaited``, given by their wire ids."""
    row = connection.execute(
        f"SELECT count(*) FROM statesync_change WHERE {_STRAY}", (json.dumps(list(awaited)),)
    ).fetchone()
    return int(row[0])


def release_stray(connection: sqlite3.Connection, awaited: Iterable[str]) -> None:
    """Set changes free that wait for a batch other than those ``awaited``."""
    connection.execute(
        f"UPDATE statesync_change SET batch = NULL, sent = NULL WHERE {_STRAY}",
        (json.dumps(list(awaited)),),
    )


def count_contradictions(connection: sqlite3.Connection, tracked: TrackedObject) -> int:
    """Return how many changes of an object have an operation that contradicts their record."""
    row = connection.execute(f"SELECT count(*) {_contradicting(tracked)}", (tracked.name,)).fetchone()
    return int(row[0])


def mend_contradictions(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Give those changes the operation that fits their record. In a transaction that has folded."""
    connection.execute(
        "UPDATE statesync_change SET revision = revision + 1, operation = CASE "
        "WHEN operation <> 'delete' THEN 'delete' WHEN image IS NULL THEN 'insert' ELSE 'update' END "
        f"WHERE position IN (SELECT change.position {_contradicting(tracked)})",
        (tracked.name,),
    )


def _contradicting(tracked: TrackedObject) -> str:
    key = quoted(tracked.key)
    return (
        f"FROM statesync_change AS change LEFT JOIN {quoted(tracked.table)} AS now ON now.{key} = change.key "
        f"WHERE change.object = ? AND (change.operation = 'delete') <> (now.{key} IS NULL) "
        f"AND NOT EXISTS (SELECT 1 FROM {quoted(tracked.log)} AS later WHERE later.key = change.key)"
    )
