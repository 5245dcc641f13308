"""The next upload batch: which changes go into it, their records as they travel, and those that cannot.

A batch may be composed ahead, while the one before it is under way. It is taken only if nothing has
happened to its changes since.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from math import isfinite

import msgspec
from attrs import evolve, frozen

from statesync.store.outbox import queue
from statesync.store.outbox.changes import Revision, mark_failed
from statesync.store.outbox.fold import fold
from statesync.store.outbox.lookup import spared_columns
from statesync.store.outbox.queue import Mark, Waiting, Window
from statesync.store.tracking.description import BLOB
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.wire import MAX_BATCH_BYTES, MAX_KEY_LENGTH, MAX_RECORD_BYTES, Change

_NONE: frozenset[str] = frozenset()


@frozen
class Outgoing:
    """An upload batch that stands ready: its changes, their exact payload, and what it was made from.

    ``last_position`` is that of the last change that was looked at.
    """

    changes: list[Change]
    payload: bytes
    revisions: tuple[Revision, ...]
    last_position: int


@frozen
class Unsendable:
    """A change that no hub could take, and why."""

    change: Waiting
    code: str
    message: str


@frozen
class Draft:
    """A batch as it was composed, and the changes that no hub could take.

    ``marks`` are those of all changes that were looked at: whatever happens to a change moves one.
    """

    marks: list[Mark]
    batch: Outgoing
    failed: list[Unsendable]


def next_batch(
    connection: sqlite3.Connection, objects: Objects, window: Window, session: str, drafted: Draft | None
) -> Outgoing | None:
    """Return the next batch of at most ``MAX_BATCH_BYTES``, or None if none waits.

    ``drafted`` is taken as it is if nothing has happened to its changes. A record that no hub could take is
    marked with its error and left out. Folds first; runs in a transaction.
    """
    fold(connection, objects)
    if drafted is None or drafted.marks != queue.marks_in(connection, objects, window):
        drafted = draft(connection, objects, window)
    while drafted is not None:
        for one in drafted.failed:
            error = f"{one.code}: {one.message}"
            mark_failed(connection, one.change.object, one.change.key, error, session)
        if drafted.batch.revisions:
            return drafted.batch
        drafted = draft(connection, objects, evolve(window, after=drafted.batch.last_position))
    return None


def draft(connection: sqlite3.Connection, objects: Objects, window: Window) -> Draft | None:
    """Compose the batch that waits, or return None; writes nothing, folds nothing."""
    waiting = queue.waiting_in(connection, objects, window)
    return _compose(connection, objects, waiting) if waiting else None


def _compose(connection: sqlite3.Connection, objects: Objects, waiting: list[Waiting]) -> Draft:
    texts = _record_texts(connection, objects, waiting)
    changes: list[Change] = []
    parts: list[bytes] = []
    taken: list[Revision] = []
    failed: list[Unsendable] = []
    size, last_position = 0, 0
    for change in waiting:
        text = texts.get((change.object, change.key))
        problem = _problem_of(change, text)
        if problem is not None:
            failed.append(problem)
        else:
            offer = _offer(change, text if isinstance(text, bytes) else None)
            part = msgspec.json.encode(offer)
            size += len(part)
            if parts and size > MAX_BATCH_BYTES:
                break
            changes.append(offer)
            parts.append(part)
            taken.append(Revision(change.position, change.revision))
        last_position = change.position
    payload = b"[" + b",".join(parts) + b"]"
    marks = [Mark(change.position, change.revision, change.base) for change in waiting]
    return Draft(marks, Outgoing(changes, payload, tuple(taken), last_position), failed)


def _record_texts(
    connection: sqlite3.Connection, objects: Objects, waiting: list[Waiting]
) -> dict[tuple[str, str], bytes | str]:
    """Return each record's JSON text, or as ``str`` what keeps it from travelling."""
    keys: dict[str, list[str]] = {}
    for change in waiting:
        if change.operation != "delete":
            keys.setdefault(change.object, []).append(change.key)
    texts: dict[tuple[str, str], bytes | str] = {}
    for name, wanted in keys.items():
        tracked, wire = objects[name], objects[name].wire
        spared = spared_columns(connection, name)
        for key, *values in connection.execute(tracked.sql.select, (json.dumps(wanted),)):
            text = wire.text(tuple(values), spared.get(key, _NONE) if spared else _NONE)
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


def _problem_of(change: Waiting, text: bytes | str | None) -> Unsendable | None:
    if not 0 < len(change.key) <= MAX_KEY_LENGTH:
        message = f"its key has {len(change.key)} characters, 1 to {MAX_KEY_LENGTH} can be synced"
        return Unsendable(change, "key_too_long", message)
    if isinstance(text, str):
        return Unsendable(change, "bad_value", text)
    if text is not None and len(text) > MAX_RECORD_BYTES:
        message = f"it has {len(text)} bytes as JSON, {MAX_RECORD_BYTES} can be synced"
        return Unsendable(change, "record_too_large", message)
    return None


def _offer(change: Waiting, text: bytes | None) -> Change:
    if text is None:
        return Change(change.object, change.key, "delete", change.base)
    return Change(change.object, change.key, "upsert", change.base, msgspec.Raw(text))
