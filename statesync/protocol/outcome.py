"""What came of a batch: its answer, or a failure that is tried again, adapted to, cut around, or final."""

from __future__ import annotations

from attrs import evolve

from statesync.errors import RemoteError
from statesync.lifecycle import BatchTrigger, Phase, Trigger
from statesync.protocol.conversation import Conversation, Doubt, OpenBatch, RequestState, Spent
from statesync.protocol.ending import (
    abandon,
    done,
    facts_of,
    fail,
    is_in_doubt,
    settle,
    with_doubt,
)
from statesync.protocol.messages import (
    Adapt,
    Answered,
    AskAhead,
    Build,
    Continue,
    Decision,
    DropBatch,
    HoldBack,
    RequestFailed,
    StoreAnswer,
    StoreDoubt,
    Wait,
)
from statesync.protocol.next_batch import decision_of, leave_upload, upload_error_of
from statesync.values import Direction
from statesync.wire import CLIENT_FORKED, EPOCH_CHANGED, FORBIDDEN, HORIZON_PASSED, NOT_APPLIED, Problem

MAX_ADAPTATIONS = 3
"""How often a session follows a hub that says its epoch, its horizon or our identity has changed."""

_ADAPTABLE = frozenset({CLIENT_FORKED, EPOCH_CHANGED, HORIZON_PASSED})

_UNACCEPTABLE = frozenset({400, 413, 422})
"""Statuses that say that a request will never be taken as it is, such as one over a limit."""

_TOO_MUCH = frozenset({413, 422})
"""Those of them that a smaller batch may not meet."""

MAX_DEFECTS = 3
"""How many single records in a row a hub may fail on: with one more it is the hub, and not the records."""

DEFECT_PAUSE = 3600.0
"""Seconds for which a record is parked on which the hub has failed, where the hub names no time."""

OFFER_PAUSE = 3600.0
"""Seconds for which what a restored hub has lost is not offered again by who may not write there."""

_NOT_THE_BATCH = frozenset({"bad_space", "too_many_spaces"})
"""Refusals that every batch would meet."""


def answered(now: Conversation, event: Answered) -> Decision:
    """Store the answer, and go on: to the next batch, or to the end."""
    batch = now.batch
    if batch is None or not batch.is_under_way:
        return Decision(now)
    spent = Spent(batch.spent.request + event.spent.request, batch.spent.parsing + event.spent.parsing)
    taken = _take_answer(now, batch, event)
    triggers = (BatchTrigger.RECEIVE, Trigger.COMMIT_BATCH)
    effects = (StoreAnswer(batch.number, batch.direction, spent),)
    if now.phase is Phase.CANCELLING:
        return settle(taken, triggers, effects)
    if taken.feed_drained and event.unbuilt:
        return decision_of(taken, triggers, effects, Build())
    if taken.feed_drained:
        return done(taken, triggers, effects, upload_error_of(taken))
    comes_again = taken.resend or taken.unread or taken.all_rejected
    if event.last and not taken.downloads and not comes_again:
        # It is done with its last batch, so a cancel that comes now comes too late (K6).
        return leave_upload(taken, triggers, effects)
    ahead = (AskAhead(taken.page_size),) if batch.direction is Direction.DOWNLOAD else ()
    return evolve(decision_of(taken, triggers, effects, Continue()), meanwhile=ahead)


def built(now: Conversation) -> Decision:
    """End the session: everything was read before its indexes were built."""
    return done(now, (), (), upload_error_of(now))


def _take_answer(now: Conversation, batch: OpenBatch, event: Answered) -> Conversation:
    ended = evolve(batch, request=RequestState.ENDED)
    if batch.direction is Direction.DOWNLOAD:
        page = evolve(ended, records=event.records, size=event.size, spent=event.spent)
        size = now.page_size if now.page_fits is None else now.page_fits
        return evolve(now, batch=page, feed_drained=not event.more, page_size=size)
    return evolve(
        now,
        batch=ended,
        doubt=Doubt.NONE,
        at_most=now.at_most and 2 * now.at_most,
        looked_through=max(now.looked_through, batch.last_position),
        sent=now.sent + event.records,
        rejected=now.rejected + event.rejected,
        defects=0,
        resend=now.resend + event.resend,
        unread=0 if now.is_replaying else now.unread + event.unread,  # the first round is still to come
    )


def request_failed(now: Conversation, event: RequestFailed) -> Decision:
    """Do what this failure allows: adapt to the hub, cut the batch, try it again, or end the session."""
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
    if now.is_replaying and _is_forbidden(error) and not batch.are_offers:
        return _wait_for_right(failed, batch, error)
    if now.is_replaying and (error.status in _UNACCEPTABLE or _has_failed(error) or _is_forbidden(error)):
        return _offer_anew(failed, batch)
    if _may_write_nothing(failed, batch, error):
        if batch.are_offers:
            return _park_offers(failed, batch, error)
        if now.downloads:
            return _give_up_upload(failed, batch, error)
    if _is_too_much(failed, batch, error):
        return _cut(failed, batch) if batch.records > 1 else _hold_back(failed, batch, error)
    if _is_defect(failed, batch, error) and batch.records > 1:
        return _cut(failed, batch)
    if error.retryable and batch.attempts < now.max_attempts:
        return _retry(failed, ended, error)
    if _is_defect(failed, batch, error) and now.defects < MAX_DEFECTS:
        return _hold_back(evolve(failed, defects=now.defects + 1), batch, error)
    return fail(failed, error)


def _adapt(now: Conversation, batch: OpenBatch, problem: Problem) -> Decision:
    """Drop the batch and follow the hub.

    Another identity or epoch settles every doubt: the changes are still pending. That deletes were missed
    says nothing of a batch that waits beside the download.
    """
    waits = batch.direction is Direction.DOWNLOAD and problem.code == HORIZON_PASSED
    doubt = now.doubt if waits else Doubt.NONE
    adapted = evolve(now, adaptations=now.adaptations + 1, doubt=doubt)
    effects = (DropBatch(batch.number, in_doubt=False), Adapt(problem))
    return decision_of(adapted, (Trigger.ABORT_BATCH,), effects, Continue())


def _offer_anew(now: Conversation, batch: OpenBatch) -> Decision:
    """Let go of a batch in doubt that the hub will not even look at: its changes go up as new batches.

    Nothing is applied twice by that: a hub that had applied it knows its number, and calls us forked.
    """
    freed = evolve(now, doubt=Doubt.NONE)
    effects = (DropBatch(batch.number, in_doubt=False),)
    return decision_of(freed, (Trigger.ABORT_BATCH,), effects, Continue())


def _wait_for_right(now: Conversation, batch: OpenBatch, error: RemoteError) -> Decision:
    """Download, and leave in doubt a batch whose sender may not write any more; without a download, fail.

    The hub may have applied it before the right ended. Its very repeat is answered from the receipt once the
    right is back. If its changes went up as another batch, the hub would call us forked, and what was changed
    here since would be in conflict with what we have written ourselves.
    """
    if not now.downloads:
        return fail(now, error)
    waiting = evolve(now, upload_error=error, doubt=Doubt.OPEN)
    effects = (DropBatch(batch.number, in_doubt=True),)
    return decision_of(waiting, (Trigger.ABORT_BATCH,), effects, Continue())


def _may_write_nothing(now: Conversation, batch: OpenBatch, error: RemoteError) -> bool:
    """Tell whether the hub has refused an upload because its sender may write nothing at all."""
    return _is_forbidden(error) and batch.direction is Direction.UPLOAD and now.doubt is Doubt.NONE


def _is_forbidden(error: RemoteError) -> bool:
    return error.problem is not None and error.problem.code == FORBIDDEN


def _give_up_upload(now: Conversation, batch: OpenBatch, error: RemoteError) -> Decision:
    """Let all changes wait, and download: what may not be written may be read all the same."""
    given_up, effects = evolve(now, upload_error=error), (DropBatch(batch.number, in_doubt=False),)
    return decision_of(given_up, (Trigger.ABORT_BATCH,), effects, Continue())


def _park_offers(now: Conversation, batch: OpenBatch, error: RemoteError) -> Decision:
    """Let offers wait that nobody asked for, and go on: a device that may not write lacks nothing by that."""
    past = evolve(now, looked_through=batch.last_position)
    said = f"a restored hub has lost this record, and the token may not write it: {error.message}"
    held = HoldBack(batch.number, FORBIDDEN, said, OFFER_PAUSE)
    effects = (held, DropBatch(batch.number, in_doubt=False))
    return decision_of(past, (Trigger.ABORT_BATCH,), effects, Continue())


def _is_too_much(now: Conversation, batch: OpenBatch, error: RemoteError) -> bool:
    """Tell whether a smaller batch may be taken: the hub has refused this one, and none is in doubt."""
    if batch.direction is Direction.DOWNLOAD or now.doubt is not Doubt.NONE or error.status not in _TOO_MUCH:
        return False
    return error.problem is None or error.problem.code not in _NOT_THE_BATCH


def _is_defect(now: Conversation, batch: OpenBatch, error: RemoteError) -> bool:
    """Tell whether the hub has failed on an upload, has applied nothing of it, and none is in doubt."""
    is_upload = batch.direction is Direction.UPLOAD and now.doubt is Doubt.NONE
    return is_upload and _has_failed(error)


def _has_failed(error: RemoteError) -> bool:
    return error.problem is not None and error.problem.code == NOT_APPLIED


def _cut(now: Conversation, batch: OpenBatch) -> Decision:
    """Drop the batch and try half of it: so the one record that is too much is alone in the end."""
    cut, effects = evolve(now, at_most=batch.records // 2), (DropBatch(batch.number, in_doubt=False),)
    return decision_of(cut, (Trigger.ABORT_BATCH,), effects, Continue())


def _hold_back(now: Conversation, batch: OpenBatch, error: RemoteError) -> Decision:
    """Let the one record wait that the hub does not take, and go on with those behind it."""
    code = f"http_{error.status}" if error.problem is None else error.problem.code
    past = evolve(
        now, looked_through=batch.last_position, at_most=1, sent=now.sent + 1, rejected=now.rejected + 1
    )
    pause = DEFECT_PAUSE if code == NOT_APPLIED and error.retry_after is None else error.retry_after
    held = HoldBack(batch.number, code, error.message, pause)
    effects = (held, DropBatch(batch.number, in_doubt=False))
    return decision_of(past, (Trigger.ABORT_BATCH,), effects, Continue())


def _retry(now: Conversation, batch: OpenBatch, error: RemoteError) -> Decision:
    facts = evolve(facts_of(now), retryable=True, attempts_left=True)
    effects = (StoreDoubt(batch.number, in_doubt=is_in_doubt(now, batch)),)
    wait = Wait(batch.attempts + 1, error.retry_after)
    return Decision(now, (BatchTrigger.RETRY,), facts, effects, actions=(wait,))
