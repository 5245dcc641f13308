"""Folding what was written in ``untracked()``: it becomes local only, not a change.

A change that waits already stays, and goes up with what its record is then. Only the insert or update of a
record that is gone now is forgotten: there is nothing left to send, and a delete would reach the hub.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from statesync.store import local_only
from statesync.store.cursors import applied
from statesync.store.outbox import changes, under_way
from statesync.store.outbox.lookup import NO_RECORD, PENDING_KEYS
from statesync.store.outbox.proof import written
from statesync.store.outbox.settled import WAITING
from statesync.store.tracking.objects import TrackedObject


def keep_local(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Let what was logged of an object be local only. In a transaction, which empties the log next."""
    under_way.spread(connection)
    known: dict[str, object] = {"object": tracked.name, **_versions(connection, tracked.name)}
    local_only.keep_those(connection, _exempted(tracked), known)
    changes.drop_gone(connection, tracked.name, f"SELECT key FROM ({written(tracked)}) WHERE gone", known)
    local_only.tidy(connection, tracked, PENDING_KEYS)


def _versions(connection: sqlite3.Connection, name: str) -> Mapping[str, int]:
    """Return up to where the hub's versions are known, of records that were here and of others.

    A read from the start knows again what it had read before; a filter may have hidden what was not here.
    """
    cursor = applied.cursors(connection, [name]).get(name)
    if cursor is None:
        return {"cursor": 0, "read": 0}
    return {"cursor": cursor.position, "read": max(cursor.position, cursor.reread_from)}


def _exempted(tracked: TrackedObject) -> str:
    """Select (object, key, version, image) of what is local only now: image is what the hub may have.

    Of a record that was new, and was sent or offered again, the hub may have what was here before the write.
    """
    may_be_there = "change.operation <> 'delete' AND (change.batch IS NOT NULL OR change.shared)"
    return (
        "SELECT :object, key, CASE WHEN image IS NULL THEN :cursor ELSE :read END, image FROM ("
        "SELECT first.key AS key, CASE WHEN change.key IS NULL THEN first.image "
        f"WHEN change.theirs = '{NO_RECORD}' THEN NULL "
        "ELSE coalesce(change.theirs, change.image, "
        f"CASE WHEN {may_be_there} THEN first.image END) END AS image "
        f"FROM ({written(tracked)}) AS first LEFT JOIN {WAITING} AS change "
        "ON change.object = :object AND change.key = first.key "
        "WHERE change.operation IS NOT 'delete' OR NOT first.gone) WHERE TRUE"
    )
