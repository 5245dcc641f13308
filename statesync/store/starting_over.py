"""Taking back what waits, and starting over: what a program seldom asks of objects, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from statesync.errors import UsageError
from statesync.store import claims, conflict_log, local_only
from statesync.store.cursors.cursor import EVERYTHING
from statesync.store.file.reading import key_for_people
from statesync.store.indexes import building, marks
from statesync.store.outbox import changes, lookup, queue
from statesync.store.outbox.lookup import Change
from statesync.store.rereading import reread
from statesync.store.resolving import decisions
from statesync.store.resolving.undoing import make_room, undo
from statesync.store.tracking import records, registry, triggers
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main


def roll_back(connection: sqlite3.Connection, objects: Objects, addresses: Sequence[tuple[str, str]]) -> int:
    """Undo the changes of these records, each an object's name and a key; return how many there were."""
    found = [lookup.changes_of_record(connection, name, key) for name, key in addresses]
    return _undo(connection, objects, [change for some in found for change in some])


def roll_back_all(connection: sqlite3.Connection, objects: Objects, names: Sequence[str]) -> int:
    """Undo every change of these objects; return how many there were."""
    found = [lookup.changes_of_object(connection, name) for name in names]
    return _undo(connection, objects, [change for some in found for change in some])


def _undo(connection: sqlite3.Connection, objects: Objects, undone: list[Change]) -> int:
    for change in undone:
        if change.may_be_at_hub:
            key = key_for_people(change.key)
            raise UsageError(f"the change of {change.object} {key} may have reached the hub; sync first")
    for change in undone:
        decisions.take_back(connection, objects[change.object], change)
    for change in undone:
        make_room(connection, objects[change.object], change)
    # What was made here goes first: its key may be, to the table, that of one that comes back.
    for change in sorted(undone, key=lambda change: not change.made_the_record):
        undo(connection, objects[change.object], change)
    return len(undone)


def clear(connection: sqlite3.Connection, objects: Objects) -> None:
    """Delete the records of these objects, and read them again from the start."""
    _empty(connection, objects)
    reread(connection, objects, EVERYTHING)


def reset(connection: sqlite3.Connection, objects: Objects, *, keep_records: bool) -> None:
    """Forget the hub of these objects; offer their records to the next one, or delete them."""
    if keep_records:
        for tracked in objects.values():
            changes.offer_all(connection, tracked)
            conflict_log.forget_waiting(connection, tracked.name)
    else:
        _empty(connection, objects)
    claims.forget(connection, tuple(objects))


def drop(connection: sqlite3.Connection, objects: Objects) -> None:
    """Delete these objects: their tables, triggers and pending changes."""
    _empty(connection, objects)
    claims.forget(connection, tuple(objects))
    for tracked in objects.values():
        triggers.remove(connection, tracked)
        marks.forget_table(connection, tracked.table)
        connection.execute(f"DROP TABLE IF EXISTS {in_main(tracked.table)}")
        registry.remove(connection, tracked.name)


def refuse_to_lose(connection: sqlite3.Connection, names: Sequence[str], what: str) -> None:
    """Raise ``UsageError`` if changes of these objects wait, which only the device has."""
    waiting = sum(queue.count_pending(connection, name) for name in names)
    if waiting:
        keep = ", keep them with reset(keep_records=True)" if what == "reset" else ""
        raise UsageError(
            f"{waiting} changes wait that no hub has yet, and {what}() would delete them; "
            f"sync first{keep}, or let go of them with {what}(discard_pending=True)"
        )


def _empty(connection: sqlite3.Connection, objects: Objects) -> None:
    for tracked in objects.values():
        if not tracked.is_gone:
            _delete_all(connection, tracked)
            building.build_of(connection, tracked.table)
        changes.forget_object(connection, tracked.name)
        conflict_log.forget_waiting(connection, tracked.name)
        local_only.forget_object(connection, tracked.name)


def _delete_all(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    try:
        records.delete_all(connection, tracked)
    except sqlite3.IntegrityError as error:
        raise UsageError(
            f"the records of {tracked.name} stay: a rule of the table {tracked.table} holds one fast "
            f"({error}), and nothing was changed; drop the rule, or change the record, and say it again"
        ) from error
