"""The next upload batch: which changes go into it, their records as they travel, and those that cannot.

A batch may be composed ahead, while the one before it is under way. It is taken only if nothing has
happened to its changes since.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

import msgspec
from attrs import evolve, frozen

from statesync.store.outbox import Objects, fold, mark_failed
from statesync.store.tracking.objects import BLOB, TrackedObject
from statesync.wire import MAX_BATCH_BYTES, MAX_KEY_LENGTH, MAX_RECORD_BYTES, Change


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
