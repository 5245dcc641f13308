"""Ending a session without its thread, which was late and may still hang in code of the program's.

The thread can commit nothing any more (``tenure``). What it has committed is the truth: so the session is
read from its journal, told that its cancel's time is over, and ended as any other. The connection is a plain
one, so nothing of the program's runs on it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from attrs import evolve

from statesync.classes import frozen
from statesync.errors import SyncError
from statesync.lifecycle import AnyTrigger, BatchPhase, Trigger
from statesync.machine import Commit, Move, SessionMachine
from statesync.protocol.conversation import Committed, Conversation, Doubt, OpenBatch, RequestState
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    CancelRequested,
    Decision,
    DropBatch,
    EndSession,
    Finish,
    GraceOver,
    StoreReason,
)
from statesync.store import quarantine
from statesync.store.context import SessionContext
from statesync.store.journal import batches, history, sessions
from statesync.store.journal.sessions import Running
from statesync.store.journal.transitions import Detail, JournalWriter
from statesync.store.outbox import settled
from statesync.store.upload.doubts import keep_doubt, release_changes
from statesync.values import Reason, SyncResult

_PATIENCE = 0.2
"""Seconds that the end waits for another writer, which may be the thread itself."""

_NOTHING = Committed()


@frozen
class LeftEnd:
    """How it ended: what was done, and the error; None where it is done, or had ended before."""

    result: SyncResult
    error: SyncError | None


def end_left(context: SessionContext, began: float, reason: Reason) -> LeftEnd:
    """End the session in its journal, unless it has ended there already, and return how it ended.

    Raises ``StoreLocked`` while somebody else writes, and other ``StoreError``: nothing is written then, and
    whoever opens the store next finds the session interrupted (K8).
    """
    database = context.parts.database
    with (
        database.errors_mapped(),
        closing(sqlite3.connect(database.path, timeout=_PATIENCE, isolation_level=None)) as connection,
    ):
        connection.execute("BEGIN IMMEDIATE")
        found = [one for one in sessions.running(connection) if one.session == context.session]
        error = _Ending(context, connection, found[0], began).run(reason) if found else None
        connection.execute("COMMIT")
        left_out = quarantine.errors(connection, context.objects)
        count = quarantine.count_of(connection, context.objects)
        with_batches = context.options.get_sync_stats
        result = history.result(connection, context.session, left_out, count, with_batches=with_batches)
        return LeftEnd(result, error)


class _Ending:
    """One transaction of ``end_left``."""

    def __init__(
        self, context: SessionContext, connection: sqlite3.Connection, found: Running, began: float
    ) -> None:
        self._context, self._connection, self._found = context, connection, found
        self._batch = batches.find_open(connection, context.session)
        self._journal = JournalWriter(context.session, began, found.last)

    def run(self, reason: Reason) -> SyncError | None:
        """Tell the session that it is cancelled, and that its time is over; return its error."""
        now = evolve(self._conversation(), cancelled_by=reason)
        machine = SessionMachine.standing_at(now.phase, now.batch.phase if now.batch else None)
        for event in (CancelRequested(reason, 0.0), GraceOver()):
            decision = decide(now, event)
            if decision.triggers:
                machine.fire(*decision.triggers, facts=decision.facts, commit=self._writer(decision))
            now = decision.conversation.after(_NOTHING, machine.phase, machine.batch)
            for action in decision.actions:
                if isinstance(action, Finish):
                    return action.error
        return None

    def _conversation(self) -> Conversation:
        """Return what the session must remember, as far as it has to do with its end."""
        doubtful, batch = batches.all_in_doubt(self._connection, self._context.space), None
        doubt = Doubt.EARLIER if doubtful else Doubt.NONE
        if self._batch is not None:
            number, direction, phase = self._batch.number, self._batch.direction, self._batch.phase
            is_under_way = phase is BatchPhase.IN_FLIGHT
            request = RequestState.UNDER_WAY if is_under_way else RequestState.NOT_SENT
            batch = OpenBatch(number, direction, request=request, phase=phase)
            doubt = Doubt.OPEN if (self._context.session, number) in doubtful else doubt
        return Conversation(phase=self._found.phase, batch=batch, doubt=doubt)

    def _writer(self, decision: Decision) -> Commit:
        return lambda moves: self._write(moves, decision)

    def _write(self, moves: tuple[Move, ...], decision: Decision) -> None:
        details: dict[AnyTrigger, Detail] = {}
        session = self._context.session
        for effect in decision.effects:
            match effect:
                case StoreReason():
                    details[Trigger.CANCEL] = {"reason": effect.reason}
                case DropBatch():
                    keep_doubt(self._connection, session, effect.number, doubtful=effect.in_doubt)
                    if not effect.in_doubt:
                        release_changes(self._connection, session, effect.number)
                case EndSession():
                    message = effect.error.message if effect.error else None
                    sessions.end_session(self._connection, session, effect.reason, message)
                    settled.sweep(self._connection)
                    details[Trigger.FAIL] = {"reason": effect.reason, "error": message}
        number = self._batch.number if self._batch else None
        self._journal.last = self._journal.write(self._connection, moves, number, details)
