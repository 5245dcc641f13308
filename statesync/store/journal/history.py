"""Reading the journal: sessions, their batches, and their statistics as a fold over it (K4)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime

from statesync.checks import is_utf8
from statesync.errors import UnknownObject
from statesync.lifecycle import AnyPhase, AnyTrigger, BatchPhase, BatchTrigger, Phase, Trigger
from statesync.store import conflict_log
from statesync.store.outbox.lookup import upload_errors
from statesync.values import (
    BatchInfo,
    BatchStats,
    Direction,
    JournalEntry,
    RecordError,
    SessionInfo,
    SyncErrors,
    SyncResult,
    SyncStats,
)


def journal(connection: sqlite3.Connection, session: str) -> list[JournalEntry]:
    """Return every transition of a session, in order."""
    rows = connection.execute(
        'SELECT session, number, chart, batch, "trigger", source, target, at, elapsed, detail '
        "FROM statesync_transition WHERE session = ? ORDER BY number",
        (session,),
    )
    return [_entry(*row) for row in rows]


def _entry(
    session: str,
    number: int,
    chart: str,
    batch: int | None,
    trigger: str,
    source: str,
    target: str,
    at: float,
    elapsed: float,
    detail: str,
) -> JournalEntry:
    triggers: type[AnyTrigger] = Trigger if chart == "session" else BatchTrigger
    phases: type[AnyPhase] = Phase if chart == "session" else BatchPhase
    return JournalEntry(
        session,
        number,
        chart,
        batch,
        triggers(trigger),
        phases(source),
        phases(target),
        _time(at),
        elapsed,
        json.loads(detail),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _fold_stats(
    connection: sqlite3.Connection, session: str, started: datetime, *, with_batches: bool
) -> SyncStats:
    """Fold a session's journal into its statistics: only what was committed is in them."""
    rows = connection.execute(
        'SELECT elapsed, batch, "trigger", detail FROM statesync_transition '
        "WHERE session = ? ORDER BY number",
        (session,),
    )
    records = {Direction.UPLOAD: 0, Direction.DOWNLOAD: 0}
    elapsed = 0.0
    batches: list[BatchStats] = []
    for seconds, batch, trigger, detail in rows:
        elapsed = seconds
        if trigger != Trigger.COMMIT_BATCH:
            continue
        known = json.loads(detail)
        direction = Direction(known["direction"])
        records[direction] += known["records"]
        if with_batches:
            times = known["request"], known["parsing"], known["storing"]
            batches.append(BatchStats(batch, direction, known["records"], *times))
    return SyncStats(started, elapsed, records[Direction.UPLOAD], records[Direction.DOWNLOAD], tuple(batches))


def sessions(connection: sqlite3.Connection, limit: int) -> list[SessionInfo]:
    """Return the newest ``limit`` sessions, oldest first."""
    rows = connection.execute(f"{_SESSION} ORDER BY rowid DESC LIMIT ?", (limit,)).fetchall()
    return [_session(connection, row) for row in reversed(rows)]


def session(connection: sqlite3.Connection, session: str) -> SessionInfo:
    """Return one session by its id, or by the only id that begins like that; else ``UnknownObject``."""
    between = (session, session + "\U0010ffff") if is_utf8(session) else ("", "")
    rows = connection.execute(f"{_SESSION} WHERE id >= ? AND id < ? LIMIT 2", between).fetchall()
    if len(rows) != 1:
        what = "there is no session" if not rows else "more than one session's id begins with"
        raise UnknownObject(f"{what} {session!r}; `statesync sessions` lists them")
    return _session(connection, rows[0])


_SESSION = "SELECT id, space, objects, phase, reason, error, started FROM statesync_session"


def _session(connection: sqlite3.Connection, row: tuple[str, str, str, str, str, str, float]) -> SessionInfo:
    id_, space, objects, phase, reason, error, started = row
    return SessionInfo(
        id=id_,
        space=space,
        objects=tuple(json.loads(objects)),
        phase=Phase(phase),
        reason=reason,
        error=error,
        started=_time(started),
        stats=_fold_stats(connection, id_, _time(started), with_batches=True),
        batches=_batches(connection, id_),
    )


def _batches(connection: sqlite3.Connection, session: str) -> tuple[BatchInfo, ...]:
    rows = connection.execute(
        "SELECT number, direction, phase, records, attempts, doubt FROM statesync_batch "
        "WHERE session = ? ORDER BY number",
        (session,),
    )
    return tuple(
        BatchInfo(number, Direction(direction), BatchPhase(phase), records, attempts, bool(doubt))
        for number, direction, phase, records, attempts, doubt in rows
    )


def result(
    connection: sqlite3.Connection,
    session_id: str,
    left_out: Iterable[RecordError],
    quarantined: int,
    *,
    with_batches: bool,
    has_uploaded: bool = True,
    has_moved: bool = True,
) -> SyncResult:
    """Return what a session did, as the database has it; ``left_out`` are downloads that were left out.

    Errors of uploads are looked for where there were any, conflicts where it ``has_moved`` records.
    """
    phase, started = connection.execute(
        "SELECT phase, started FROM statesync_session WHERE id = ?", (session_id,)
    ).fetchone()
    return SyncResult(
        session=session_id,
        phase=Phase(phase),
        stats=_fold_stats(connection, session_id, _time(started), with_batches=with_batches),
        errors=SyncErrors(
            tuple(upload_errors(connection, session_id)) if has_uploaded else (), tuple(left_out)
        ),
        conflicts=tuple(conflict_log.entries(connection, session=session_id)) if has_moved else (),
        quarantined=quarantined,
    )
