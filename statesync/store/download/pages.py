"""Applying one page of the feed: the hot path of every download. One statement a step, not one a record.

A record with a pending change is never overwritten: the hub's record is kept beside the change, which
stays in conflict until it is uploaded.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from operator import ge

import msgspec
from attrs import frozen

from statesync.conflicts import Record
from statesync.errors import BadAnswer
from statesync.store import bases, conflict_log, cursors, local_only
from statesync.store.bases import Step
from statesync.store.conflict_log import Sides
from statesync.store.cursors import EPOCH, UNLOGGED, Cursor
from statesync.store.download import upserts
from statesync.store.file.reading import read
from statesync.store.outbox import changes
from statesync.store.outbox.changes import Rebase, RemoteImage
from statesync.store.outbox.fold import fold
from statesync.store.outbox.lookup import pending_among
from statesync.store.rereading import finish_reread
from statesync.store.tracking.images import image_of
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.triggers import switched_off
from statesync.wire import MAX_KEY_LENGTH, Entry, Page, Pull


@frozen
class ObjectPage:
    """One object's part of a page, decoded into rows of (key, *columns); ``UNSET`` marks a missing column."""

    tracked: TrackedObject
    entries: tuple[Entry, ...]
    rows: tuple[upserts.Row, ...]
    deleted: tuple[str, ...]


def check(request: Pull, page: Page) -> None:
    """Raise ``BadAnswer`` for a page that no hub could have meant as the answer to ``request``."""
    asked = request.objects
    versions = [entry.version for entry in page.changes]
    fault = None
    if page.cursors.keys() != asked.keys():
        fault = "cursors for other objects than were asked for"
    elif any(page.cursors[name] < feed.cursor for name, feed in asked.items()):
        fault = "a cursor that goes backward"
    elif request.limit and len(versions) > request.limit:
        fault = f"{len(versions)} records where {request.limit} were asked for"
    elif any(map(ge, versions, versions[1:])):
        fault = "records that are not in the order of their versions"
    elif page.more and all(page.cursors[name] == feed.cursor for name, feed in asked.items()):
        fault = "a page that leads nowhere"
    elif not page.cursors.keys() >= {entry.object for entry in page.changes}:
        fault = "records of an object that was not asked for"
    elif not _are_sound(page.changes):
        fault = "a record without a key or data"
    if fault:
        raise BadAnswer(f"the hub sent {fault}; nothing of the page was stored")


def _are_sound(entries: list[Entry]) -> bool:
    lengths = [len(entry.key) for entry in entries]
    if lengths and not 0 < min(lengths) <= max(lengths) <= MAX_KEY_LENGTH:
        return False
    return not [entry for entry in entries if entry.data is msgspec.UNSET and not entry.deleted]


def decode(page: Page, objects: Objects) -> list[ObjectPage]:
    """Decode a page into rows. Raises ``BadAnswer`` for a record that does not fit its table."""
    return [_decode_object(objects[name], entries) for name, entries in _by_object(page.changes).items()]


def _by_object(entries: list[Entry]) -> dict[str, list[Entry]]:
    names = {entry.object for entry in entries}
    if len(names) == 1:
        return {names.pop(): entries}
    parts: dict[str, list[Entry]] = {}
    for entry in entries:
        parts.setdefault(entry.object, []).append(entry)
    return parts


def _decode_object(tracked: TrackedObject, entries: list[Entry]) -> ObjectPage:
    living = [entry for entry in entries if not entry.deleted]
    text = b"[" + b",".join([entry.data for entry in living]) + b"]"  # type: ignore[misc]
    try:
        decoded = tracked.wire.list_decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise BadAnswer(f"the hub sent a record that does not fit {tracked.name}: {error}") from error
    astuple = msgspec.structs.astuple
    rows = [(entry.key, *astuple(row)) for entry, row in zip(living, decoded, strict=True)]
    deleted = [entry.key for entry in entries if entry.deleted]
    return ObjectPage(tracked, tuple(entries), tuple(rows), tuple(deleted))


def apply(
    connection: sqlite3.Connection,
    page: Page,
    parts: Sequence[ObjectPage],
    objects: Objects,
    positions: Mapping[str, Cursor],
    session: str,
) -> int:
    """Store a decoded page, untracked, and its cursors; return how many records were stored or deleted.

    In a transaction; writes nothing if nothing is new. ``objects`` are those of the scope, ``positions`` the
    cursors from which the page was asked for, and which they still have. Folds first, so that every change
    made until now keeps the cursor of its time as its base.
    """
    fold(connection, objects)
    rereads = [] if page.more else [each for each in positions.values() if each.rereading is not None]
    with switched_off(connection) if parts or rereads else nullcontext():
        stored = sum(_apply_object(connection, part, positions[part.tracked.name], session) for part in parts)
        for cursor in rereads:
            finish_reread(connection, objects[cursor.object], cursor)
    moved = {name: at for name, at in page.cursors.items() if at != positions[name].position}
    cursors.move(connection, moved)
    bases.pass_over(connection, (Step(name, positions[name].position, at) for name, at in moved.items()))
    return stored


def _apply_object(connection: sqlite3.Connection, part: ObjectPage, cursor: Cursor, session: str) -> int:
    tracked = part.tracked
    keys = [entry.key for entry in part.entries]
    aside = pending_among(connection, tracked.name, keys)
    if cursor.is_compared:
        cursors.note_seen(connection, tracked.name, keys)
    known, overwritten = _end_local(connection, part)
    if known:
        part = _without(part, known)
    if aside:
        _leave_aside(connection, part, aside)
    if cursor.rereading in (EPOCH, UNLOGGED):
        aside |= _offer_newer(connection, part, cursor.reread_from, aside | overwritten)
    if cursor.rereading == UNLOGGED:
        _log_overwritten(connection, part, cursor.reread_from, aside | overwritten, session)
    rows = [row for row in part.rows if row[0] not in aside] if aside else part.rows
    deleted = [key for key in part.deleted if key not in aside] if aside else part.deleted
    # Deletes go first: a record may have the unique value of one that is deleted.
    connection.executemany(tracked.sql.delete, [(key,) for key in deleted])
    upserts.write(connection, tracked, rows)
    return len(rows) + len(deleted)


def _end_local(connection: sqlite3.Connection, part: ObjectPage) -> tuple[set[str], set[str]]:
    """Return which records of the page stay local only, and which do no longer: the page has news of them."""
    name = part.tracked.name
    exempt = local_only.among(connection, name, [entry.key for entry in part.entries])
    if not exempt:
        return set(), set()
    known = {
        entry.key
        for entry in part.entries
        if entry.key in exempt and exempt[entry.key].knows(entry.version, _remote(part.tracked, entry))
    }
    local_only.end(connection, name, exempt.keys() - known)
    return known, exempt.keys() - known


def _without(part: ObjectPage, keys: set[str]) -> ObjectPage:
    return ObjectPage(
        part.tracked,
        tuple(entry for entry in part.entries if entry.key not in keys),
        tuple(row for row in part.rows if row[0] not in keys),
        tuple(key for key in part.deleted if key not in keys),
    )


def _remote(tracked: TrackedObject, entry: Entry) -> Record | None:
    return None if entry.deleted else tracked.wire.read(entry.data)  # type: ignore[arg-type]


def _leave_aside(connection: sqlite3.Connection, part: ObjectPage, aside: set[str]) -> None:
    images = _remote_images(part, aside)
    versions = {entry.key: entry.version for entry in part.entries if entry.key in aside}
    remote = [RemoteImage(key, image, versions[key]) for key, image in images.items()]
    changes.keep_remote_images(connection, part.tracked.name, remote)


def _remote_images(part: ObjectPage, keys: set[str]) -> dict[str, str | None]:
    """Return the images of the hub's records, None for a deleted one."""
    return {entry.key: image_of(_remote(part.tracked, entry)) for entry in part.entries if entry.key in keys}


def _offer_newer(
    connection: sqlite3.Connection, part: ObjectPage, seen_until: int, pending: set[str]
) -> set[str]:
    """Offer what this device has seen and the hub has lost, or has never been told of.

    A record whose version is not above the cursor that the object had was seen here in that version or a
    later one. Where ours differs, the hub lacks a write. Returns the keys of the records that are offered.
    """
    tracked = part.tracked
    old = {e.key: e for e in part.entries if e.version <= seen_until and e.key not in pending}
    images = _remote_images(part, set(old))
    unread = cursors.unread(connection, tracked.name)
    offered: set[str] = set()
    for key, _, remote in _differing(connection, tracked, old):
        edit = Rebase("update" if remote else "insert", images[key], old[key].version)
        changes.offer_edit(connection, tracked.name, key, edit)
        offered.add(key)
    if unread and offered:
        changes.spare(connection, tracked.name, unread, offered)
    return offered


def _log_overwritten(
    connection: sqlite3.Connection, part: ObjectPage, seen_until: int, aside: set[str], session: str
) -> None:
    """Where writes here may not be logged: keep what is replaced by a newer version in the conflict log.

    Nobody knows whether ours was edited here, or is only older.
    """
    new = {e.key: e for e in part.entries if e.version > seen_until and e.key not in aside}
    for key, ours, remote in _differing(connection, part.tracked, new):
        conflict_log.add(connection, session, part.tracked.name, key, Sides(None, ours, remote, remote))


def _differing(
    connection: sqlite3.Connection, tracked: TrackedObject, entries: dict[str, Entry]
) -> Iterator[tuple[str, Record, Record | None]]:
    """Find our records that are not as the hub's: (key, ours, theirs), None for one that it has deleted."""
    wanted = json.dumps(list(entries))
    found = read(connection, lambda: connection.execute(tracked.sql.select, (wanted,)).fetchall())
    unread = cursors.unread(connection, tracked.name)  # what is there is not ours: it was filled in
    for key, *values in found:
        if key not in entries:
            continue
        ours, remote = tracked.record_of(tuple(values)), _remote(tracked, entries[key])
        if remote is None or any(
            ours.get(column) != value for column, value in remote.items() if column not in unread
        ):
            yield key, ours, remote
