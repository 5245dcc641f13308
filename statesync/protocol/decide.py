"""The conversation of a session, sans I/O: events come in, decisions come out.

``decide`` is a pure function. It knows no clock, socket, thread or SQL, and it never changes a phase: it
says which triggers to fire, and the machine does it. The threaded driver, the asyncio driver, the
simulator and the explorer all run this one piece of code.

A driver does with each decision, in this order:

1. fire ``triggers`` with ``facts`` as one transaction that also writes ``effects``;
2. only if that was committed, adopt ``conversation`` and tell it the phases that the machine is in now
   (``Conversation.at``); if it was rolled back, keep the old one and report ``Stuck``;
3. do ``then``; each action leads to the event that its docstring names.

Between two events the driver looks for a cancel, which goes before everything else that waits.

Source: section 4 of the design, and K1 to K11.
"""

from __future__ import annotations

from attrs import evolve

from statesync.errors import AllRejected, InDoubt, RemoteError, SyncCancelled, SyncFailed
from statesync.lifecycle import AnyTrigger, BatchPhase, BatchTrigger, Facts, Phase, Trigger
from statesync.protocol.messages import (
    Action,
    Adapt,
    Answered,
    BackoffOver,
    Begin,
    BeginSession,
    Broke,
    CancelRequested,
    Conversation,
    Decision,
    Drain,
    DropBatch,
    Effect,
    EndSession,
    Event,
    Finish,
    GoOn,
    GraceOver,
    Interrupt,
    OpenBatch,
    Prepare,
    Prepared,
    Proceed,
    Send,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
    StoreDoubt,
    Stuck,
    Wait,
)
from statesync.values import Direction, Reason
from statesync.wire import CLIENT_FORKED, EPOCH_CHANGED, HORIZON_PASSED, Problem

MAX_ROUNDS = 3
"""How often a session sends a record whose conflicts it resolves, the first time included."""

MAX_ADAPTATIONS = 3
"""How often a session follows a hub that says its epoch, its horizon or our identity has changed."""

_ADAPTABLE = frozenset({CLIENT_FORKED, EPOCH_CHANGED, HORIZON_PASSED})

_UNACCEPTABLE = frozenset({400, 413, 422})
"""Statuses that say that a request will never be taken as it is, such as one over a limit."""


def decide(now: Conversation, event: Event) -> Decision:
    """Return what to do about ``event``. Pure: the same in, the same out.

    An event that no longer matters (an answer after the end, a second cancel) leads to an empty decision.
    """
    if now.phase in (Phase.CANCELLED, Phase.FAILED, Phase.DONE):
        return Decision(now)
    match event:
        case Begin():
            return _begin(now, event)
        case Prepared():
            return _prepared(now, event)
        case Proceed():
            return _proceed(now)
        case Answered():
            return _answered(now, event)
        case Broke():
            return _broke(now, event)
        case BackoffOver():
            return _send_again(now)
        case CancelRequested():
            return _cancel(now, event)
        case GraceOver():
            return _grace_over(now)
        case Stuck():
            return _stuck(now, event)


def _decision(
    then_is: Conversation, triggers: tuple[AnyTrigger, ...], effects: tuple[Effect, ...], *then: Action
) -> Decision:
    return Decision(then_is, triggers, _facts(then_is), effects, then)


def _facts(now: Conversation) -> Facts:
    return Facts(
        request_ended=now.batch is not None and now.batch.request_ended,
        deadline_passed=now.deadline_passed,
        outbox_drained=now.outbox_drained,
        feed_drained=now.feed_drained,
        in_doubt=now.in_doubt,
    )


def _begin(now: Conversation, event: Begin) -> Decision:
    uploads = now.uploads and event.waiting
    begun, effects = evolve(now, replaying=event.replay), (BeginSession(uploads),)
    if uploads or begun.replaying:
        return _decision(begun, (Trigger.START,), effects, _next_look(begun))
    return _leave_upload(begun, (Trigger.START,), effects)


def _next_look(now: Conversation) -> Action:
    """Return the action that finds out what to upload next."""
    return Prepare(round=0 if now.replaying else now.round)


def _proceed(now: Conversation) -> Decision:
    if now.phase is Phase.DOWNLOADING:
        return _open(now, Direction.DOWNLOAD)
    if now.uploads or now.replaying:
        return Decision(now, then=(_next_look(now),))
    return _leave_upload(now, (), ())


def _prepared(now: Conversation, event: Prepared) -> Decision:
    if event.records:
        return _open(now, Direction.UPLOAD)
    if now.replaying:  # it has been settled by other means, such as a new identity
        return Decision(evolve(now, replaying=False), then=(GoOn(),))
    if now.resend and now.round < MAX_ROUNDS:
        again = evolve(now, round=now.round + 1, resend=0)
        return Decision(again, then=(Prepare(again.round),))
    if now.sent and now.rejected == now.sent:
        return _fail(now, AllRejected(f"the hub rejected all {now.sent} records that were sent"))
    return _leave_upload(now, (), ())


def _leave_upload(now: Conversation, before: tuple[AnyTrigger, ...], effects: tuple[Effect, ...]) -> Decision:
    """Finish the upload, and begin the download in the same transaction: no I/O lies between them."""
    if not now.downloads:
        return _finish_without_download(now, before, effects)
    drained = evolve(now, outbox_drained=True)
    return _open(drained, Direction.DOWNLOAD, (*before, Trigger.FINISH_UPLOAD), effects)


def _finish_without_download(
    now: Conversation, before: tuple[AnyTrigger, ...], effects: tuple[Effect, ...]
) -> Decision:
    drained = evolve(now, outbox_drained=True, feed_drained=True)
    triggers = (*before, Trigger.FINISH_UPLOAD, Trigger.FINISH_DOWNLOAD)
    return _decision(drained, triggers, (*effects, EndSession(None)), Finish())


def _open(
    now: Conversation,
    direction: Direction,
    before: tuple[AnyTrigger, ...] = (),
    effects: tuple[Effect, ...] = (),
) -> Decision:
    batch = OpenBatch(
        number=now.batches + 1,
        direction=direction,
        attempts=1,
        doubtful=now.replaying,
        request_ended=False,
    )
    opened = evolve(now, batches=batch.number, batch=batch)
    return _decision(
        opened,
        (*before, Trigger.OPEN_BATCH, BatchTrigger.SEND),
        (*effects, StoreBatch(batch.number, direction, now.replaying), StoreAttempt(batch.number, 1)),
        Send(direction),
    )


def _answered(now: Conversation, event: Answered) -> Decision:
    if now.batch is None or now.batch.request_ended:
        return Decision(now)
    taken = _take_answer(now, now.batch, event)
    triggers = (BatchTrigger.RECEIVE, Trigger.COMMIT_BATCH)
    effects = (StoreAnswer(now.batch.number, now.batch.direction),)
    if now.phase is Phase.CANCELLING:
        return _settle(taken, triggers, effects)
    if taken.feed_drained:
        return _decision(taken, (*triggers, Trigger.FINISH_DOWNLOAD), (*effects, EndSession(None)), Finish())
    if event.last and not taken.downloads and not taken.resend and taken.rejected < taken.sent:
        # It is done with its last batch, so a cancel that comes now comes too late (K6).
        return _finish_without_download(taken, triggers, effects)
    return _decision(taken, triggers, effects, GoOn())


def _take_answer(now: Conversation, batch: OpenBatch, event: Answered) -> Conversation:
    ended = evolve(batch, request_ended=True)
    if batch.direction is Direction.DOWNLOAD:
        return evolve(now, batch=ended, feed_drained=not event.more)
    return evolve(
        now,
        batch=ended,
        replaying=False,
        sent=now.sent + event.records,
        rejected=now.rejected + event.rejected,
        resend=now.resend + event.resend,
    )


def _broke(now: Conversation, event: Broke) -> Decision:
    batch = now.batch
    if batch is None or batch.request_ended:
        return Decision(now)
    doubtful = batch.direction is Direction.UPLOAD and (batch.doubtful or event.error.maybe_applied)
    ended = evolve(batch, request_ended=True, doubtful=doubtful)
    broken = evolve(now, batch=ended)
    if now.phase is Phase.CANCELLING:
        return _abandon(broken, ended)
    problem = event.error.problem
    if problem is not None and problem.code in _ADAPTABLE and now.adaptations < MAX_ADAPTATIONS:
        return _adapt(broken, batch, problem)
    if now.replaying and event.error.status in _UNACCEPTABLE:
        return _offer_anew(broken, batch)
    if event.error.retryable and batch.attempts < now.max_attempts:
        return _retry(broken, ended, event.error)
    return _fail(broken, event.error)


def _adapt(now: Conversation, batch: OpenBatch, problem: Problem) -> Decision:
    """Drop the batch and follow the hub. Adapting settles every doubt: the changes are still pending."""
    adapted = evolve(now, adaptations=now.adaptations + 1, replaying=False)
    effects = (DropBatch(batch.number, doubtful=False), Adapt(problem))
    return _decision(adapted, (Trigger.ABORT_BATCH,), effects, GoOn())


def _offer_anew(now: Conversation, batch: OpenBatch) -> Decision:
    """Let go of a batch in doubt that the hub will not even look at: its changes go up as new batches.

    Nothing is applied twice by that: a hub that had applied it knows its number, and calls us forked.
    """
    freed = evolve(now, replaying=False)
    return _decision(freed, (Trigger.ABORT_BATCH,), (DropBatch(batch.number, doubtful=False),), GoOn())


def _retry(now: Conversation, batch: OpenBatch, error: RemoteError) -> Decision:
    facts = evolve(_facts(now), retryable=True, attempts_left=True)
    effects = (StoreDoubt(batch.number, batch.doubtful),)
    return Decision(
        now, (BatchTrigger.RETRY,), facts, effects, (Wait(batch.attempts + 1, error.retry_after),)
    )


def _send_again(now: Conversation) -> Decision:
    if now.batch is None or now.batch.phase is not BatchPhase.WAITING:
        return Decision(now)
    batch = evolve(now.batch, attempts=now.batch.attempts + 1, request_ended=False)
    return _decision(
        evolve(now, batch=batch),
        (BatchTrigger.SEND,),
        (StoreAttempt(batch.number, batch.attempts),),
        Send(batch.direction),
    )


def _cancel(now: Conversation, event: CancelRequested) -> Decision:
    if now.phase is Phase.CANCELLING:
        return Decision(now)
    asked = evolve(now, cancelled_by=event.reason)
    if now.phase is Phase.IDLE:
        return _decision(asked, (Trigger.CANCEL,), (EndSession(event.reason),), Finish(_cancelled(asked)))
    if now.batch is None:
        return _settle(asked, (Trigger.CANCEL,), ())
    if now.batch.request_ended:
        return _abandon(asked, now.batch, Trigger.CANCEL)
    return _decision(asked, (Trigger.CANCEL,), (), Drain())


def _grace_over(now: Conversation) -> Decision:
    if now.phase is not Phase.CANCELLING or now.batch is None:
        return Decision(now)
    batch = evolve(now.batch, doubtful=now.batch.direction is Direction.UPLOAD)
    ending = _abandon(evolve(now, deadline_passed=True), batch)
    return evolve(ending, then=(Interrupt(), *ending.then))


def _abandon(now: Conversation, batch: OpenBatch, *before: Trigger) -> Decision:
    """Abort the open batch of a session that is cancelling, and end it as truthfully as can be (K7)."""
    dropped = evolve(now, batch=batch, in_doubt=now.in_doubt or batch.doubtful)
    return _settle(dropped, (*before, Trigger.ABORT_BATCH), (DropBatch(batch.number, batch.doubtful),))


def _settle(now: Conversation, before: tuple[AnyTrigger, ...], effects: tuple[Effect, ...]) -> Decision:
    """End a session that is cancelling: ``cancelled`` is said only where nothing is in doubt."""
    if now.in_doubt or now.replaying:
        return _ended_in_doubt(evolve(now, in_doubt=True), before, effects)
    return _decision(
        now, (*before, Trigger.SETTLE), (*effects, EndSession(now.cancelled_by)), Finish(_cancelled(now))
    )


def _ended_in_doubt(
    now: Conversation, before: tuple[AnyTrigger, ...], effects: tuple[Effect, ...]
) -> Decision:
    error = InDoubt(
        "cancelled while the hub's answer to an upload was missing: the hub may have applied it; "
        "the next sync settles that before anything else"
    )
    return _decision(now, (*before, Trigger.FAIL), (*effects, EndSession(error.reason, error)), Finish(error))


def _cancelled(now: Conversation) -> SyncCancelled:
    by = {
        Reason.USER: "on request",
        Reason.SHUTDOWN: "because the store was closed",
        Reason.DEADLINE: "because its time was over",
    }
    reason = by[now.cancelled_by or Reason.USER]
    return SyncCancelled(f"the session was cancelled {reason}; what was committed stays")


def _fail(now: Conversation, error: SyncFailed) -> Decision:
    effects: tuple[Effect, ...] = ()
    triggers: tuple[AnyTrigger, ...] = (Trigger.FAIL,)
    failed = now
    if now.batch is not None:
        effects = (DropBatch(now.batch.number, now.batch.doubtful),)
        triggers = (Trigger.ABORT_BATCH, Trigger.FAIL)
        failed = evolve(now, in_doubt=now.in_doubt or now.batch.doubtful)
    return _decision(failed, triggers, (*effects, EndSession(error.reason, error)), Finish(error))


def _stuck(now: Conversation, event: Stuck) -> Decision:
    batch = now.batch
    if batch is not None:
        sent_upload = batch.direction is Direction.UPLOAD and batch.attempts > 0
        batch = evolve(batch, request_ended=True, doubtful=batch.doubtful or sent_upload)
    return _fail(evolve(now, batch=batch), event.error)
