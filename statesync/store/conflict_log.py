"""The conflict log: what the sides were, and what was kept. Owns ``statesync_conflict``."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from attrs import frozen

from statesync.conflicts import Record
from statesync.store.tracking.images import image_of, record_of_image
from statesync.values import ConflictEntry


@frozen
class Sides:
    """The record before the local change, here, at the hub, and as it was kept; None is no record."""

    base: Record | None
    local: Record | None
    remote: Record | None
    kept: Record | None


def add(connection: sqlite3.Connection, session: str, name: str, key: str, sides: Sides) -> None:
    """Log a conflict that was resolved now; in the transaction that stores what is kept."""
    images = map(image_of, (sides.base, sides.local, sides.remote, sides.kept))
    connection.execute(
        "INSERT INTO statesync_conflict (session, at, object, key, base, local, remote, kept) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (session, time.time(), name, key, *images),
    )


def entries(
    connection: sqlite3.Connection,
    *,
    session: str | None = None,
    objects: Iterable[str] | None = None,
    limit: int = 1000,
) -> list[ConflictEntry]:
    """Return the newest entries of the conflict log, oldest first; of a session, of objects, or all."""
    names = None if objects is None else json.dumps(list(objects))
    rows = connection.execute(
        "SELECT session, at, object, key, base, local, remote, kept FROM statesync_conflict "
        f"WHERE {'TRUE' if session is None else 'session = :session'} "
        "AND (:names IS NULL OR object IN (SELECT value FROM json_each(:names))) "
        "ORDER BY id DESC LIMIT :limit",
        {"session": session, "names": names, "limit": limit},
    ).fetchall()
    return [
        ConflictEntry(of, datetime.fromtimestamp(at, UTC), name, key, *map(record_of_image, sides))
        for of, at, name, key, *sides in reversed(rows)
    ]
