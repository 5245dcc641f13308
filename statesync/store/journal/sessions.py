"""Sessions in the journal: they are created, end, and are forgotten."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable

from statesync.classes import frozen
from statesync.lifecycle import SESSION, Phase
from statesync.store.journal.phases import has_not_ended

RUNNING = f"SELECT id, phase FROM statesync_session WHERE {has_not_ended(SESSION)}"
"""The statement that finds the sessions that have not ended; a partial index answers it."""


@frozen
class Running:
    """A session that has not ended, as the journal has it.

    ``last`` is the number of its last transition, ``elapsed`` the seconds that it had run by then.
    """

    session: str
    phase: Phase
    last: int
    elapsed: float


def create_session(connection: sqlite3.Connection, session: str, space: str, objects: Iterable[str]) -> None:
    """Record a new session in the phase idle."""
    connection.execute(
        "INSERT INTO statesync_session (id, space, objects, phase, started) VALUES (?, ?, ?, ?, ?)",
        (session, space, json.dumps(list(objects)), Phase.IDLE, time.time()),
    )


def set_upload_limit(connection: sqlite3.Connection, session: str, position: int) -> None:
    """Record up to which position of the outbox the session uploads."""
    connection.execute("UPDATE statesync_session SET horizon = ? WHERE id = ?", (position, session))


def end_session(connection: sqlite3.Connection, session: str, reason: str | None, error: str | None) -> None:
    """Record why the session ended (K11) and drop the payloads of batches that are in no doubt (K9)."""
    note_end(connection, session, reason, error)
    drop_payloads(connection, session)


def note_end(connection: sqlite3.Connection, session: str, reason: str | None, error: str | None) -> None:
    """Record why the session ended (K11), where there is anything to say."""
    if (reason, error) != (None, None):
        connection.execute(
            "UPDATE statesync_session SET reason = ?, error = ? WHERE id = ?", (reason, error, session)
        )


def drop_payloads(connection: sqlite3.Connection, session: str) -> None:
    """Drop the payloads of a session's batches that are in no doubt (K9)."""
    connection.execute(
        "DELETE FROM statesync_payload WHERE session = :session AND number IN "
        "(SELECT number FROM statesync_batch WHERE session = :session AND doubt = 0)",
        {"session": session},
    )


def running(connection: sqlite3.Connection) -> list[Running]:
    """Return the sessions that have not ended."""
    found = connection.execute(RUNNING).fetchall()
    return [_running(connection, session, Phase(phase)) for session, phase in found]


def _running(connection: sqlite3.Connection, session: str, phase: Phase) -> Running:
    last, elapsed = connection.execute(
        "SELECT coalesce(max(number), 0), coalesce(max(elapsed), 0) FROM statesync_transition "
        "WHERE session = ?",
        (session,),
    ).fetchone()
    return Running(session, phase, last, elapsed)


def prune(connection: sqlite3.Connection, keep: int) -> None:
    """Forget all but the newest ``keep`` sessions, except one with a batch in doubt."""
    old = connection.execute(
        "SELECT id FROM statesync_session "
        "WHERE rowid <= (SELECT max(rowid) FROM statesync_session) - ? "
        "AND id NOT IN (SELECT session FROM statesync_batch WHERE doubt = 1)",
        (keep,),
    ).fetchall()
    if not old:
        return
    for table, column in (
        ("statesync_transition", "session"),
        ("statesync_batch", "session"),
        ("statesync_session", "id"),
    ):
        connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", old)
