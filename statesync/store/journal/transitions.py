"""Writing transitions down. Every write is a compare and set on the persisted phase.

So a second runner that slipped past the lock cannot commit.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from attrs import field

from statesync.classes import define
from statesync.errors import StaleRunner
from statesync.lifecycle import AnyTrigger, Trigger
from statesync.machine import Move

Detail = Mapping[str, Any]

_INSERT = (
    'INSERT INTO statesync_transition (session, number, chart, batch, "trigger", source, target, at, '
    "elapsed, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LINKED_TO_BATCH = frozenset({Trigger.OPEN_BATCH, Trigger.COMMIT_BATCH, Trigger.ABORT_BATCH})


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
            of_batch = batch if move.chart == "batch" or move.trigger in _LINKED_TO_BATCH else None
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
