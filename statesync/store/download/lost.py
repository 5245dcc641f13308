"""What the hub had lost when it was restored, and only the quarantine of this device still had.

Such a record is in no table, so it cannot be offered again as other records are. It leaves quarantine for
what the hub has now, and is kept in the conflict log.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

import msgspec

from statesync.conflicts import Record
from statesync.store import conflict_log, quarantine
from statesync.store.conflict_log import Sides
from statesync.store.cursors import SEEN_KEYS
from statesync.store.download.decoding import ObjectPage, remote_of
from statesync.store.tracking.objects import TrackedObject
from statesync.wire import Entry


def log_replaced(connection: sqlite3.Connection, part: ObjectPage, held: Iterable[str], session: str) -> None:
    """Log the records in quarantine, ``held``, in whose place the restored hub sends others."""
    name, tracked = part.tracked.name, part.tracked
    entries = {entry.key: entry for entry in part.entries}
    for key, text in quarantine.texts(connection, name, held).items():
        ours, theirs = _record(tracked, text), _remote(tracked, entries.get(key))
        if ours != theirs:
            conflict_log.add(connection, session, name, key, Sides(None, ours, theirs, theirs))


def log_unseen(connection: sqlite3.Connection, tracked: TrackedObject, session: str) -> None:
    """Log the records in quarantine that the restored hub has not shown."""
    for key, text in quarantine.texts_of_those(connection, tracked.name, f"key NOT IN ({SEEN_KEYS})").items():
        sides = Sides(None, _record(tracked, text), None, None)
        conflict_log.add(connection, session, tracked.name, key, sides)


def _remote(tracked: TrackedObject, entry: Entry | None) -> Record | None:
    return None if entry is None else remote_of(tracked, entry)


def _record(tracked: TrackedObject, text: bytes) -> Record:
    """Return a record; of one of another shape, what is no single value stays JSON text."""
    try:
        return tracked.wire.read(text)
    except msgspec.MsgspecError:
        members = json.loads(text)
        return {
            name: json.dumps(value) if isinstance(value, list | dict) else value
            for name, value in members.items()
        }
