"""The journal: sessions, their batches, and every transition that was taken, in the order it was taken.

Every write is a compare and set on the persisted phase, so a second runner that slipped past the lock
cannot commit.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from attrs import define, field

from statesync.errors import StaleRunner
from statesync.lifecycle import AnyTrigger, BatchPhase, Phase, concerns_batch
from statesync.machine import Move
from statesync.values import Direction

Detail = Mapping[str, Any]

_INSERT = (
    'INSERT INTO statesync_transition (session, number, chart, batch, "trigger", source, target, at, '
    "elapsed, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@define(eq=False)
class JournalWriter:
    """Writes the transitions of one session.

    ``began`` is the monotonic time at which the session was made; ``last`` the number of the last
    transition that was committed, which moves only when the transaction has ended well.
    """

    session: str
    began: float
    last: int = 0
    now: Any = field(default=time.monotonic)

    def write(
        self,
        connection: sqlite3.Connection,
        moves: Iterable[Move],
        batch: int | None,
        details: Mapping[AnyTrigger, Detail],
    ) -> int:
        """Append ``moves`` in the open transaction and return the number of the last one.

        ``batch`` is the number of the batch that is open, ``details`` what is kept with a trigger. Raises
        ``StaleRunner`` where the persisted phase is not the one that the moves start from.
        """
        at, elapsed = time.time(), self.now() - self.began
        rows: list[tuple[object, ...]] = []
        ways: dict[str, tuple[Move, Move]] = {}
        for number, move in enumerate(moves, self.last + 1):
            of_batch = batch if concerns_batch(move.trigger) else None
            detail = _text(details.get(move.trigger))
            step = (move.chart, of_batch, move.trigger, move.source, move.target)
            rows.append((self.session, number, *step, at, elapsed, detail))
            ways[move.chart] = (ways.get(move.chart, (move,))[0], move)
        for first, last in ways.values():
            _persist_phase(connection, self.session, batch, first, last)
        connection.executemany(_INSERT, rows)
        return self.last + len(rows)


def _text(detail: Detail | None) -> str:
    return msgspec.json.encode(detail or {}).decode()


def _persist_phase(
    connection: sqlite3.Connection, session: str, batch: int | None, first: Move, last: Move
) -> None:
    """Lead the persisted phase of one chart to where the moves end, if it is where they begin."""
    if first.chart == "session":
        changed = connection.execute(
            "UPDATE statesync_session SET phase = ? WHERE id = ? AND phase = ?",
            (last.target, session, first.source),
        ).rowcount
    else:
        changed = connection.execute(
            "UPDATE statesync_batch SET phase = ? WHERE session = ? AND number = ? AND phase = ?",
            (last.target, session, batch, first.source),
        ).rowcount
    if changed != 1:
        raise StaleRunner(
            f"session {session} is not in {first.source} any more: another process has taken the store over",
            phase=first.source,
            trigger=first.trigger,
        )


# -- sessions --------------------------------------------------------------------------------------


def create_session(connection: sqlite3.Connection, session: str, space: str, objects: Iterable[str]) -> None:
    """Record a new session in the phase idle."""
    connection.execute(
        "INSERT INTO statesync_session (id, space, objects, phase, started) VALUES (?, ?, ?, ?, ?)",
        (session, space, json.dumps(list(objects)), Phase.IDLE, time.time()),
    )


def set_horizon(connection: sqlite3.Connection, session: str, horizon: int) -> None:
    """Fix up to where the session uploads."""
    connection.execute("UPDATE statesync_session SET horizon = ? WHERE id = ?", (horizon, session))


def end_session(connection: sqlite3.Connection, session: str, reason: str | None, error: str | None) -> None:
    """Record why the session ended (K11) and drop the payloads of batches that are settled (K9)."""
    if (reason, error) != (None, None):
        connection.execute(
            "UPDATE statesync_session SET reason = ?, error = ? WHERE id = ?", (reason, error, session)
        )
    connection.execute(
        "DELETE FROM statesync_payload WHERE session = :session AND number IN "
        "(SELECT number FROM statesync_batch WHERE session = :session AND doubt = 0)",
        {"session": session},
    )


def prune(connection: sqlite3.Connection, keep: int) -> None:
    """Forget all but the newest ``keep`` sessions, except one with a batch in doubt."""
    old = connection.execute(
        "SELECT id FROM statesync_session "
        "WHERE rowid <= (SELECT max(rowid) FROM statesync_session) - ? "
        "AND id NOT IN (SELECT session FROM statesync_batch WHERE doubt = 1)",
        (keep,),
    ).fetchall()
    for table, column in (
        ("statesync_transition", "session"),
        ("statesync_batch", "session"),
        ("statesync_session", "id"),
    ):
        connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", old)


# -- batches ---------------------------------------------------------------------------------------


def create_batch(
    connection: sqlite3.Connection,
    session: str,
    number: int,
    direction: Direction,
    space: str,
) -> None:
    """Record a new batch in the phase open."""
    connection.execute(
        "INSERT INTO statesync_batch (session, number, direction, phase, space) VALUES (?, ?, ?, ?, ?)",
        (session, number, direction, BatchPhase.OPEN, space),
    )


def stage_upload(
    connection: sqlite3.Connection,
    session: str,
    number: int,
    wire_id: str,
    wire_number: int,
    payload: bytes,
    records: int,
) -> None:
    """Keep the exact payload of an upload batch until the hub's answer is stored."""
    connection.execute(
        "UPDATE statesync_batch SET wire_id = ?, wire_number = ?, records = ? "
        "WHERE session = ? AND number = ?",
        (wire_id, wire_number, records, session, number),
    )
    connection.execute("INSERT INTO statesync_payload VALUES (?, ?, ?)", (session, number, payload))


def note_attempt(connection: sqlite3.Connection, session: str, number: int, attempt: int) -> None:
    """Record that the batch is being sent; an upload is in doubt from here on, also across a crash."""
    connection.execute(
        "UPDATE statesync_batch SET attempts = ?, doubt = (direction = 'upload') "
        "WHERE session = ? AND number = ?",
        (attempt, session, number),
    )


def set_doubt(connection: sqlite3.Connection, session: str, number: int, *, doubtful: bool) -> None:
    """Record whether the hub may have applied the batch."""
    connection.execute(
        "UPDATE statesync_batch SET doubt = ? WHERE session = ? AND number = ?", (doubtful, session, number)
    )


def settle(connection: sqlite3.Connection, session: str, number: int) -> None:
    """Take doubt and payload off a batch that is answered, or that another one settles now.

    The payload goes at once, so that the next one takes its place in the file.
    """
    set_doubt(connection, session, number, doubtful=False)
    connection.execute("DELETE FROM statesync_payload WHERE session = ? AND number = ?", (session, number))


def set_records(connection: sqlite3.Connection, session: str, number: int, records: int) -> None:
    """Record how many records a download batch brought."""
    connection.execute(
        "UPDATE statesync_batch SET records = ? WHERE session = ? AND number = ?", (records, session, number)
    )


def release_batch(connection: sqlite3.Connection, session: str, number: int) -> None:
    """Set the changes of an aborted upload free: they are ordinary pending changes again."""
    connection.execute(
        "UPDATE statesync_change SET batch = NULL, sent = NULL "
        "WHERE batch = (SELECT wire_id FROM statesync_batch WHERE session = ? AND number = ?)",
        (session, number),
    )


def release_settled(connection: sqlite3.Connection, session: str, number: int) -> None:
    """Set the changes of an interrupted batch free, unless it is in doubt."""
    row = connection.execute(
        "SELECT doubt FROM statesync_batch WHERE session = ? AND number = ?", (session, number)
    ).fetchone()
    if row is not None and not row[0]:
        release_batch(connection, session, number)


def batch_in_doubt(connection: sqlite3.Connection, space: str) -> tuple[str, int, str, int, bytes] | None:
    """Return (session, number, wire id, wire number, payload) of the space's batch in doubt, or None."""
    row: tuple[str, int, str, int, bytes] | None = connection.execute(
        "SELECT session, number, wire_id, wire_number, payload "
        "FROM statesync_batch JOIN statesync_payload USING (session, number) "
        "WHERE space = ? AND doubt = 1 ORDER BY statesync_batch.rowid DESC LIMIT 1",
        (space,),
    ).fetchone()
    return row
