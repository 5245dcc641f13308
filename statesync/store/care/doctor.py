"""The doctor: holds a store's file, triggers, outbox, cursors and journal against each other.

``examine`` only reads. Every complaint says in plain words what is wrong and names the repair that mends it
(``repair``), where there is one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from enum import StrEnum

from attrs import frozen

from statesync.lifecycle import (
    BATCH,
    SESSION,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Phase,
    Trigger,
)
from statesync.store import schema
from statesync.store.outbox import Objects
from statesync.store.tracking import triggers
from statesync.store.tracking.objects import TrackedObject, quoted


class Repair(StrEnum):
    """What mends a complaint. None of them loses a pending change."""

    SALVAGE = "salvage"
    """Copy what can be read into a new file, keep the damaged one, and fetch the rest from the hub."""
    RETRACK = "retrack"
    """Install the triggers again; what was written unseen is offered to the hub."""
    REFOLD = "refold"
    """Set outbox entries right by what their records are."""
    REREAD = "reread"
    """Read the object from the hub again, from the start; pending changes stay."""
    CLOSE = "close"
    """Mark the session as failed: its history cannot be trusted, its committed work stays."""


@frozen
class Complaint:
    """One thing that is wrong: ``about`` an object, a session or the file; ``repair`` mends it."""

    about: str
    message: str
    repair: Repair | None


def examine(connection: sqlite3.Connection, objects: Objects) -> list[Complaint]:
    """Return everything that is wrong with the store, worst first; an empty list is a sound store."""
    damage = list(_check_file(connection))
    if damage:
        return damage  # on a damaged file every other answer would be a guess
    checks: tuple[Callable[[sqlite3.Connection, Objects], Iterator[Complaint]], ...] = (
        _check_tables,
        _check_tracking,
        _check_outbox,
        _check_cursors,
        _check_sessions,
    )
    return [complaint for check in checks for complaint in check(connection, objects)]


def _check_file(connection: sqlite3.Connection) -> Iterator[Complaint]:
    try:
        said = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
    except sqlite3.DatabaseError as error:
        said = [str(error)]
    if said != ["ok"]:
        yield Complaint("file", f"the file is damaged: {'; '.join(said)}", Repair.SALVAGE)


def _check_tables(connection: sqlite3.Connection, objects: Objects) -> Iterator[Complaint]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = {name for (name,) in rows}
    for table in schema.tables():
        if table not in tables:
            yield Complaint("file", f"the store's table {table} is gone", None)
    for name, tracked in objects.items():
        if tracked.table not in tables:
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


def _check_outbox(connection: sqlite3.Connection, objects: Objects) -> Iterator[Complaint]:
    for name, count in connection.execute(
        "SELECT object, count(*) FROM statesync_change GROUP BY object"
    ).fetchall():
        if name not in objects:
            yield Complaint(name, f"{count} pending changes are of an object that is not tracked", None)
    for name, tracked in objects.items():
        if not triggers.has_log(connection, tracked):
            continue  # told of above; without the log nobody knows what has been written since
        wrong = connection.execute(f"SELECT count(*) {wrong_operations(tracked)}", (name,)).fetchone()[0]
        if wrong:
            yield Complaint(
                name, f"{wrong} pending changes do not fit what their records are now", Repair.REFOLD
            )
    stray = connection.execute(f"SELECT count(*) FROM statesync_change WHERE {STRAY}").fetchone()[0]
    if stray:
        yield Complaint("outbox", f"{stray} pending changes belong to a batch that has ended", Repair.REFOLD)


STRAY = (
    "batch IS NOT NULL AND batch NOT IN (SELECT wire_id FROM statesync_batch "
    "WHERE wire_id IS NOT NULL AND (doubt = 1 OR phase NOT IN ('committed', 'aborted')))"
)
"""Changes that wait for a batch which nobody waits for."""


def wrong_operations(tracked: TrackedObject) -> str:
    """Return the FROM and WHERE of pending changes whose operation contradicts their record."""
    key = quoted(tracked.key)
    return (
        f"FROM statesync_change AS change LEFT JOIN {quoted(tracked.table)} AS now ON now.{key} = change.key "
        f"WHERE change.object = ? AND (change.operation = 'delete') <> (now.{key} IS NULL) "
        f"AND NOT EXISTS (SELECT 1 FROM {quoted(tracked.log)} AS later WHERE later.key = change.key)"
    )


def _check_cursors(connection: sqlite3.Connection, objects: Objects) -> Iterator[Complaint]:
    rows = connection.execute(
        "SELECT object, cursor, typeof(cursor), hub FROM statesync_cursor "
        "LEFT JOIN statesync_space ON name = space"
    ).fetchall()
    for name, cursor, kind, hub in rows:
        if name not in objects:
            yield Complaint(name, "a cursor is kept of an object that is not tracked", None)
        elif kind != "integer" or cursor < 0:
            yield Complaint(name, f"its cursor is {cursor!r}, which no hub has given", Repair.REREAD)
        elif cursor > 0 and hub is None:
            yield Complaint(name, f"its cursor is {cursor}, but no hub is known for it", Repair.REREAD)


# -- the journal -----------------------------------------------------------------------------------


def _check_sessions(connection: sqlite3.Connection, objects: Objects) -> Iterator[Complaint]:  # noqa: ARG001
    rows = connection.execute("SELECT id, phase FROM statesync_session ORDER BY id").fetchall()
    for session, phase in rows:
        fault = _fault_of(connection, session, phase)
        if fault:
            yield Complaint(session, f"the journal of this session contradicts itself: {fault}", Repair.CLOSE)


def _fault_of(connection: sqlite3.Connection, session: str, phase: str) -> str | None:
    entries = connection.execute(
        'SELECT number, chart, batch, "trigger", source, target FROM statesync_transition '
        "WHERE session = ? ORDER BY number",
        (session,),
    ).fetchall()
    if [entry[0] for entry in entries] != list(range(1, len(entries) + 1)):
        return "entries are missing"
    standing: dict[int | None, str] = {None: Phase.IDLE}
    for number, chart, batch, trigger, source, target in entries:
        where = None if chart == SESSION.name else batch
        if standing.setdefault(where, BatchPhase.OPEN) != source:
            return f"entry {number} leaves {source}, where it never was"
        if not _is_edge(SESSION if where is None else BATCH, trigger, source, target):
            return f"entry {number} ({trigger} from {source} to {target}) is no transition of the chart"
        standing[where] = target
    if standing[None] != phase:
        return f"it ends in {standing[None]}, the session is kept as {phase}"
    return _batch_fault(connection, session, standing)


def _batch_fault(connection: sqlite3.Connection, session: str, standing: dict[int | None, str]) -> str | None:
    rows = connection.execute(
        "SELECT number, phase FROM statesync_batch WHERE session = ?", (session,)
    ).fetchall()
    for number, phase in rows:
        if standing.get(number, BatchPhase.OPEN) != phase:
            return f"batch {number} is kept as {phase}, its journal ends in {standing.get(number)}"
    return None


def _is_edge(chart: Chart, trigger: str, source: str, target: str) -> bool:
    triggers: type[AnyTrigger] = Trigger if chart is SESSION else BatchTrigger
    if trigger not in set(triggers) or source not in set(chart.phases):
        return False
    phase = next(phase for phase in chart.phases if phase == source)
    return any(edge.target == target for edge in chart.edges_of(phase, triggers(trigger)))
