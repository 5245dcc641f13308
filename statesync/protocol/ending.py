"""The ends of a session: done, cancelled, failed, and what has to be true before each may be said.

Every end goes through ``over``. A cancel first brings the batch that is open to its end (K2), and says
``cancelled`` only where nothing is in doubt (K7).
"""

from __future__ import annotations

from attrs import evolve

from statesync.errors import InDoubt, InternalError, SyncCancelled, SyncError, SyncFailed
from statesync.lifecycle import AnyTrigger, Facts, Phase, Trigger
from statesync.protocol.conversation import Conversation, Doubt, OpenBatch, RequestState
from statesync.protocol.messages import (
    CancelRequested,
    Decision,
    Drain,
    DropBatch,
    Effect,
    EndRequests,
    EndSession,
    Event,
    Finish,
    Interrupt,
    LocalFailure,
    StoreReason,
)
from statesync.values import Direction, Reason


def facts_of(now: Conversation) -> Facts:
    """Return what guards may know; where the machine stands is filled in by the machine."""
    return Facts(
        request_ended=now.batch is not None and not now.batch.is_under_way,
        deadline_passed=now.deadline_passed,
        outbox_drained=now.outbox_drained,
        feed_drained=now.feed_drained,
        in_doubt=now.doubt is not Doubt.NONE,
    )


def over(
    now: Conversation,
    triggers: tuple[AnyTrigger, ...],
    effects: tuple[Effect, ...],
    reason: str | None = None,
    error: SyncError | None = None,
) -> Decision:
    """End the session. ``reason`` is what the journal keeps, ``error`` what the program gets."""
    kept = error if isinstance(error, SyncFailed) else None
    written = (*effects, EndSession(reason, kept))
    return Decision(now, triggers, facts_of(now), written, (EndRequests(),), (Finish(error),))


def done(
    now: Conversation,
    before: tuple[AnyTrigger, ...],
    effects: tuple[Effect, ...],
    error: SyncFailed | None = None,
) -> Decision:
    """End a session that has nothing left to do; with ``error`` it has something to tell all the same."""
    if error is None:
        return over(now, (*before, Trigger.FINISH_DOWNLOAD), effects)
    return over(now, (*before, Trigger.FAIL), effects, error.reason, error)


def fail(now: Conversation, error: SyncFailed) -> Decision:
    """End the session with ``error``; a batch that is open is dropped first."""
    if now.batch is None:
        return over(now, (Trigger.FAIL,), (), error.reason, error)
    dropped = _dropped(now, now.batch)
    return over(now, (Trigger.ABORT_BATCH, Trigger.FAIL), (dropped,), error.reason, error)


def local_failure(now: Conversation, event: LocalFailure) -> Decision:
    """End a session that cannot go on here: an upload that was under way may have reached the hub."""
    if now.batch is None:
        return fail(now, event.error)
    doubted = with_doubt(now, now.batch) if now.batch.is_under_way else now
    return fail(_with_request_ended(doubted, now.batch), event.error)


def out_of_turn(now: Conversation, event: Event) -> Decision:
    """End a session whose driver tells what nothing has asked for: it cannot be trusted to go on."""
    what = f"{type(event).__name__} came in {now.phase}, where nothing had asked for it"
    ending = local_failure(now, LocalFailure(InternalError(f"a defect of statesync: {what}")))
    return evolve(ending, actions=(Interrupt(), *ending.actions))


# -- cancel ----------------------------------------------------------------------------------------


def cancel(now: Conversation, event: CancelRequested) -> Decision:
    """End the session as soon as its batch in flight has ended, at once where no request is under way (K5).

    A cancel that is not the first one changes nothing but, perhaps, how long that batch may take (K6).
    """
    if now.phase is Phase.CANCELLING:
        return Decision(now, actions=() if event.grace is None else (Drain(event.grace),))
    asked, reason = evolve(now, cancelled_by=event.reason), StoreReason(event.reason)
    if now.phase is Phase.IDLE:
        return over(asked, (Trigger.CANCEL,), (reason,), event.reason, _cancelled(asked))
    if now.batch is None:
        return settle(asked, (Trigger.CANCEL,), (reason,))
    if not now.batch.is_under_way:
        return abandon(asked, now.batch, (Trigger.CANCEL,), (reason,))
    return Decision(asked, (Trigger.CANCEL,), facts_of(asked), (reason,), actions=(Drain(event.grace),))


def grace_over(now: Conversation) -> Decision:
    """End a session whose batch in flight has had its time; nobody waits for its answer any more."""
    if now.phase is not Phase.CANCELLING or now.batch is None:
        return Decision(now)
    late = evolve(with_doubt(now, now.batch), deadline_passed=True)
    ending = abandon(late, now.batch)
    return evolve(ending, actions=(Interrupt(), *ending.actions))


def abandon(
    now: Conversation,
    batch: OpenBatch,
    before: tuple[AnyTrigger, ...] = (),
    effects: tuple[Effect, ...] = (),
) -> Decision:
    """Abort the open batch of a session that is cancelling, and end it as truthfully as can be (K7)."""
    return settle(now, (*before, Trigger.ABORT_BATCH), (*effects, _dropped(now, batch)))


def settle(now: Conversation, before: tuple[AnyTrigger, ...], effects: tuple[Effect, ...]) -> Decision:
    """End a session that is cancelling: ``cancelled`` is said only where nothing is in doubt."""
    if now.doubt is not Doubt.NONE:
        error = InDoubt(
            "cancelled while the hub's answer to an upload was missing: the hub may have applied it; "
            "the next sync settles that before anything else"
        )
        return over(now, (*before, Trigger.FAIL), effects, error.reason, error)
    return over(now, (*before, Trigger.SETTLE), effects, now.cancelled_by, _cancelled(now))


def with_doubt(now: Conversation, batch: OpenBatch) -> Conversation:
    """Return the conversation where the hub may have applied ``batch``: only an upload changes the hub."""
    if batch.direction is Direction.DOWNLOAD or now.doubt is not Doubt.NONE:
        return now
    return evolve(now, doubt=Doubt.OPEN)


def _with_request_ended(now: Conversation, batch: OpenBatch) -> Conversation:
    return evolve(now, batch=evolve(batch, request=RequestState.ENDED))


def _dropped(now: Conversation, batch: OpenBatch) -> DropBatch:
    return DropBatch(batch.number, in_doubt=is_in_doubt(now, batch))


def is_in_doubt(now: Conversation, batch: OpenBatch) -> bool:
    """Tell whether the hub may have applied ``batch``; beside a download another one is in doubt."""
    return now.doubt is not Doubt.NONE and batch.direction is Direction.UPLOAD


def _cancelled(now: Conversation) -> SyncCancelled:
    by = {
        Reason.USER: "on request",
        Reason.SHUTDOWN: "because the store was closed",
        Reason.DEADLINE: "because its time was over",
    }
    reason = by[now.cancelled_by or Reason.USER]
    return SyncCancelled(f"the session was cancelled {reason}; what was committed stays")
