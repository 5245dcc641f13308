"""The conflict log: what the sides were, and what was kept or has to be decided. Owns ``statesync_conflict``.

An entry that waits has its sides as they were when it came up; what they are now, the outbox knows.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from statesync.checks import LARGEST
from statesync.classes import frozen
from statesync.conflicts import Record
from statesync.store.tracking.images import image_of, record_of_image
from statesync.values import ConflictEntry

TABLE = "statesync_conflict"


@frozen
class Sides:
    """The record before the local change, here, at the hub, and as it was kept; None is no record."""

    base: Record | None
    local: Record | None
    remote: Record | None
    kept: Record | None

    @property
    def images(self) -> tuple[str | None, ...]:
        """The four as the log keeps them."""
        return tuple(map(image_of, (self.base, self.local, self.remote, self.kept)))


def add(connection: sqlite3.Connection, session: str, name: str, key: str, sides: Sides) -> None:
    """Log a conflict that was resolved now; in the transaction that stores what is kept."""
    _insert(connection, session, name, key, sides, waits=False)


def let_wait(connection: sqlite3.Connection, session: str, name: str, key: str, sides: Sides) -> None:
    """Log a conflict that has to be decided; in the transaction that lets its change wait."""
    connection.execute(  # one that was given up has not been decided, and is no longer the one that waits
        "DELETE FROM statesync_conflict WHERE object = ? AND key = ? AND waits = 1", (name, key)
    )
    _insert(connection, session, name, key, sides, waits=True)


def _insert(
    connection: sqlite3.Connection, session: str, name: str, key: str, sides: Sides, *, waits: bool
) -> None:
    connection.execute(
        "INSERT INTO statesync_conflict (session, at, object, key, base, local, remote, kept, waits) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (session, time.time(), name, key, *sides.images, waits),
    )


def settle(connection: sqlite3.Connection, name: str, key: str, sides: Sides) -> None:
    """Say what was kept of the record whose conflict waits."""
    connection.execute(
        "UPDATE statesync_conflict SET base = ?, local = ?, remote = ?, kept = ?, waits = 0 "
        "WHERE object = ? AND key = ? AND waits = 1",
        (*sides.images, name, key),
    )


def count_waiting(connection: sqlite3.Connection) -> int:
    """Return how many conflicts wait, of all objects."""
    return int(connection.execute("SELECT count(*) FROM statesync_conflict WHERE waits = 1").fetchone()[0])


def forget_waiting(connection: sqlite3.Connection, name: str) -> None:
    """Forget what waits of an object, because its changes are forgotten."""
    connection.execute("DELETE FROM statesync_conflict WHERE object = ? AND waits = 1", (name,))


_ENTRY = "SELECT id, session, at, object, key, base, local, remote, kept, waits FROM statesync_conflict"


def entries(
    connection: sqlite3.Connection,
    *,
    session: str | None = None,
    objects: Iterable[str] | None = None,
    waiting: bool | None = None,
    limit: int = 1000,
) -> list[ConflictEntry]:
    """Return the newest entries of the conflict log, oldest first; of a session, of objects, or all.

    ``waiting`` picks those that wait, or those that are settled.
    """
    names = None if objects is None else json.dumps(list(objects))
    rows = connection.execute(
        f"{_ENTRY} WHERE {'TRUE' if session is None else 'session = :session'} "
        f"AND {'TRUE' if waiting is None else 'waits = 1' if waiting else 'waits = 0'} "
        "AND (:names IS NULL OR object IN (SELECT value FROM json_each(:names))) "
        "ORDER BY id DESC LIMIT :limit",
        {"session": session, "names": names, "limit": limit},
    ).fetchall()
    return [_entry(*row) for row in reversed(rows)]


def find(connection: sqlite3.Connection, number: int) -> ConflictEntry | None:
    """Return one entry by its id, None if there is none."""
    if abs(number) > LARGEST:  # SQLite cannot be asked for it
        return None
    row = connection.execute(f"{_ENTRY} WHERE id = ?", (number,)).fetchone()
    return None if row is None else _entry(*row)


def _entry(
    number: int,
    session: str,
    at: float,
    name: str,
    key: str,
    base: str | None,
    local: str | None,
    remote: str | None,
    kept: str | None,
    waits: int,
) -> ConflictEntry:
    return ConflictEntry(
        number,
        session,
        datetime.fromtimestamp(at, UTC),
        name,
        key,
        record_of_image(base),
        record_of_image(local),
        record_of_image(remote),
        record_of_image(kept),
        waiting=bool(waits),
    )
