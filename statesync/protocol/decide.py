"""The conversation of a session, sans I/O: events come in, decisions come out.

``decide`` is a pure function. It knows no clock, socket, thread or SQL, and it never changes a phase: it
says which triggers to fire, and the machine does it. The threaded driver, the asyncio driver, the
simulator and the explorer all run this one piece of code.

A driver does with each decision, in this order:

1. start what ``meanwhile`` asks for;
2. fire ``triggers`` with ``facts`` as one transaction that also writes ``effects``;
3. only if that was committed, adopt ``conversation`` and tell it what the transaction came to and the
   phases that the machine is in now (``Conversation.after``); if it was rolled back, keep the old one and
   report ``LocalFailure``;
4. do ``actions``; each leads to the event that its docstring names.

Between two events the driver looks for a cancel, which goes before everything else that waits. So what is
decided of a ``Continued`` is decided after a look for a cancel: above all, whether a batch is sent (K5).

Source: section 4 of the design, and K1 to K11. The ends of a session are in ``ending``.
"""

from __future__ import annotations

from attrs import evolve

from statesync.errors import AllRejected, RemoteError
from statesync.lifecycle import SESSION, AnyTrigger, BatchPhase, BatchTrigger, Phase, Trigger
from statesync.protocol.conversation import Conversation, Doubt, OpenBatch, RequestState, Spent
from statesync.protocol.ending import (
    abandon,
    cancel,
    done,
    facts_of,
    fail,
    failed_at_last,
    grace_over,
    local_failure,
    out_of_turn,
    settle,
    with_doubt,
)
from statesync.protocol.messages import (
    Action,
    Adapt,
    Answered,
    AskAhead,
    BackoffOver,
    Begin,
    BeginSession,
    CancelRequested,
    ComposeAhead,
    Continue,
    Continued,
    Decision,
    DropBatch,
    Effect,
    Event,
    GiveHeadStart,
    GraceOver,
    HeadStartOver,
    HoldBack,
    LocalFailure,
    Prepare,
    Prepared,
    RequestFailed,
    Send,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
    StoreDoubt,
    Wait,
)
from statesync.values import Direction
from statesync.wire import CLIENT_FORKED, EPOCH_CHANGED, HORIZON_PASSED, Problem

MAX_ROUNDS = 3
"""How often a session sends a record whose conflicts it resolves, the first time included."""

MAX_ADAPTATIONS = 3
"""How often a session follows a hub that says its epoch, its horizon or our identity has changed."""

_ADAPTABLE = frozenset({CLIENT_FORKED, EPOCH_CHANGED, HORIZON_PASSED})

_UNACCEPTABLE = frozenset({400, 413, 422})
"""Statuses that say that a request will never be taken as it is, such as one over a limit."""

_TOO_MUCH = frozenset({413, 422})
"""Those of them that a smaller batch may not meet."""

_NOT_THE_BATCH = frozenset({"bad_space", "too_many_spaces"})
"""Refusals that every batch would meet."""


def decide(now: Conversation, event: Event) -> Decision:
    """Return what to do about ``event``. Pure: the same in, the same out.

    An event that no longer matters (an answer after the end, a second cancel) leads to an empty decision.
    One that nothing has asked for is a driver's defect, and ends the session.
    """
    if SESSION.is_final(now.phase):
        return Decision(now)
    match event:
        case Begin() if now.phase is Phase.IDLE:
            return _begin(now, event)
        case Prepared() if now.phase is Phase.UPLOADING and now.batch is None:
            return _prepared(now, event)
        case Continued() if now.phase in (Phase.UPLOADING, Phase.DOWNLOADING):
            return _continued(now)
        case HeadStartOver():
            return _compose_ahead(now)
        case Answered():
            return _answered(now, event)
        case RequestFailed():
            return _request_failed(now, event)
        case BackoffOver():
            return _send_again(now)
        case CancelRequested():
            return cancel(now, event)
        case GraceOver():
            return grace_over(now)
        case LocalFailure():
            return local_failure(now, event)
    return out_of_turn(now, event)


def _decision(
    then_is: Conversation, triggers: tuple[AnyTrigger, ...], effects: tuple[Effect, ...], *actions: Action
) -> Decision:
    return Decision(then_is, triggers, facts_of(then_is), effects, actions=actions)


# -- which batch is next ---------------------------------------------------------------------------


def _begin(now: Conversation, event: Begin) -> Decision:
    begun = evolve(now, doubt=Doubt.EARLIER) if event.replay else now
    uploads = now.uploads and event.waiting
    effects = (BeginSession(uploads),)
    if uploads or begun.is_replaying:
        return _decision(begun, (Trigger.START,), effects, Continue())
    return _leave_upload(begun, (Trigger.START,), effects)


def _continued(now: Conversation) -> Decision:
    if now.batch is not None:
        is_next = now.batch.request is RequestState.NOT_SENT
        return _send(now, now.batch) if is_next else out_of_turn(now, Continued())
    if now.phase is Phase.DOWNLOADING:
        return _open_download(now)
    if now.is_replaying:
        return Decision(now, actions=(Prepare(round=0),))
    if now.uploads:
        return _look_for_more(now)
    return _leave_upload(now, (), ())


def _look_for_more(now: Conversation) -> Decision:
    wanted = Prepare(now.round, now.looked_through, now.upload_limit, now.at_most)
    return Decision(now, actions=(wanted,))


def _prepared(now: Conversation, event: Prepared) -> Decision:
    if event.records:
        return _open_upload(now, event)
    if now.is_replaying:  # it has been settled by other means, such as a new identity
        return Decision(evolve(now, doubt=Doubt.NONE), actions=(Continue(),))
    if now.resend and now.round < MAX_ROUNDS:
        return _look_for_more(evolve(now, round=now.round + 1, resend=0, looked_through=0))
    if now.all_rejected and not now.downloads:
        return fail(now, _all_rejected(now))
    return _leave_upload(now, (), ())


def _all_rejected(now: Conversation) -> AllRejected:
    return AllRejected(f"the hub rejected all {now.sent} records that were sent; pending() shows why")


def _leave_upload(now: Conversation, before: tuple[AnyTrigger, ...], effects: tuple[Effect, ...]) -> Decision:
    """Finish the upload, and begin the download in the same transaction: no I/O lies between them."""
    triggers = (*before, Trigger.FINISH_UPLOAD)
    if now.downloads:
        return _open_download(now, triggers, effects)
    return done(evolve(now, outbox_drained=True, feed_drained=True), triggers, effects)


def _compose_ahead(now: Conversation) -> Decision:
    """Use the time of an upload's request to compose the batch that follows it."""
    batch = now.batch
    if now.phase is not Phase.UPLOADING or batch is None or not batch.is_under_way:
        return Decision(now)
    after = max(now.looked_through, batch.last_position)
    return Decision(now, actions=(ComposeAhead(now.round, after, now.upload_limit, now.at_most),))


# -- sending it ------------------------------------------------------------------------------------


def _open_upload(now: Conversation, ready: Prepared) -> Decision:
    number, records, last_position = now.batches + 1, ready.records, ready.last_position
    return _open(now, OpenBatch(number, Direction.UPLOAD, records=records, last_position=last_position))


def _open_download(
    now: Conversation, before: tuple[AnyTrigger, ...] = (), effects: tuple[Effect, ...] = ()
) -> Decision:
    return _open(now, OpenBatch(now.batches + 1, Direction.DOWNLOAD), before, effects)


def _open(
    now: Conversation,
    batch: OpenBatch,
    before: tuple[AnyTrigger, ...] = (),
    effects: tuple[Effect, ...] = (),
) -> Decision:
    """Open a batch and write down that it is sent; it is sent once a cancel has had its turn."""
    direction = batch.direction
    written = (StoreBatch(batch.number, direction), StoreAttempt(batch.number, batch.attempts))
    drained = direction is Direction.DOWNLOAD  # the upload is over, or there was none
    return _decision(
        evolve(now, batches=batch.number, batch=batch, outbox_drained=drained),
        (*before, Trigger.OPEN_BATCH, BatchTrigger.SEND),
        (*effects, *written),
        Continue(),
    )


def _send_again(now: Conversation) -> Decision:
    if now.batch is None or now.batch.phase is not BatchPhase.WAITING:
        return Decision(now)
    batch = evolve(now.batch, attempts=now.batch.attempts + 1, request=RequestState.NOT_SENT)
    effects = (StoreAttempt(batch.number, batch.attempts),)
    return _decision(evolve(now, batch=batch), (BatchTrigger.SEND,), effects, Continue())


def _send(now: Conversation, batch: OpenBatch) -> Decision:
    sent = evolve(now, batch=evolve(batch, request=RequestState.UNDER_WAY))
    is_upload = batch.direction is Direction.UPLOAD
    return Decision(sent, actions=(Send(batch.direction), *((GiveHeadStart(),) if is_upload else ())))


# -- what came of it -------------------------------------------------------------------------------


def _answered(now: Conversation, event: Answered) -> Decision:
    batch = now.batch
    if batch is None or not batch.is_under_way:
        return Decision(now)
    spent = Spent(batch.spent.request + event.spent.request, batch.spent.parsing + event.spent.parsing)
    taken = _take_answer(now, batch, event)
    triggers = (BatchTrigger.RECEIVE, Trigger.COMMIT_BATCH)
    effects = (StoreAnswer(batch.number, batch.direction, spent),)
    if now.phase is Phase.CANCELLING:
        return settle(taken, triggers, effects)
    if taken.feed_drained and taken.all_rejected:
        return failed_at_last(taken, triggers, effects, _all_rejected(taken))
    if taken.feed_drained:
        return done(taken, triggers, effects)
    if event.last and not taken.downloads and not taken.resend and not taken.all_rejected:
        # It is done with its last batch, so a cancel that comes now comes too late (K6).
        return _leave_upload(taken, triggers, effects)
    ahead = (AskAhead(),) if batch.direction is Direction.DOWNLOAD else ()
    return evolve(_decision(taken, triggers, effects, Continue()), meanwhile=ahead)


def _take_answer(now: Conversation, batch: OpenBatch, event: Answered) -> Conversation:
    ended = evolve(batch, request=RequestState.ENDED)
    if batch.direction is Direction.DOWNLOAD:
        return evolve(now, batch=ended, feed_drained=not event.more)
    return evolve(
        now,
        batch=ended,
        doubt=Doubt.NONE,
        at_most=now.at_most and 2 * now.at_most,
        looked_through=max(now.looked_through, batch.last_position),
        sent=now.sent + event.records,
        rejected=now.rejected + event.rejected,
        resend=now.resend + event.resend,
    )


def _request_failed(now: Conversation, event: RequestFailed) -> Decision:
    batch, error = now.batch, event.error
    if batch is None or not batch.is_under_way:
        return Decision(now)
    spent = evolve(batch.spent, request=batch.spent.request + event.seconds)
    ended = evolve(batch, request=RequestState.ENDED, spent=spent)
    failed = evolve(with_doubt(now, batch) if error.maybe_applied else now, batch=ended)
    if now.phase is Phase.CANCELLING:
        return abandon(failed, ended)
    problem = error.problem
    if problem is not None and problem.code in _ADAPTABLE and now.adaptations < MAX_ADAPTATIONS:
        return _adapt(failed, batch, problem)
    if now.is_replaying and error.status in _UNACCEPTABLE:
        return _offer_anew(failed, batch)
    if _is_too_much(failed, batch, error):
        return _cut(failed, batch) if batch.records > 1 else _hold_back(failed, batch, error)
    if error.retryable and batch.attempts < now.max_attempts:
        return _retry(failed, ended, error)
    return fail(failed, error)


def _adapt(now: Conversation, batch: OpenBatch, problem: Problem) -> Decision:
    """Drop the batch and follow the hub. Adapting settles every doubt: the changes are still pending."""
    adapted = evolve(now, adaptations=now.adaptations + 1, doubt=Doubt.NONE)
    effects = (DropBatch(batch.number, in_doubt=False), Adapt(problem))
    return _decision(adapted, (Trigger.ABORT_BATCH,), effects, Continue())


def _offer_anew(now: Conversation, batch: OpenBatch) -> Decision:
    """Let go of a batch in doubt that the hub will not even look at: its changes go up as new batches.

    Nothing is applied twice by that: a hub that had applied it knows its number, and calls us forked.
    """
    freed = evolve(now, doubt=Doubt.NONE)
    effects = (DropBatch(batch.number, in_doubt=False),)
    return _decision(freed, (Trigger.ABORT_BATCH,), effects, Continue())


def _is_too_much(now: Conversation, batch: OpenBatch, error: RemoteError) -> bool:
    """Tell whether a smaller batch may be taken: the hub has refused this one, and none is in doubt."""
    if batch.direction is Direction.DOWNLOAD or now.doubt is not Doubt.NONE or error.status not in _TOO_MUCH:
        return False
    return error.problem is None or error.problem.code not in _NOT_THE_BATCH


def _cut(now: Conversation, batch: OpenBatch) -> Decision:
    """Drop the batch and try half of it: so the one record that is too much is alone in the end."""
    cut, effects = evolve(now, at_most=batch.records // 2), (DropBatch(batch.number, in_doubt=False),)
    return _decision(cut, (Trigger.ABORT_BATCH,), effects, Continue())


def _hold_back(now: Conversation, batch: OpenBatch, error: RemoteError) -> Decision:
    """Let the one record wait that the hub does not take, and go on with those behind it."""
    code = f"http_{error.status}" if error.problem is None else error.problem.code
    past = evolve(
        now, looked_through=batch.last_position, at_most=1, sent=now.sent + 1, rejected=now.rejected + 1
    )
    effects = (HoldBack(batch.number, code, error.message), DropBatch(batch.number, in_doubt=False))
    return _decision(past, (Trigger.ABORT_BATCH,), effects, Continue())


def _retry(now: Conversation, batch: OpenBatch, error: RemoteError) -> Decision:
    facts = evolve(facts_of(now), retryable=True, attempts_left=True)
    effects = (StoreDoubt(batch.number, in_doubt=now.doubt is not Doubt.NONE),)
    wait = Wait(batch.attempts + 1, error.retry_after)
    return Decision(now, (BatchTrigger.RETRY,), facts, effects, actions=(wait,))
