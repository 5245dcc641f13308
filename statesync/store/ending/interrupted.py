"""Ending one session whose program has ended before it: what it had staged, and what its journal says."""

from __future__ import annotations

import sqlite3
import time
from functools import partial

from statesync.errors import Interrupted
from statesync.lifecycle import AnyTrigger, Facts, Trigger
from statesync.machine import Move, SessionMachine
from statesync.store.file.database import Database
from statesync.store.journal import batches, sessions
from statesync.store.journal.batches import OpenBatch
from statesync.store.journal.sessions import Running
from statesync.store.journal.transitions import JournalWriter
from statesync.store.outbox import settled
from statesync.store.upload.doubts import release_undoubted


def end(database: Database, session: Running) -> None:
    """End it as ``failed``, interrupted. An upload that was under way stays in doubt."""
    batch = batches.find_open(database.raw(), session.session)
    machine = SessionMachine.standing_at(session.phase, batch.phase if batch else None)
    triggers: tuple[AnyTrigger, ...] = (Trigger.ABORT_BATCH, Trigger.FAIL) if batch else (Trigger.FAIL,)
    commit = partial(_write_down, database, session, batch)
    machine.fire(*triggers, facts=Facts(request_ended=True), commit=commit)


def _write_down(
    database: Database, session: Running, batch: OpenBatch | None, moves: tuple[Move, ...]
) -> None:
    error = Interrupted("the program ended while the session was running; sync again to go on")
    with database.transaction() as connection:
        if batch is not None:
            release_undoubted(connection, session.session, batch.number)
        sessions.end_session(connection, session.session, error.reason, error.message)
        settled.sweep(connection)
        _journal(connection, session, batch, moves, error.reason)


def _journal(
    connection: sqlite3.Connection,
    session: Running,
    batch: OpenBatch | None,
    moves: tuple[Move, ...],
    reason: str | None,
) -> None:
    writer = JournalWriter(session.session, began=time.monotonic() - session.elapsed, last=session.last)
    writer.write(connection, moves, batch.number if batch else None, {Trigger.FAIL: {"reason": reason}})
