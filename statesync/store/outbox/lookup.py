"""Looking single changes up: by their records, by their batch, by the session that could not send them.

Only reads, and never folds.
"""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

from statesync.conflicts import Record
from statesync.store.file.reading import StoredKey, UnreadableText, key_for_people, read
from statesync.store.outbox import shared
from statesync.store.outbox.settled import WAITING
from statesync.store.outbox.under_way import BATCH, SENT
from statesync.store.tracking.images import record_of_image
from statesync.values import RecordError

PENDING_KEYS = f"SELECT key FROM {WAITING} WHERE object = :object"
"""The keys of an object's records with a pending change, as a part of a statement."""

NO_RECORD = "null"
"""The hub's image of a record that it has deleted; no image at all means that it sent none."""


class Change(NamedTuple):
    """One change with what the record was before it, and what the hub has sent of it since.

    ``batch`` is the wire id of the batch that it went up with, None if it is not under way. ``contested`` is
    the version of the hub's record if the change waits for a decision between both. ``base`` is how far the
    hub had been read when the record was changed. ``shared`` and ``error`` say what any hub may know of it,
    and what keeps it here.
    """

    position: int
    object: str
    key: StoredKey
    image: str | UnreadableText | None
    remote_image: str | None
    batch: str | None
    contested: int | None
    base: int
    shared: int
    error: str | None

    @property
    def may_be_at_hub(self) -> bool:
        """Whether a hub may have taken what is here, and has not said so: the record before is not known."""
        is_sent = self.shared >= shared.SENT and self.remote_image is None and self.error is None
        return self.batch is not None or is_sent

    @property
    def remote(self) -> Record | None:
        """The record that the hub has sent since; None is a delete, or nothing."""
        return _record_of(self.remote_image)

    @property
    def made_the_record(self) -> bool:
        """Whether there was no record before the change."""
        return (self.remote_image or self.image) in (None, NO_RECORD)

    @property
    def record_before(self) -> Record | None:
        """The record without the change: the hub's if it sent one, else what was here; None is none."""
        return _record_of(self.remote_image or self.image)


class Version(NamedTuple):
    """Which revision of a change was looked at, what it does to what, and whether it went up so.

    ``error`` is what has kept it here.
    """

    revision: int
    operation: str
    image: str | UnreadableText | None
    is_as_sent: bool
    error: str | None


_CHANGE = (
    f"SELECT position, object, key, image, theirs, {BATCH}, contested, base, shared, error "
    f"FROM {WAITING} WHERE object = ?"
)


def changes_of_object(connection: sqlite3.Connection, name: str) -> list[Change]:
    """Return all changes of an object."""
    rows = read(connection, lambda: connection.execute(_CHANGE, (name,)).fetchall())
    return list(map(Change._make, rows))


def changes_of_record(connection: sqlite3.Connection, name: str, key: str) -> list[Change]:
    """Return the change of a record, if it has one."""
    rows = read(connection, lambda: connection.execute(f"{_CHANGE} AND key = ?", (name, key)).fetchall())
    return list(map(Change._make, rows))


def version_of(connection: sqlite3.Connection, name: str, key: str) -> Version | None:
    """Return how a record's change stands, None if it has no change."""
    columns = f"revision, operation, image, revision IS {SENT}, error"
    sql = f"SELECT {columns} FROM {WAITING} WHERE object = ? AND key = ?"
    row = read(connection, lambda: connection.execute(sql, (name, key)).fetchone())
    return None if row is None else Version(*row)


def pending_among(connection: sqlite3.Connection, name: str, keys: list[str]) -> set[str]:
    """Return those of ``keys`` whose records have a pending change."""
    any_change = connection.execute(f"SELECT 1 FROM {WAITING} WHERE object = ? LIMIT 1", (name,))
    if any_change.fetchone() is None:
        return set()
    rows = connection.execute(
        f"SELECT key FROM {WAITING} WHERE object = ? AND key IN (SELECT value FROM json_each(?))",
        (name, json.dumps(keys)),
    )
    return {key for (key,) in rows}


def records_before(
    connection: sqlite3.Connection, name: str, low: str, until: str | None
) -> dict[str, Record | None]:
    """Return what changed records were before, those with keys from ``low`` to before ``until``.

    May refuse to read (see ``file.reading``).
    """
    rows = connection.execute(
        f"SELECT key, coalesce(theirs, image) FROM {WAITING} "
        "WHERE object = :object AND key >= :low AND (:until IS NULL OR key < :until)",
        {"object": name, "low": low, "until": until},
    )
    return {key: _record_of(image) for key, image in rows if isinstance(key, str)}


def _record_of(image: str | UnreadableText | None) -> Record | None:
    return None if image == NO_RECORD else record_of_image(image)


def unedited_keys(connection: sqlite3.Connection, wire_id: str, name: str) -> list[str]:
    """Return the keys of an object's changes that are as they went up with the batch ``wire_id``."""
    rows = connection.execute(
        f"SELECT key FROM {WAITING} WHERE batch = ? AND revision = sent AND object = ?",
        (wire_id, name),
    )
    return [key for (key,) in rows]


def spared_columns(connection: sqlite3.Connection, name: str) -> dict[str, frozenset[str]]:
    """Return which columns an object's changes leave as the hub has them, by the keys of their records."""
    rows = connection.execute(
        f"SELECT key, spared FROM {WAITING} WHERE object = ? AND spared IS NOT NULL", (name,)
    )
    return {key: frozenset(json.loads(text)) for key, text in rows}


def shown_of_batch(
    connection: sqlite3.Connection, wire_id: str
) -> list[tuple[str, str, frozenset[str], Record]]:
    """Return (object, key, spared columns, the hub's record) of the batch's changes that have both."""
    is_any = connection.execute(f"SELECT 1 FROM {WAITING} WHERE spared IS NOT NULL LIMIT 1").fetchone()
    if is_any is None:  # an index of its own tells that at once
        return []
    rows = connection.execute(
        f"SELECT object, key, spared, theirs FROM {WAITING} "
        f"WHERE {BATCH} = ? AND spared IS NOT NULL AND theirs IS NOT NULL AND theirs <> ?",
        (wire_id, NO_RECORD),
    )
    return [
        (name, key, frozenset(json.loads(spared)), record_of_image(theirs) or {})
        for name, key, spared, theirs in rows
    ]


def edited_keys(connection: sqlite3.Connection, wire_id: str, name: str) -> set[str]:
    """Return the keys of an object's changes that were edited since they went up with the batch."""
    rows = connection.execute(
        f"SELECT key FROM {WAITING} WHERE batch = ? AND revision <> sent AND object = ?",
        (wire_id, name),
    )
    return {key for (key,) in rows}


def changes_of_batch(connection: sqlite3.Connection, wire_id: str) -> list[tuple[str, str]]:
    """Return (object, key) of the changes that are under way with the batch ``wire_id``."""
    return connection.execute(f"SELECT object, key FROM {WAITING} WHERE batch = ?", (wire_id,)).fetchall()


def upload_errors(connection: sqlite3.Connection, session: str) -> list[RecordError]:
    """Return the records that a session could not upload, with the reasons."""
    columns = "object, key, error, parked_field"
    sql = f"SELECT {columns} FROM {WAITING} WHERE failed_in = ? ORDER BY position"
    rows = read(connection, lambda: connection.execute(sql, (session,)).fetchall())
    return [RecordError(name, key_for_people(key), *_said(error), field) for name, key, error, field in rows]


def _said(error: str) -> tuple[str, str]:
    """Return code and message of an error as the outbox keeps it."""
    code, message = error.split(": ", 1)
    return code, message
