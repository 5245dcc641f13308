"""What the losses of a damaged file mean for the rest of the store; runs in the copy, in one transaction.

What cannot be known is never guessed: a record that is missing was not deleted, and a record of which
nobody knows whether it was edited is compared with the hub's, and offered or logged where they differ.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from statesync.store import bases, conflict_log, local_only, quarantine, spaces
from statesync.store.care.losses import Losses
from statesync.store.cursors import applied, cursor, rereads
from statesync.store.cursors.cursor import MISSED_DELETES, UNLOGGED
from statesync.store.journal import batches
from statesync.store.outbox import changes, settled, shared, soundness, under_way
from statesync.store.outbox.fold import fold
from statesync.store.rereading import reread
from statesync.store.schema import migrating
from statesync.store.schema.statements import has_table
from statesync.store.tracking import registry, triggers
from statesync.store.tracking.objects import Objects
from statesync.store.upload.doubts import let_go
from statesync.wire import MAX_KEY_LENGTH


def settle(connection: sqlite3.Connection, losses: Losses, opened: Objects) -> None:
    """Set right what the losses mean. ``opened`` are the objects of the program, if it has opened the store.

    Afterwards every pending change that could be read waits, but those of records that are lost, and what
    has to be read from the hub again is read by the next session.
    """
    migrating.restore_format(connection)
    is_described = not registry.forget_unreadable(connection) and not losses.of(registry.TABLE)
    objects = _with_tables(connection, opened | registry.load(connection))
    doubted = _settle_changes(connection, losses, objects)
    _settle_spaces(connection, losses, objects)
    _settle_batches(connection)
    gone = {name: tracked for name, tracked in objects.items() if losses.of(tracked.table)}
    if losses.of(bases.TABLE):  # a base that is too high would overwrite what the hub has
        gone = objects
        rereads.distrust(connection, objects)  # an edit that is still to come has none either
        for name in objects:
            changes.forget_versions(connection, name)
    if losses.of(quarantine.TABLE):  # which records these were, the hub alone knows
        gone = objects
    ranges = _ranges(connection, losses, {n: gone[n] for n in gone.keys() - doubted.keys()})
    for name, (after, until) in ranges.items():
        rereads.read_range(connection, name, after, until)
    reread(connection, {n: gone[n] for n in gone.keys() - ranges.keys()}, MISSED_DELETES)
    reread(connection, doubted, UNLOGGED)
    if not is_described:  # an object of which nobody knows how it looks is read again all the same
        for kept in applied.kept(connection):
            if kept.name not in objects:
                rereads.start_over(connection, kept.name, UNLOGGED)
    if losses.of(cursor.SEEN_TABLE):
        rereads.restart_rereads(connection)


def _ranges(connection: sqlite3.Connection, losses: Losses, objects: Objects) -> dict[str, tuple[str, str]]:
    """Return the range of keys that is enough to read again, of each object of which that is known.

    It has every record of the damaged pages. It is enough only where nothing but records is gone, and the
    feed brings what is newer than the cursor: of its own writes a device is not told.
    """
    if batches.awaited(connection) or {loss.table.lower() for loss in losses} - {
        tracked.table.lower() for tracked in objects.values()
    }:
        return {}
    found = {}
    for at in applied.cursors(connection, objects).values():
        damaged = losses.of(objects[at.object].table)
        keys = None if damaged is None else damaged.touched(objects[at.object].key)
        if keys and at.is_whole and at.position >= max(1, spaces.head_of(connection, at.space)):
            texts = sorted(key for key in keys if isinstance(key, str) and key and "\0" not in key)
            if texts and len(texts[-1]) <= MAX_KEY_LENGTH:
                found[at.object] = (texts[0][:-1], texts[-1])
    return found


def _with_tables(connection: sqlite3.Connection, objects: Objects) -> Objects:
    """Return the objects that have their table and their log; what the others lack, the doctor tells."""
    return {
        name: tracked
        for name, tracked in objects.items()
        if has_table(connection, tracked.table) and triggers.has_log(connection, tracked)
    }


def _settle_changes(connection: sqlite3.Connection, losses: Losses, objects: Objects) -> Objects:
    """Set log and outbox right; return the objects of which writes may be unknown."""
    doubted = {name: tracked for name, tracked in objects.items() if losses.of(tracked.log)}
    lost = losses.of(soundness.TABLE)
    for entry in (lost.known if lost is not None else None) or ():
        tracked = objects.get(entry["object"])
        if tracked is not None:
            gone = losses.of(tracked.table)
            may_be_lost = gone is not None and _has(gone.keys(tracked.key), entry["key"])
            soundness.offer_lost_change(connection, tracked, entry["key"], may_be_lost=may_be_lost)
    if lost is not None and lost.known is None:
        doubted = objects
    under_way.spread(connection)  # what gave the positions out may be lost, too
    fold(connection, objects)
    if losses.of(under_way.TABLE) or losses.of(settled.TABLE):  # any of them may be at the hub
        shared.note_all(connection, objects)
    for tracked in objects.values():
        table = losses.of(tracked.table)
        if table is not None:
            keys = table.keys(tracked.key)
            soundness.forget_edits(connection, tracked, keys)
            local_only.end_missing(connection, tracked, keys)
    if losses.of(conflict_log.TABLE):
        soundness.decide_anew(connection)
    if not triggers.is_on(connection):
        triggers.switch_on(connection)
        doubted = objects
    return doubted


def _has(keys: list[Any] | None, key: str) -> bool:
    return keys is None or key in keys


def _settle_spaces(connection: sqlite3.Connection, losses: Losses, objects: Objects) -> None:
    """Let objects belong where they did, and spaces that are forgotten be met as for the first time."""
    known, owners = list(spaces.hubs(connection)), applied.spaces(connection)
    if losses.of(cursor.TABLE) and len(known) == 1:  # of several spaces, the next session says which
        for name in objects.keys() - owners.keys():
            applied.move_to_space(connection, name, known[0], MISSED_DELETES)
    if losses.of(spaces.TABLE):
        lost = {n: objects[n] for n, space in owners.items() if space not in known and n in objects}
        reread(connection, lost, MISSED_DELETES)


def _settle_batches(connection: sqlite3.Connection) -> None:
    """Let go of batches in doubt whose payload is lost: what they had is offered anew."""
    for session, number in batches.without_payload(connection):
        let_go(connection, session, number)
