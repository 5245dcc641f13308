"""The doctor: holds a store's file, triggers, outbox, cursors and journal against each other.

``examine`` only reads. Every complaint says in plain words what is wrong and names the repair that mends it
(``repair``), where there is one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from statesync.complaints import Complaint, Repair
from statesync.store import local_only, quarantine, spaces
from statesync.store.care.salvage import faults_in, is_damage, lacks_the_program
from statesync.store.cursors import applied
from statesync.store.indexes import marks
from statesync.store.journal import audit, batches
from statesync.store.outbox import parking, soundness
from statesync.store.schema import migrating
from statesync.store.schema.statements import has_table
from statesync.store.tracking import triggers
from statesync.store.tracking.objects import Objects


def examine(connection: sqlite3.Connection, objects: Objects) -> list[Complaint]:
    """Return everything that is wrong with the store in a file that is sound, worst first.

    Runs in one transaction, so that it reads one state whoever writes meanwhile.
    """
    gone = list(_check_tables(connection, objects))
    absent = {complaint.about for complaint in gone}
    present = {name: tracked for name, tracked in objects.items() if name not in absent}
    return [
        *gone,
        *_check_tracking(connection, present),
        *_check_outbox(connection, objects, present),
        *_check_cursors(connection, objects),
        *_check_indexes(connection, objects),
        *_check_sessions(connection),
    ]


def check_file(connection: sqlite3.Connection) -> Iterator[Complaint]:
    """Say whether SQLite finds the file damaged, or cannot look at all of it."""
    try:
        faults = faults_in(connection)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            yield _damage([str(error)])
            return
        if not lacks_the_program(error):
            raise
        yield Complaint("file", f"it cannot be checked here: {error}, which {_ONLY_THE_PROGRAM}", None)
        faults = _faults_of_tables(connection)
    if faults:
        yield _damage(faults[:10])


def _faults_of_tables(connection: sqlite3.Connection) -> list[str]:
    """Return what is damaged of those tables that can be checked without the program."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
    faults: list[str] = []
    for (table,) in tables.fetchall():
        try:
            faults += faults_in(connection, table)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                faults.append(f"{table}: {error}")
            elif not lacks_the_program(error):
                raise
    return faults


_ONLY_THE_PROGRAM = (
    "the program that uses it brings; call examine() and repair() of its Store, with it registered on "
    "store.database"
)


def _damage(said: list[str]) -> Complaint:
    return Complaint("file", f"the file is damaged: {'; '.join(said)}", Repair.SALVAGE)


def lacking_tables(connection: sqlite3.Connection) -> list[Complaint]:
    """Say which tables of the store's own are gone; without them every other answer would be a guess."""
    missing = migrating.missing_tables(connection)
    return [Complaint("file", f"the store's table {table} is gone", None) for table in missing]


def _check_tables(connection: sqlite3.Connection, objects: Objects) -> Iterator[Complaint]:
    for name, tracked in objects.items():
        if not has_table(connection, tracked.table):
            yield Complaint(name, f"its table {tracked.table} is gone; setup() makes it anew", Repair.REREAD)


def _check_tracking(connection: sqlite3.Connection, objects: Objects) -> Iterator[Complaint]:
    if not triggers.is_on(connection):
        yield Complaint("file", "change tracking is switched off: writes are not seen", Repair.RETRACK)
    for name, tracked in objects.items():
        lost = triggers.missing_triggers(connection, tracked)
        if not triggers.has_log(connection, tracked):
            yield Complaint(name, "its log is gone or changed: writes to it fail", Repair.RETRACK)
        if lost:
            yield Complaint(
                name, f"{len(lost)} of its triggers are gone or changed: writes are not seen", Repair.RETRACK
            )


def _check_outbox(connection: sqlite3.Connection, objects: Objects, present: Objects) -> Iterator[Complaint]:
    for name, count in soundness.counts(connection).items():
        if name not in objects:
            yield Complaint(name, f"{count} pending changes are of an object that is not tracked", None)
    for name, count in local_only.counts(connection).items():
        if name not in objects:
            yield Complaint(
                name, f"{count} records that are local only are of an object that is not tracked", None
            )
    for name, count in quarantine.counts(connection).items():
        if name not in objects:
            yield Complaint(name, f"{count} records in quarantine are of an object that is not tracked", None)
        else:
            yield Complaint(
                name,
                f"{count} records that the hub has sent do not fit the table and wait in quarantine; "
                "`statesync quarantine` says why, and the sync after the cause is gone stores them",
                None,
            )
    for name, count in parking.counts(connection).items():
        yield Complaint(
            name,
            f"{count} pending changes were refused by the hub and are parked; `statesync pending` says why, "
            "and an edit or `statesync retry` sends them again",
            None,
        )
    for name, tracked in present.items():
        if not triggers.has_log(connection, tracked):
            continue  # told of above; without the log nobody knows what has been written since
        wrong = soundness.count_contradictions(connection, tracked)
        if wrong:
            yield Complaint(
                name, f"{wrong} pending changes do not fit what their records are now", Repair.REFOLD
            )
        missing = soundness.count_missing(connection, tracked)
        if missing:
            yield Complaint(
                name,
                f"{missing} pending changes are of records that cannot be found, and were not deleted here; "
                "they wait: make those records again, or take the changes back with rollback()",
                None,
            )
    stray = soundness.count_stray(connection, batches.awaited(connection))
    if stray:
        yield Complaint("outbox", f"{stray} pending changes belong to a batch that has ended", Repair.REFOLD)


def _check_cursors(connection: sqlite3.Connection, objects: Objects) -> Iterator[Complaint]:
    hubs = spaces.hubs(connection)
    for kept in applied.kept(connection):
        name, position = kept.name, kept.position
        if name not in objects:
            yield Complaint(name, "a cursor is kept of an object that is not tracked", None)
        elif not isinstance(position, int) or position < 0:
            yield Complaint(name, f"its cursor is {position!r}, which no hub has given", Repair.REREAD)
        elif not kept.has_sound_scan:
            yield Complaint(
                name, "how far its scan has come is said in a way that no hub has told", Repair.REREAD
            )
        elif (position > 0 or kept.since) and hubs.get(kept.space) is None:
            yield Complaint(name, f"its cursor is {position}, but no hub is known for it", Repair.REREAD)


def _check_indexes(connection: sqlite3.Connection, objects: Objects) -> Iterator[Complaint]:
    being_filled = applied.ends_of_scans(connection)
    names = {tracked.table.lower(): name for name, tracked in objects.items()}
    for mark in marks.waiting(connection):
        name = names.get(mark.table.lower(), "file")
        if name not in being_filled:
            yield Complaint(
                name,
                f"the index {mark.name} of the table {mark.table} waits to be built; the next sync that "
                "comes to its end does it, and so does setup()",
                Repair.REINDEX,
            )


def _check_sessions(connection: sqlite3.Connection) -> Iterator[Complaint]:
    for session, fault in audit.contradictions(connection):
        yield Complaint(session, f"the journal of this session contradicts itself: {fault}", Repair.CLOSE)
