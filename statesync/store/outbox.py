"""The outbox: net changes that the hub has not accepted yet.

Writes are logged by triggers; ``fold`` turns the log into one net change a record. Whoever reads the
outbox, or moves a cursor, folds first. So a change's base version is the object's cursor at the time of
the write: what this device had seen of the hub when the record was first changed. Base 0 is kept for
records that, as far as this device knows, no hub has ever seen; 1 is a known record of unknown version.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import NamedTuple

import msgspec
from attrs import evolve, frozen

from statesync.store.objects import BLOB, TrackedObject, quoted
from statesync.values import PendingChange
from statesync.wire import MAX_BATCH_BYTES, MAX_KEY_LENGTH, MAX_RECORD_BYTES, Change

Objects = dict[str, TrackedObject]


def fold(connection: sqlite3.Connection, objects: Objects) -> None:
    """Fold what was logged into net changes; does nothing, cheaply, if nothing was. In a transaction.

    insert + update is an insert, insert + delete is nothing, delete + insert is an update. A change that
    is under way to the hub stays even if insert + delete would make it nothing: the hub may have it.
    """
    for tracked in _logged(connection, objects):
        _fold_object(connection, tracked)
        connection.execute(f"DELETE FROM {quoted(tracked.log)}")


def _logged(connection: sqlite3.Connection, objects: Objects) -> list[TrackedObject]:
    """Return those of ``objects`` that anything was logged of."""
    if not objects:
        return []
    logs = [f"EXISTS (SELECT 1 FROM {quoted(tracked.log)})" for tracked in objects.values()]
    found = connection.execute(f"SELECT {', '.join(logs)}").fetchone()
    return [tracked for tracked, is_logged in zip(objects.values(), found, strict=True) if is_logged]


def _fold_object(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    before, key = horizon(connection), quoted(tracked.key)
    # In the order of the writes: the first of a record brings its image and base, each adds a revision.
    connection.execute(
        f"""
        INSERT INTO statesync_change (object, key, operation, image, base, revision)
        SELECT :object, logged.key,
               CASE WHEN now.{key} IS NULL THEN 'delete' WHEN logged.known THEN 'update' ELSE 'insert' END,
               CASE WHEN logged.known THEN {tracked.image_sql("logged")} END,
               CASE WHEN logged.known THEN max(1, coalesce(
                   (SELECT cursor FROM statesync_cursor WHERE object = :object), 1)) ELSE 0 END,
               logged.changed OR now.{key} IS NULL
        FROM {quoted(tracked.log)} AS logged
        LEFT JOIN {quoted(tracked.table)} AS now ON now.{key} = logged.key
        ORDER BY logged.rowid
        ON CONFLICT (object, key) DO UPDATE SET
            revision = revision + excluded.revision,
            operation = CASE WHEN excluded.operation = 'delete' THEN 'delete'
                             WHEN image IS NULL THEN 'insert' ELSE 'update' END
        """,
        {"object": tracked.name},
    )
    # Without a revision only an image was kept, for a write that did not follow.
    connection.execute("DELETE FROM statesync_change WHERE position > ? AND revision = 0", (before,))
    drop_empty(connection, tracked.name)


def drop_empty(connection: sqlite3.Connection, name: str) -> None:
    """Forget changes that came to nothing: made and deleted here, and never sent."""
    connection.execute(
        "DELETE FROM statesync_change "
        "WHERE object = ? AND operation = 'delete' AND image IS NULL AND batch IS NULL",
        (name,),
    )


# -- what waits ------------------------------------------------------------------------------------


def horizon(connection: sqlite3.Connection) -> int:
    """Return the position up to which a session that starts now uploads."""
    row = connection.execute("SELECT max(position) FROM statesync_change").fetchone()
    return int(row[0] or 0)


def is_in_use(connection: sqlite3.Connection, objects: Objects) -> bool:
    """Tell whether anything waits, or was logged of ``objects``; folds nothing, needs no transaction."""
    waits = connection.execute("SELECT EXISTS (SELECT 1 FROM statesync_change)").fetchone()[0]
    return bool(waits or _logged(connection, objects))


def has_waiting(connection: sqlite3.Connection, *, after: int, up_to: int) -> bool:
    """Tell whether any change stands between two positions; folds nothing, needs no transaction."""
    found = connection.execute(
        "SELECT 1 FROM statesync_change WHERE position > ? AND position <= ? LIMIT 1", (after, up_to)
    )
    return found.fetchone() is not None


def count_waiting(connection: sqlite3.Connection, names: Iterable[str]) -> int:
    """Return how many changes of these objects the next session would send."""
    row = connection.execute(
        "SELECT count(*) FROM statesync_change "
        "WHERE deferred = 0 AND +object IN (SELECT value FROM json_each(?))",
        (json.dumps(list(names)),),
    ).fetchone()
    return int(row[0])


def count_pending(connection: sqlite3.Connection, name: str) -> int:
    """Return how many changes of one object wait, deferred ones included."""
    row = connection.execute("SELECT count(*) FROM statesync_change WHERE object = ?", (name,)).fetchone()
    return int(row[0])


def pending(connection: sqlite3.Connection, names: Iterable[str]) -> list[PendingChange]:
    """Return the net changes of these objects in the order in which they were first made."""
    rows = connection.execute(
        "SELECT object, key, operation, base, revision, deferred, error FROM statesync_change "
        "WHERE object IN (SELECT value FROM json_each(?)) ORDER BY position",
        (json.dumps(list(names)),),
    )
    return [
        PendingChange(name, key, operation, base, revision, bool(deferred), error)
        for name, key, operation, base, revision, deferred, error in rows
    ]


def set_deferred(connection: sqlite3.Connection, name: str, keys: Sequence[str], *, deferred: bool) -> int:
    """Hold changes back from uploads, or let them go; return how many there were."""
    return connection.execute(
        "UPDATE statesync_change SET deferred = ? "
        "WHERE object = ? AND key IN (SELECT value FROM json_each(?))",
        (int(deferred), name, json.dumps(list(keys))),
    ).rowcount


def offer_all(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Put every record of an object into the outbox, as new: for a hub that has none of them."""
    connection.execute("DELETE FROM statesync_change WHERE object = ?", (tracked.name,))
    connection.execute(
        "INSERT INTO statesync_change (object, key, operation, base, revision) "
        f"SELECT ?, {quoted(tracked.key)}, 'insert', 0, 1 FROM {quoted(tracked.table)} "
        f"ORDER BY {quoted(tracked.key)}",
        (tracked.name,),
    )


# -- the next batch --------------------------------------------------------------------------------


@frozen
class Outgoing:
    """An upload batch that stands ready: its changes, their exact payload, and what it was made from.

    ``revisions`` are (position, revision); ``through`` is the position of the last one looked at.
    """

    changes: list[Change]
    payload: bytes
    revisions: tuple[tuple[int, int], ...]
    through: int


class _Waiting(NamedTuple):
    position: int
    name: str
    key: str
    operation: str
    base: int
    revision: int


@frozen
class Window:
    """Which changes may go into a batch: at most ``limit`` of those between two positions."""

    after: int
    up_to: int
    limit: int
    skip_failed: bool


@frozen
class Draft:
    """A batch as it was composed, and the changes that no hub could take.

    ``marks`` are position, revision and base of all that was looked at: what happens to a change moves one.
    """

    marks: list[tuple[int, int, int]]
    batch: Outgoing
    failed: list[tuple[_Waiting, str, str]]


def next_batch(
    connection: sqlite3.Connection, objects: Objects, window: Window, session: str, drafted: Draft | None
) -> Outgoing | None:
    """Return the next batch of at most ``MAX_BATCH_BYTES``, or None if none waits.

    ``drafted`` is taken as it is if nothing has happened to its changes. A record that no hub could take is
    marked with its error and left out. Folds first; runs in a transaction.
    """
    fold(connection, objects)
    if drafted is None or drafted.marks != _marks(connection, objects, window):
        drafted = draft(connection, objects, window)
    while drafted is not None:
        for change, code, message in drafted.failed:
            mark_failed(connection, change.name, change.key, f"{code}: {message}", session)
        if drafted.batch.revisions:
            return drafted.batch
        drafted = draft(connection, objects, evolve(window, after=drafted.batch.through))
    return None


def draft(connection: sqlite3.Connection, objects: Objects, window: Window) -> Draft | None:
    """Compose the batch that waits, or return None; writes nothing, folds nothing."""
    columns = "position, object, key, operation, base, revision"
    waiting = list(map(_Waiting._make, _look(connection, objects, window, columns)))
    return _compose(connection, objects, waiting) if waiting else None


def has_more(connection: sqlite3.Connection, names: Iterable[str], *, after: int, up_to: int) -> bool:
    """Tell whether a change of these objects waits between two positions."""
    found = connection.execute(
        "SELECT 1 FROM statesync_change WHERE position > ? AND position <= ? AND deferred = 0 "
        "AND +object IN (SELECT value FROM json_each(?)) LIMIT 1",
        (after, up_to, json.dumps(list(names))),
    ).fetchone()
    return found is not None


def mark_failed(connection: sqlite3.Connection, name: str, key: str, error: str, session: str) -> None:
    """Keep a change in the outbox with its error; the next session tries it again."""
    connection.execute(
        "UPDATE statesync_change SET error = ?, failed_in = ?, batch = NULL, sent = NULL "
        "WHERE object = ? AND key = ?",
        (error, session, name, key),
    )


def mark_sent(connection: sqlite3.Connection, wire_id: str, revisions: Sequence[tuple[int, int]]) -> None:
    """Note which revision of each change goes up with the batch ``wire_id``."""
    positions: dict[int, list[int]] = {}
    for position, revision in revisions:
        positions.setdefault(revision, []).append(position)
    connection.executemany(  # most records were changed once: this is one statement a batch, not a record
        "UPDATE statesync_change SET batch = ?, sent = ? WHERE position IN (SELECT value FROM json_each(?))",
        [(wire_id, revision, json.dumps(some)) for revision, some in positions.items()],
    )


def _marks(connection: sqlite3.Connection, objects: Objects, window: Window) -> list[tuple[int, int, int]]:
    return _look(connection, objects, window, "position, revision, base").fetchall()


def _look(connection: sqlite3.Connection, objects: Objects, window: Window, columns: str) -> sqlite3.Cursor:
    # The + keeps SQLite from reading, and sorting, all that waits of the object for every batch.
    return connection.execute(
        f"SELECT {columns} FROM statesync_change WHERE position > ? AND position <= ? AND deferred = 0 "
        f"{'AND error IS NULL ' if window.skip_failed else ''}"
        "AND +object IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT ?",
        (window.after, window.up_to, json.dumps(list(objects)), window.limit),
    )


def _compose(connection: sqlite3.Connection, objects: Objects, waiting: list[_Waiting]) -> Draft:
    texts = _record_texts(connection, objects, waiting)
    changes: list[Change] = []
    parts: list[bytes] = []
    taken: list[tuple[int, int]] = []
    failed: list[tuple[_Waiting, str, str]] = []
    size, through = 0, 0
    for change in waiting:
        text = texts.get((change.name, change.key))
        problem = _unsendable(change, text)
        if problem:
            failed.append((change, *problem))
        else:
            offer = _offer(change, text if isinstance(text, bytes) else None)
            part = msgspec.json.encode(offer)
            size += len(part)
            if parts and size > MAX_BATCH_BYTES:
                break
            changes.append(offer)
            parts.append(part)
            taken.append((change.position, change.revision))
        through = change.position
    payload = b"[" + b",".join(parts) + b"]"
    marks = [(change.position, change.revision, change.base) for change in waiting]
    return Draft(marks, Outgoing(changes, payload, tuple(taken), through), failed)


def _record_texts(
    connection: sqlite3.Connection, objects: Objects, waiting: list[_Waiting]
) -> dict[tuple[str, str], bytes | str]:
    """Return each record's JSON text, or as ``str`` what keeps it from travelling."""
    keys: dict[str, list[str]] = {}
    for change in waiting:
        if change.operation != "delete":
            keys.setdefault(change.name, []).append(change.key)
    texts: dict[tuple[str, str], bytes | str] = {}
    for name, wanted in keys.items():
        tracked = objects[name]
        for key, *values in connection.execute(tracked.select_sql, (json.dumps(wanted),)):
            text = tracked.wire_text(tuple(values))
            odd = _without_json(tracked, values) if _needs_a_look(tracked, values, text) else None
            texts[name, key] = odd or text
    return texts


def _needs_a_look(tracked: TrackedObject, values: Sequence[object], text: bytes) -> bool:
    """Tell, quickly, whether a value may be odd: an infinite number has been written as null."""
    return tracked.has_blobs or b"null" in text or bytes in map(type, values)


def _without_json(tracked: TrackedObject, values: Sequence[object]) -> str | None:
    for column, value in zip(tracked.columns, values, strict=True):
        if isinstance(value, float) and not isfinite(value):
            return f"{column.name} is infinite, which JSON cannot hold"
        if value is not None and isinstance(value, bytes) != (column.kind == BLOB):
            return f"{column.name} holds a {type(value).__name__}, which is not what its model stores there"
    return None


def _unsendable(change: _Waiting, text: bytes | str | None) -> tuple[str, str] | None:
    if not 0 < len(change.key) <= MAX_KEY_LENGTH:
        return (
            "key_too_long",
            f"its key has {len(change.key)} characters, 1 to {MAX_KEY_LENGTH} can be synced",
        )
    if isinstance(text, str):
        return "bad_value", text
    if text is not None and len(text) > MAX_RECORD_BYTES:
        return "record_too_large", f"it has {len(text)} bytes as JSON, {MAX_RECORD_BYTES} can be synced"
    return None


def _offer(change: _Waiting, text: bytes | None) -> Change:
    if text is None:
        return Change(change.name, change.key, "delete", change.base)
    return Change(change.name, change.key, "upsert", change.base, msgspec.Raw(text))
