"""The next upload batch: which changes go into it, their records as they travel, and those that cannot.

A delete goes up for the operation delete alone. A change whose record is not found, or cannot be read, is
held back with its error; the others go up.

A batch may be composed ahead, while the one before it is under way. It is taken only if nothing has
happened to its changes since. Most batches are a run, of which the changes are not even read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from math import isfinite
from operator import itemgetter
from typing import Any

import msgspec
from attrs import evolve

from statesync.classes import frozen
from statesync.store.file.reading import UnreadableText, key_for_people, read
from statesync.store.outbox import queue
from statesync.store.outbox.changes import hold_back
from statesync.store.outbox.fold import fold_amid_upload
from statesync.store.outbox.lookup import spared_columns
from statesync.store.outbox.queue import Mark, Run, Waiting, WaitingRow, Window
from statesync.store.tracking.description import BLOB
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.upload import in_one
from statesync.wire import MAX_BATCH_BYTES, MAX_KEY_LENGTH, MAX_RECORD_BYTES, Change

Texts = dict[tuple[str, str], bytes | str]

_NONE: frozenset[str] = frozenset()
_MARK = itemgetter(0, 6, 4)
"""A waiting change's position, revision and base."""

_IS_MERE_OFFER = itemgetter(7)

_MISSING = (
    "no record with this key is there any more, and none was seen being deleted, so nothing was sent; make "
    "the record again (and delete it then, if it is to go), or take the change back with rollback()"
)
_NUMBER_KEY = (
    "its table keeps this key as a number, which may stand for several texts, so nothing was sent; declare "
    "the key column as TEXT, or take the change back with rollback()"
)
_BAD_KEY = (
    "is no text in UTF-8 without a NUL, and cannot be synced; give the record another key, or take the "
    "change back with rollback()"
)


@frozen
class Outgoing:
    """An upload batch that stands ready: its exact payload, and what it was made from.

    ``sources`` are the changes as they waited, so many ``records``; ``are_offers`` says that nobody made any
    of them here. ``last_position`` is that of the last one that was looked at.
    """

    payload: bytes
    sources: Run | tuple[Mark, ...]
    records: int
    are_offers: bool
    last_position: int


@frozen
class Unsendable:
    """A change that cannot go up, and why."""

    change: Waiting
    code: str
    message: str


@frozen
class Draft:
    """A batch as it was composed, and the changes that cannot go up.

    ``looked_at`` are all changes that were looked at: whatever happens to a change moves its mark, or takes
    it out of its run. ``glance`` is from before they were; they are those in ``window``.
    """

    window: Window
    glance: int
    looked_at: Run | list[Mark]
    batch: Outgoing
    failed: list[Unsendable]


def next_batch(
    connection: sqlite3.Connection,
    objects: Objects,
    window: Window,
    session: str,
    drafted: Draft | None,
    *,
    is_calm: bool = False,
) -> Outgoing | None:
    """Return the next batch of at most ``MAX_BATCH_BYTES``, or None if none waits.

    ``drafted`` is taken as it is if nothing has happened to its changes; ``is_calm`` says that nothing has on
    this connection. A change that cannot go up is marked with its error and left out. Folds first; runs in a
    transaction.
    """
    fold_amid_upload(connection, objects)
    if drafted is None or not _is_to_be_taken(connection, objects, window, drafted, is_calm=is_calm):
        drafted = draft(connection, objects, window)
    while drafted is not None:
        for one in drafted.failed:
            hold_back(connection, one.change.position, f"{one.code}: {one.message}", session)
        if drafted.batch.records:
            return drafted.batch
        drafted = draft(connection, objects, evolve(window, after=drafted.batch.last_position))
    return None


def draft(connection: sqlite3.Connection, objects: Objects, window: Window) -> Draft | None:
    """Compose the batch that waits, or return None; writes nothing, folds nothing."""
    glance = queue.glance(connection)
    run = queue.run_in(connection, objects, window)
    batch = None if run is None else _of_run(connection, objects[run.object], run)
    if run is not None and batch is not None:
        return Draft(window, glance, run, batch, [])
    waiting = queue.waiting_in(connection, objects, window)
    if not waiting:
        return None
    marks: list[Mark] = list(map(_MARK, waiting))
    return Draft(window, glance, marks, *_compose(connection, objects, waiting))


def _is_to_be_taken(
    connection: sqlite3.Connection, objects: Objects, window: Window, drafted: Draft, *, is_calm: bool
) -> bool:
    """Tell whether nothing has happened to what is in the window since a draft was made of it."""
    if not window.has_bounds_of(drafted.window):
        return False
    if is_calm and drafted.glance == queue.glance(connection):
        return True
    if isinstance(drafted.looked_at, Run):
        return queue.is_still_there(connection, objects, window, drafted.looked_at)
    return drafted.looked_at == queue.marks_in(connection, objects, window)


def _of_run(connection: sqlite3.Connection, tracked: TrackedObject, run: Run) -> Outgoing | None:
    """Return the batch that a run makes; None if it is none, or if a record needs a look by itself."""
    rows = queue.records_of_run(connection, tracked, run)
    payload = in_one.payload_of_run(tracked.wire, run, rows) if rows else None
    if payload is None:
        return None
    return Outgoing(payload, run, run.records, bool(run.is_mere_offer), run.last)


def _compose(
    connection: sqlite3.Connection, objects: Objects, rows: list[WaitingRow]
) -> tuple[Outgoing, list[Unsendable]]:
    payload = _in_one(connection, objects, rows)
    if payload is not None:
        sources, are_offers = tuple(map(_MARK, rows)), all(map(_IS_MERE_OFFER, rows))
        return Outgoing(payload, sources, len(rows), are_offers, rows[-1][0]), []
    waiting = list(map(Waiting._make, rows))
    return _one_by_one(waiting, _record_texts(connection, objects, waiting))


def _in_one(connection: sqlite3.Connection, objects: Objects, rows: list[WaitingRow]) -> bytes | None:
    """Return the payload if no change needs a look by itself."""
    upserts = in_one.upserts(rows)
    if upserts is None or spared_columns(connection, upserts.object):
        return None
    tracked = objects[upserts.object]
    return in_one.payload(tracked.wire, upserts, _rows(connection, tracked, upserts.keys))


def _one_by_one(waiting: list[Waiting], texts: Texts) -> tuple[Outgoing, list[Unsendable]]:
    parts: list[bytes] = []
    taken: list[Waiting] = []
    failed: list[Unsendable] = []
    size, last_position = 0, 0
    for change in waiting:
        offer = _offer(change, texts)
        if isinstance(offer, Unsendable):
            failed.append(offer)
        else:
            part = msgspec.json.encode(offer)
            size += len(part)
            if parts and size > MAX_BATCH_BYTES:
                break
            parts.append(part)
            taken.append(change)
        last_position = change.position
    are_offers = bool(taken) and all(map(_IS_MERE_OFFER, taken))
    text, sources = b"[" + b",".join(parts) + b"]", tuple(map(_MARK, taken))
    return Outgoing(text, sources, len(taken), are_offers, last_position), failed


def _record_texts(connection: sqlite3.Connection, objects: Objects, waiting: list[Waiting]) -> Texts:
    """Return each record's JSON text, or as ``str`` what keeps it from travelling."""
    keys: dict[str, list[str]] = {}
    for change in waiting:
        if change.operation != "delete" and isinstance(change.key, str):
            keys.setdefault(change.object, []).append(change.key)
    texts: Texts = {}
    for name, wanted in keys.items():
        tracked, spared = objects[name], spared_columns(connection, name)
        for key, *values in _rows(connection, tracked, wanted):
            left = spared.get(key, _NONE) if spared else _NONE
            texts[name, str(key)] = _text_of(tracked, values, left) if isinstance(key, str) else _NUMBER_KEY
    return texts


def _rows(
    connection: sqlite3.Connection, tracked: TrackedObject, keys: Sequence[str]
) -> list[tuple[Any, ...]]:
    wanted = json.dumps(keys)
    return read(connection, lambda: connection.execute(tracked.sql.select, (wanted,)).fetchall())


def _text_of(tracked: TrackedObject, values: Sequence[Any], spared: frozenset[str]) -> bytes | str:
    is_plain = all(map(frozenset.__contains__, tracked.wire.stored_types, map(type, values)))
    odd = None if is_plain else _without_json(tracked, values)
    if odd is not None:
        return odd
    text = tracked.wire.text(tuple(values), spared)
    # An infinite number has been written as null.
    return (_without_json(tracked, values) if b"null" in text else None) or text


def _without_json(tracked: TrackedObject, values: Sequence[object]) -> str | None:
    for column, value in zip(tracked.columns, values, strict=True):
        if isinstance(value, UnreadableText):
            return f"{column.name} holds a text that is no UTF-8; write it anew, or take the change back"
        if isinstance(value, float) and not isfinite(value):
            return f"{column.name} is infinite, which JSON cannot hold"
        if value is not None and isinstance(value, bytes) != (column.kind == BLOB):
            return f"{column.name} holds a {type(value).__name__}, which is not what its model stores there"
    return None


def _offer(change: Waiting, texts: Texts) -> Change | Unsendable:
    key = change.key
    if not isinstance(key, str):
        return Unsendable(change, "bad_key", f"its key {key_for_people(key)} {_BAD_KEY}")
    if "\0" in key:
        return Unsendable(change, "bad_key", f"its key {key!a} {_BAD_KEY}")
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        message = f"its key has {len(key)} characters, 1 to {MAX_KEY_LENGTH} can be synced"
        return Unsendable(change, "key_too_long", message)
    if change.operation == "delete":
        # What certainly never left the device waits for no upload: so others may have the record.
        since = change.since if change.base else max(change.since, 1)
        return Change(change.object, key, "delete", change.base, since=since)
    text = texts.get((change.object, key), _MISSING)
    if text is _MISSING or text is _NUMBER_KEY:
        return Unsendable(change, "record_missing", text)
    if isinstance(text, str):
        return Unsendable(change, "bad_value", text)
    if len(text) > MAX_RECORD_BYTES:
        message = f"it has {len(text)} bytes as JSON, {MAX_RECORD_BYTES} can be synced"
        return Unsendable(change, "record_too_large", message)
    return Change(change.object, key, "upsert", change.base, msgspec.Raw(text), change.since)
