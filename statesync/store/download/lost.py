"""What the hub had lost when it was restored, and only the quarantine of this device still had.

Such a record is in no table, so it cannot be offered again as other records are. It leaves quarantine for
what the hub has now, and is kept in the conflict log.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

import msgspec

from statesync.conflicts import Record
from statesync.store import conflict_log, quarantine
from statesync.store.conflict_log import Sides
from statesync.store.tracking.objects import TrackedObject


def log_replaced(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    remotes: Mapping[str, Record | None],
    session: str,
) -> None:
    """Log the records in quarantine in whose place the restored hub sends others, ``remotes``."""
    for key, text in quarantine.texts(connection, tracked.name, remotes).items():
        ours, theirs = _record(tracked, text), remotes[key]
        if ours != theirs:
            conflict_log.add(connection, session, tracked.name, key, Sides(None, ours, theirs, theirs))


def log_unseen(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    unseen: str,
    known: Mapping[str, object],
    session: str,
) -> None:
    """Log the records in quarantine that the restored hub has not shown, which ``unseen`` picks."""
    for key, text in quarantine.texts_of_those(connection, unseen, known).items():
        sides = Sides(None, _record(tracked, text), None, None)
        conflict_log.add(connection, session, tracked.name, key, sides)


def _record(tracked: TrackedObject, text: bytes) -> Record:
    """Return a record; of one of another shape, what is no single value stays JSON text."""
    try:
        return tracked.wire.read(text)
    except msgspec.MsgspecError:
        members = quarantine.as_travelled(text)
        return {
            name: json.dumps(value) if isinstance(value, list | dict) else value
            for name, value in members.items()
        }
