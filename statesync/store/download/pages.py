"""Applying one page of the feed: the hot path of every download. One statement a step, not one a record.

A record with a pending change is never overwritten: the hub's record is kept beside the change, which
stays in conflict until it is uploaded.

A record that does not fit its table waits in quarantine, in the same transaction. Which one that is, is found
out only where a page could not be stored: the caller stores it once more then, record by record (``apart``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

from attrs import field

from statesync.classes import frozen
from statesync.conflicts import Record
from statesync.store import bases, conflict_log, local_only, quarantine
from statesync.store.bases import Step
from statesync.store.conflict_log import Sides
from statesync.store.cursors import applied, rereads
from statesync.store.cursors.cursor import EPOCH, UNKNOWN, UNLOGGED, Cursor
from statesync.store.download import lost, scans, upserts
from statesync.store.download.apart import Apart
from statesync.store.download.decoding import ObjectPage, remote_of, text_of
from statesync.store.download.fitting import REFUSALS, PageDoesNotFit, reason_of
from statesync.store.download.scans import Range
from statesync.store.download.unshown import Unshown
from statesync.store.file.reading import read
from statesync.store.indexes import building
from statesync.store.outbox import changes
from statesync.store.outbox.changes import Rebase, RemoteImage
from statesync.store.outbox.fold import fold
from statesync.store.outbox.lookup import pending_among
from statesync.store.outbox.shared import OFFERED
from statesync.store.quarantine import Misfit, Reason
from statesync.store.rereading import finish_reread
from statesync.store.tracking.images import image_of
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.records import is_there, passed_over
from statesync.store.tracking.triggers import switched_off
from statesync.wire import Entry, Page


@frozen
class How:
    """How a page is stored: for which session, whether record by record, and what is known of its records.

    ``holds`` says that some records may be in quarantine. ``deadly`` are the records, by their objects, that
    may not be tried, since a rule of their table rolls the whole transaction back. ``notes_keys`` says
    that it is one of a feed: a read from the start in the order of versions notes what it meets.
    """

    session: str
    is_apart: bool = False
    holds: bool = False
    notes_keys: bool = False
    deadly: Mapping[str, Mapping[str, Reason]] = field(factory=dict)

    def apart(self, name: str) -> Mapping[str, Reason] | None:
        """Return the deadly records of an object, None where records are not stored one by one."""
        return self.deadly.get(name, {}) if self.is_apart else None


@frozen
class Stored:
    """How many records were stored or deleted, and how many came into quarantine, and out of it."""

    records: int = 0
    held: int = 0
    released: int = 0

    def __add__(self, other: Stored) -> Stored:
        return Stored(self.records + other.records, self.held + other.held, self.released + other.released)


NOTHING = Stored()


def apply(
    connection: sqlite3.Connection,
    page: Page,
    parts: Sequence[ObjectPage],
    objects: Objects,
    positions: Mapping[str, Cursor],
    how: How,
    ranges: Sequence[Range] = (),
) -> Stored:
    """Store a decoded page, untracked, and its cursors; ``ranges`` are what a page of scans has looked at.

    In a transaction; writes nothing if nothing is new. ``objects`` are those of the scope, ``positions`` the
    cursors from which the page was asked for, and which they still have. Folds first, so that every change
    made until now keeps the cursor of its time as its base. Raises ``PageDoesNotFit`` where a record does not
    fit its table, and the page is not stored record by record.
    """
    fold(connection, objects)
    ended = [] if page.more else [each for each in positions.values() if each.object not in page.scans]
    ended = [each for each in ended if each.rereading is not None]
    held: dict[str, list[Misfit]] = {}
    stored = NOTHING
    for looked_at in ranges:
        if looked_at.begins_with_many:
            building.put_off(connection, looked_at.tracked)
    with switched_off(connection) if parts or ended or page.scans else nullcontext():
        for looked_at in ranges:
            stored += _replace(connection, looked_at, how, held)
        for part in parts:
            stored += _apply_part(connection, part, positions[part.tracked.name], how, held)
        for cursor in ended:
            at = page.cursors.get(cursor.object, cursor.position)
            stored += _end_reread(connection, objects[cursor.object], cursor, at, how, held)
    for looked_at in ranges:
        scans.pass_over(connection, looked_at)
        applied.follow_scan(connection, looked_at.cursor, looked_at.scanned, looked_at.to_come)
    if not page.scans:
        _move(connection, page, positions, how)
    for name, misfits in held.items():
        quarantine.keep_bases(connection, name, misfits)
    return stored


def _replace(
    connection: sqlite3.Connection, looked_at: Range, how: How, held: dict[str, list[Misfit]]
) -> Stored:
    """Answer for what a page of a scan does not show; rows that cannot be deleted wait for it."""
    name = looked_at.tracked.name
    found = scans.replace(connection, looked_at, how.session, how.apart(name))
    if found.misfits:
        held[name] = list(found.misfits)
        quarantine.hold(connection, name, found.misfits, how.session)
    return Stored(held=len(found.misfits), released=found.released)


def _move(connection: sqlite3.Connection, page: Page, positions: Mapping[str, Cursor], how: How) -> None:
    """Save how far a page leads the feeds."""
    moved = {name: at for name, at in page.cursors.items() if at != positions[name].position}
    if moved:
        again = [name for name in moved if how.holds and positions[name].rereading is not None]
        older = quarantine.older_rows(connection, again)
        applied.move(connection, [positions[name] for name in moved], page)
        bases.pass_over(connection, (Step(name, positions[name].position, at) for name, at in moved.items()))
        for row in older:
            bases.remember(connection, *row)


def _end_reread(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    cursor: Cursor,
    at: int,
    how: How,
    held: dict[str, list[Misfit]],
) -> Stored:
    """End a read from the start, which has come to ``at``; what a rule holds fast waits to be deleted."""
    name = tracked.name
    misfits: list[Misfit] = []

    def delete(which: str) -> None:
        unseen = Unshown(connection, tracked, which, {"object": name})
        misfits.extend(unseen.delete(at, how.apart(name)))

    released = finish_reread(connection, tracked, cursor, how.session, delete)
    if misfits:
        held.setdefault(name, []).extend(misfits)
        quarantine.hold(connection, name, misfits, how.session)
    return Stored(held=len(misfits), released=released)


def _apply_part(
    connection: sqlite3.Connection, part: ObjectPage, cursor: Cursor, how: How, held: dict[str, list[Misfit]]
) -> Stored:
    name = part.tracked.name
    before = quarantine.among(connection, name, part.keys) if how.holds else set()
    if before and cursor.rereading == EPOCH:
        remotes = {e.key: remote_of(part.tracked, e) for e in part.entries if e.key in before}
        lost.log_replaced(connection, part.tracked, remotes, how.session)
    over = quarantine.written_over(connection, name, before) if before else {}
    stays = {entry.key for entry in part.entries if over.get(entry.key) == entry.version} if over else set()
    count, misfits = apply_object(connection, part, cursor, how, before)
    waiting = {misfit.key for misfit in misfits}
    released = quarantine.release(connection, name, before - waiting - stays)
    if misfits:
        held[name] = [*held.get(name, ()), *misfits]
        quarantine.hold(connection, name, misfits, how.session)
    return Stored(count, held=len(waiting - before), released=released)


def apply_object(
    connection: sqlite3.Connection, part: ObjectPage, cursor: Cursor, how: How, held: set[str]
) -> tuple[int, list[Misfit]]:
    """Store one object's records; return how many there were, and those that did not fit.

    ``held`` are those that are in quarantine: what stands in the table is no edit of theirs. The caller has
    folded, and switched tracking off.
    """
    tracked = part.tracked
    aside = pending_among(connection, tracked.name, [entry.key for entry in part.entries])
    if aside:
        aside -= _withdraw_offers(connection, part, aside, how.session)
    if cursor.is_compared and how.notes_keys:
        rereads.note_seen(connection, tracked.name, part.keys)
    known, overwritten = _local_among(connection, part)
    if known:
        part = part.without(known)
    if aside:
        _leave_aside(connection, part, aside)
        local_only.end(connection, tracked.name, overwritten & aside)
    if cursor.rereading in (EPOCH, UNLOGGED):
        aside |= _offer_newer(connection, part, cursor, aside | overwritten | held)
    if cursor.rereading == UNLOGGED:
        _log_overwritten(connection, part, cursor, aside | overwritten, how.session)
    elif cursor.rereading == EPOCH and cursor.reread_from == UNKNOWN:
        _log_overwritten(connection, part, cursor, aside | overwritten | held, how.session)
    to_store = part.without(aside) if aside else part
    count = len(to_store.rows) + len(to_store.deleted)
    if not how.is_apart:
        local_only.end(connection, tracked.name, overwritten - aside)
        may_be_same = cursor.is_compared and not how.notes_keys
        _store_at_once(connection, to_store, may_be_same=may_be_same)
        return count, list(part.misfits)
    misfits = _store_apart(connection, to_store, overwritten, how)
    return count - len(misfits), [*part.misfits, *misfits]


def _store_at_once(connection: sqlite3.Connection, part: ObjectPage, *, may_be_same: bool) -> None:
    """Store records. Deletes go first: a record may have the unique value of one that is deleted.

    ``may_be_same`` says that they are read again, in the order of their keys: most are there as they are.
    """
    tracked, rows = part.tracked, part.rows
    try:
        if part.deleted:
            _delete_at_once(connection, part)
        some = upserts.changed(connection, tracked, rows) if may_be_same else rows
        upserts.write(connection, tracked, some, are_whole=part.is_whole)
    except REFUSALS as error:
        if reason_of(error) is None:
            raise
        raise PageDoesNotFit from error


def _delete_at_once(connection: sqlite3.Connection, part: ObjectPage) -> None:
    """Delete records. Raises ``sqlite3.IntegrityError`` where a trigger passes over one without a word."""
    tracked, keys = part.tracked, [(key,) for key in part.deleted]
    gone = connection.executemany(tracked.sql.delete, keys).rowcount
    if gone < len(keys) and any(is_there(connection, tracked, key) for key in part.deleted):
        raise passed_over(tracked)


def _store_apart(connection: sqlite3.Connection, part: ObjectPage, local: set[str], how: How) -> list[Misfit]:
    deadly = how.deadly.get(part.tracked.name, {})
    apart = Apart(connection, part.tracked, local, deadly)
    apart.delete(part.deleted)
    apart.write(part.rows)
    return [
        Misfit(entry.key, entry.version, text_of(entry), apart.misfits[entry.key])
        for entry in part.entries
        if entry.key in apart.misfits
    ]


def _local_among(connection: sqlite3.Connection, part: ObjectPage) -> tuple[set[str], set[str]]:
    """Return which records of the page stay local only, and which do no longer: the page has news of them."""
    name = part.tracked.name
    exempt = local_only.among(connection, name, [entry.key for entry in part.entries])
    if not exempt:
        return set(), set()
    known = {
        entry.key
        for entry in part.entries
        if entry.key in exempt and exempt[entry.key].knows(entry.version, remote_of(part.tracked, entry))
    }
    return known, exempt.keys() - known


def _withdraw_offers(
    connection: sqlite3.Connection, part: ObjectPage, aside: set[str], session: str
) -> set[str]:
    """Let the hub's records take the place of those that were offered to it in vain; return their keys.

    Nobody has edited those here. Where ours is another one, it is kept in the conflict log all the same.
    """
    withdrawn = changes.withdraw_offers(connection, part.tracked.name, aside)
    if withdrawn:
        entries = {entry.key: entry for entry in part.entries if entry.key in withdrawn}
        for key, ours, remote in _differing(connection, part.tracked, entries):
            conflict_log.add(connection, session, part.tracked.name, key, Sides(None, ours, remote, remote))
    return withdrawn


def _leave_aside(connection: sqlite3.Connection, part: ObjectPage, aside: set[str]) -> None:
    images = _remote_images(part, aside)
    versions = {entry.key: entry.version for entry in part.entries if entry.key in aside}
    remote = [RemoteImage(key, image, versions[key]) for key, image in images.items()]
    changes.keep_remote_images(connection, part.tracked.name, remote)


def _remote_images(part: ObjectPage, keys: set[str]) -> dict[str, str | None]:
    """Return the images of the hub's records, None for a deleted one."""
    return {
        entry.key: image_of(remote_of(part.tracked, entry)) for entry in part.entries if entry.key in keys
    }


def _offer_newer(
    connection: sqlite3.Connection, part: ObjectPage, cursor: Cursor, pending: set[str]
) -> set[str]:
    """Offer what this device has seen and the hub has lost, or has never been told of.

    A record whose version is not above how far it had been read was seen here in that version or a later one.
    Where ours differs, the hub lacks a write. Returns the keys of the records that are offered.
    """
    tracked = part.tracked
    seen = (e for e in part.entries if e.version <= cursor.seen_until(e.key))
    old = {e.key: e for e in seen if e.key not in pending}
    images = _remote_images(part, set(old))
    unread = rereads.unread(connection, tracked.name)
    offered: set[str] = set()
    for key, _, remote in _differing(connection, tracked, old):
        # The delete may as well have been made since the backup took the hub's place: so it is a conflict.
        edit = Rebase("update", images[key], old[key].version) if remote else Rebase("insert", None, 1)
        changes.offer_edit(connection, tracked.name, key, edit, shared=OFFERED)
        offered.add(key)
    if unread and offered:
        changes.spare(connection, tracked.name, unread, offered)
    return offered


def _log_overwritten(
    connection: sqlite3.Connection, part: ObjectPage, cursor: Cursor, aside: set[str], session: str
) -> None:
    """Keep what is replaced by a newer version in the conflict log.

    That is where writes here may not be logged, or where nobody knows which versions are here: ours may have
    been edited here, or be newer, or only older.
    """
    unseen = (e for e in part.entries if e.version > cursor.seen_until(e.key))
    new = {e.key: e for e in unseen if e.key not in aside}
    for key, ours, remote in _differing(connection, part.tracked, new):
        conflict_log.add(connection, session, part.tracked.name, key, Sides(None, ours, remote, remote))


def _differing(
    connection: sqlite3.Connection, tracked: TrackedObject, entries: dict[str, Entry]
) -> Iterator[tuple[str, Record, Record | None]]:
    """Find our records that are not as the hub's: (key, ours, theirs), None for one that it has deleted."""
    wanted = json.dumps(list(entries))
    found = read(connection, lambda: connection.execute(tracked.sql.select, (wanted,)).fetchall())
    unread = rereads.unread(connection, tracked.name)  # what is there is not ours: it was filled in
    for key, *values in found:
        if key not in entries:
            continue
        ours, remote = tracked.record_of(tuple(values)), remote_of(tracked, entries[key])
        if remote is None or any(
            ours.get(column) != value for column, value in remote.items() if column not in unread
        ):
            yield key, ours, remote
