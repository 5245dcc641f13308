"""The example of section 1 of the design as a recorded session, with times that are always the same.

100 records wait on the hub, a page has 10, and cancel is called while the first batch is in progress.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from statesync.lifecycle import AnyTrigger, BatchPhase, BatchTrigger, Facts, Phase, Trigger
from statesync.machine import Move, SessionMachine
from statesync.values import BatchInfo, Direction, JournalEntry, SessionInfo, SyncStats

ID = "0197a3c2-example"
BEGAN = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)

STEPS: tuple[tuple[float, tuple[AnyTrigger, ...], Facts], ...] = (
    (0.01, (Trigger.START,), Facts()),
    (
        0.02,
        (Trigger.FINISH_UPLOAD, Trigger.OPEN_BATCH, BatchTrigger.SEND),
        Facts(outbox_drained=True),
    ),
    (0.15, (Trigger.CANCEL,), Facts()),
    (0.42, (BatchTrigger.RECEIVE, Trigger.COMMIT_BATCH, Trigger.SETTLE), Facts(request_ended=True)),
)
"""When which triggers were fired together, with what the driver knew."""

OF_BATCH = {Trigger.OPEN_BATCH, Trigger.COMMIT_BATCH, Trigger.ABORT_BATCH, *BatchTrigger}


def journal() -> list[JournalEntry]:
    """Return the journal that the real machine writes for these steps."""
    machine = SessionMachine()
    entries: list[JournalEntry] = []
    for elapsed, triggers, facts in STEPS:
        for move in machine.fire(*triggers, facts=facts, commit=lambda moves: None):
            entries.append(_entry(len(entries) + 1, move, elapsed))
    return entries


def _entry(number: int, move: Move, elapsed: float) -> JournalEntry:
    return JournalEntry(
        session=ID,
        number=number,
        chart=move.chart,
        batch=1 if move.trigger in OF_BATCH else None,
        trigger=move.trigger,
        source=move.source,
        target=move.target,
        at=BEGAN + timedelta(seconds=elapsed),
        elapsed=elapsed,
        detail={"reason": "user"} if move.trigger is Trigger.CANCEL else {},
    )


SESSION_INFO = SessionInfo(
    id=ID,
    space="acme",
    objects=("Airport",),
    phase=Phase.CANCELLED,
    reason="user",
    error=None,
    started=BEGAN,
    stats=SyncStats(BEGAN, 0.42, uploaded=0, downloaded=10),
    batches=(BatchInfo(1, Direction.DOWNLOAD, BatchPhase.COMMITTED, 10, attempts=1, in_doubt=False),),
)
