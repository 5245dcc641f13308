"""Holding the journal against the charts and itself, and closing a session where it contradicts them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import NamedTuple

from statesync.lifecycle import (
    BATCH,
    SESSION,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Facts,
    Phase,
    Trigger,
)
from statesync.machine import Move, SessionMachine
from statesync.store.journal import sessions
from statesync.store.journal.transitions import JournalWriter


class Contradiction(NamedTuple):
    """A session whose journal contradicts itself, and how."""

    session: str
    fault: str


class _Entry(NamedTuple):
    number: int
    chart: str
    batch: int | None
    trigger: str
    source: str
    target: str


def contradictions(connection: sqlite3.Connection) -> Iterator[Contradiction]:
    """Find the sessions whose journal contradicts the charts, or what is kept of them."""
    rows = connection.execute("SELECT id, phase FROM statesync_session ORDER BY id").fetchall()
    for session, phase in rows:
        fault = _fault_of(connection, session, phase)
        if fault:
            yield Contradiction(session, fault)


def _fault_of(connection: sqlite3.Connection, session: str, phase: str) -> str | None:
    rows = connection.execute(
        'SELECT number, chart, batch, "trigger", source, target FROM statesync_transition '
        "WHERE session = ? ORDER BY number",
        (session,),
    )
    entries = list(map(_Entry._make, rows))
    if [entry.number for entry in entries] != list(range(1, len(entries) + 1)):
        return "entries are missing"
    reached: dict[int | None, str] = {None: Phase.IDLE}
    for entry in entries:
        fault = _follow(reached, entry)
        if fault:
            return fault
    if reached[None] != phase:
        return f"it ends in {reached[None]}, the session is kept as {phase}"
    return _batch_fault(connection, session, reached)


def _follow(reached: dict[int | None, str], entry: _Entry) -> str | None:
    """Take the session (None) or a batch, in ``reached``, along an entry; return why that cannot be."""
    who = None if entry.chart == SESSION.name else entry.batch
    if reached.setdefault(who, BatchPhase.OPEN) != entry.source:
        return f"entry {entry.number} leaves {entry.source}, where it never was"
    if not _is_edge(SESSION if who is None else BATCH, entry):
        return (
            f"entry {entry.number} ({entry.trigger} from {entry.source} to {entry.target}) "
            "is no transition of the chart"
        )
    reached[who] = entry.target
    return None


def _is_edge(chart: Chart, entry: _Entry) -> bool:
    triggers: type[AnyTrigger] = Trigger if chart is SESSION else BatchTrigger
    if entry.trigger not in set(triggers) or entry.source not in set(chart.phases):
        return False
    phase = next(phase for phase in chart.phases if phase == entry.source)
    return any(edge.target == entry.target for edge in chart.edges_of(phase, triggers(entry.trigger)))


def _batch_fault(connection: sqlite3.Connection, session: str, reached: dict[int | None, str]) -> str | None:
    rows = connection.execute(
        "SELECT number, phase FROM statesync_batch WHERE session = ?", (session,)
    ).fetchall()
    for number, phase in rows:
        if reached.get(number, BatchPhase.OPEN) != phase:
            return f"batch {number} is kept as {phase}, its journal ends in {reached.get(number)}"
    return None


# -- closing ---------------------------------------------------------------------------------------

_REASON = "journal_damaged"
_ERROR = "its journal was damaged; what it had committed is still there"


def close(connection: sqlite3.Connection, session: str) -> None:
    """Let the session fail, with a journal that says no more; a batch in doubt stays in doubt.

    Nobody knows where it was. So it is taken back to the beginning of the chart, and fails from there.
    """
    sessions.end_session(connection, session, _REASON, _ERROR)
    _take_back(connection, session)
    writer = JournalWriter(session, began=time.monotonic())
    SessionMachine().fire(Trigger.FAIL, facts=Facts(), commit=lambda moves: _write(connection, writer, moves))


def _write(connection: sqlite3.Connection, writer: JournalWriter, moves: tuple[Move, ...]) -> None:
    writer.write(connection, moves, None, {})


def _take_back(connection: sqlite3.Connection, session: str) -> None:
    """Keep of the session what it was asked for, and its batches in doubt, each where its chart begins."""
    connection.execute("DELETE FROM statesync_transition WHERE session = ?", (session,))
    connection.execute("DELETE FROM statesync_batch WHERE session = ? AND doubt = 0", (session,))
    connection.execute("UPDATE statesync_session SET phase = ? WHERE id = ?", (SESSION.initial, session))
    connection.execute("UPDATE statesync_batch SET phase = ? WHERE session = ?", (BATCH.initial, session))
