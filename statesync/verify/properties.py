"""What must hold of the charts: the promises of the design as questions to a configuration or a step.

None of them reads a chart. They say what sections 3.3, 3.4 and 4 of the design promise, so a chart that
was changed by mistake is held to the promise and not to itself.
"""

from __future__ import annotations

from enum import StrEnum

from statesync.lifecycle import BatchPhase, BatchTrigger, Phase, Trigger
from statesync.verify.configuration import MAX_ATTEMPTS, Configuration, Request
from statesync.verify.explore import Scope
from statesync.verify.judgement import (
    Never,
    NeverStep,
    Possible,
    Property,
    Reachable,
)
from statesync.verify.moves import Step

SESSION_ALONE: frozenset[StrEnum] = frozenset({Scope.SESSION, Scope.PRODUCT})
BATCH_ALONE: frozenset[StrEnum] = frozenset({Scope.BATCH, Scope.PRODUCT})
EACH_ALONE: frozenset[StrEnum] = frozenset(Scope)
TOGETHER: frozenset[StrEnum] = frozenset({Scope.PRODUCT})

_WITH_BATCH = (Phase.UPLOADING, Phase.DOWNLOADING, Phase.CANCELLING)
_ORDER = {
    Phase.IDLE: 0,
    Phase.UPLOADING: 1,
    Phase.DOWNLOADING: 2,
    Phase.CANCELLING: 3,
    Phase.CANCELLED: 4,
    Phase.FAILED: 4,
    Phase.DONE: 4,
}
_ENDED_BY = {
    Phase.CANCELLED: (Trigger.CANCEL, Trigger.SETTLE),
    Phase.FAILED: (Trigger.FAIL,),
    Phase.DONE: (Trigger.FINISH_DOWNLOAD,),
}
_END_OF = {Trigger.COMMIT_BATCH: BatchPhase.COMMITTED, Trigger.ABORT_BATCH: BatchPhase.ABORTED}


def _moves_after_the_end(step: Step) -> bool:
    return step.source.has_ended and step.trigger is not None


def _opens_a_second_batch(step: Step) -> bool:
    return step.trigger is Trigger.OPEN_BATCH and step.source.batch is not None


def _open_outside_its_phases(now: Configuration) -> bool:
    return now.batch is not None and now.phase not in _WITH_BATCH


def _ends_with_a_batch(now: Configuration) -> bool:
    return now.batch is not None and now.has_ended


def _opens_while_stopping(step: Step) -> bool:
    return step.source.stopping and step.trigger is Trigger.OPEN_BATCH


def _sends_while_stopping(step: Step) -> bool:
    stopping = step.source.stopping and not step.source.has_ended
    return stopping and step.trigger in (BatchTrigger.SEND, BatchTrigger.RETRY)


def _cancelled_in_doubt(now: Configuration) -> bool:
    return now.phase is Phase.CANCELLED and now.in_doubt


def _done_too_early(now: Configuration) -> bool:
    return now.phase is Phase.DONE and not (now.outbox_drained and now.feed_drained)


def _miscounts_ends(step: Step) -> bool:
    """A trigger that ends the open batch does so, as its name says; nothing else does."""
    before, after = step.source.batch, step.target.batch
    if step.trigger in _END_OF:
        expected = _END_OF[Trigger(step.trigger)]
        return before is None or after is not None or step.target.last_end is not expected
    return before is not None and (after is None or step.trigger is Trigger.OPEN_BATCH)


def _commits_without_answer(step: Step) -> bool:
    batch = step.source.batch
    commits = step.target.last_end is BatchPhase.COMMITTED and step.target.batch is None
    return batch is not None and commits and batch.request is not Request.ANSWERED


def _aborts_under_way(step: Step) -> bool:
    batch = step.source.batch
    under_way = batch is not None and batch.request is Request.UNDER_WAY
    return under_way and step.target.batch is None and not step.source.deadline_passed


def _repeats_in_vain(step: Step) -> bool:
    batch = step.source.batch
    if batch is None or step.trigger is not BatchTrigger.RETRY:
        return False
    return batch.request is not Request.FAILED_FOR_NOW or batch.attempts >= MAX_ATTEMPTS


def _moved_by_a_batch(step: Step) -> bool:
    of_batch = step.trigger is Trigger.OPEN_BATCH or step.trigger in _END_OF
    return of_batch and step.target.phase is not step.source.phase


def _leaves_a_batch_behind(step: Step) -> bool:
    left = step.source.batch is not None and step.target.phase is not step.source.phase
    return left and step.target.batch is not None and step.target.phase is not Phase.CANCELLING


def _goes_back(step: Step) -> bool:
    return _ORDER[step.target.phase] < _ORDER[step.source.phase] or (
        step.source.stopping and step.target.phase is Phase.DONE
    )


def _ends_without_its_reason(step: Step) -> bool:
    ends = step.target.has_ended and not step.source.has_ended
    return ends and step.trigger not in _ENDED_BY[step.target.phase]


def _any_step(_: Step) -> bool:
    return True


def _runs(now: Configuration) -> bool:
    return not now.has_ended


def _ends(step: Step) -> bool:
    return step.target.has_ended


def _can_fail(now: Configuration) -> bool:
    return _runs(now) and now.batch is None


def _can_be_cancelled(now: Configuration) -> bool:
    return _runs(now) and now.phase is not Phase.CANCELLING


def _takes_the_cancel(step: Step) -> bool:
    expected = Phase.CANCELLED if step.source.phase is Phase.IDLE else Phase.CANCELLING
    return step.trigger is Trigger.CANCEL and step.target.phase is expected


def _has_come_to_rest(now: Configuration) -> bool:
    return now.phase is Phase.CANCELLING and now.batch is None and not now.in_doubt


def _can_end_its_batch(now: Configuration) -> bool:
    over = now.batch is not None and now.batch.request is not Request.UNDER_WAY
    return over or (now.batch is not None and now.deadline_passed)


def _can_still_be_done(now: Configuration) -> bool:
    return _can_fail(now) and not now.stopping and not now.in_doubt


def _can_still_be_committed(now: Configuration) -> bool:
    batch = now.batch
    if batch is None or batch.request in (Request.UNDER_WAY, Request.ANSWERED):
        return batch is not None
    again = batch.request is Request.FAILED_FOR_NOW and batch.attempts < MAX_ATTEMPTS
    return not now.stopping and (batch.request is Request.NONE or again)


PROPERTIES: tuple[Property[Configuration, Step], ...] = (
    NeverStep(
        "final",
        "final phases absorb: nothing moves a session that has ended",
        SESSION_ALONE,
        _moves_after_the_end,
    ),
    NeverStep("one_batch", "at most one batch is open", SESSION_ALONE, _opens_a_second_batch),
    Never(
        "batch_phase",
        "a batch is open only in an active phase or in cancelling",
        SESSION_ALONE,
        _open_outside_its_phases,
    ),
    Never("no_batch_at_end", "no final phase has an open batch", SESSION_ALONE, _ends_with_a_batch),
    NeverStep(
        "nothing_opened",
        "after cancelling was entered no batch is opened (K1)",
        SESSION_ALONE,
        _opens_while_stopping,
    ),
    NeverStep(
        "nothing_sent",
        "after cancelling was entered nothing is sent, nor kept to be sent (K1)",
        BATCH_ALONE,
        _sends_while_stopping,
    ),
    Never(
        "cancelled_clear",
        "cancelled is never reached with a batch in doubt (K7)",
        SESSION_ALONE,
        _cancelled_in_doubt,
    ),
    Never(
        "done_drained", "done is reached only with both directions drained", SESSION_ALONE, _done_too_early
    ),
    NeverStep(
        "ends_once", "every batch ends exactly once, and as its trigger says", SESSION_ALONE, _miscounts_ends
    ),
    Reachable(
        "can_end",
        "an end can be reached even if the hub never answers again",
        TOGETHER,
        _runs,
        _ends,
        lambda step: not step.needs_the_hub,
    ),
    Reachable(
        "can_end_alone",
        "... and even if nobody cancels",
        TOGETHER,
        _runs,
        _ends,
        lambda step: not step.needs_the_hub and step.trigger is not Trigger.CANCEL,
    ),
    NeverStep(
        "answer_first", "a batch is committed only with its answer (K2)", EACH_ALONE, _commits_without_answer
    ),
    NeverStep(
        "request_first",
        "a batch is aborted only when its request has ended or its deadline has passed (K3, K7)",
        EACH_ALONE,
        _aborts_under_way,
    ),
    NeverStep(
        "repeats",
        "a batch is put back only after a failure that may pass, with attempts left",
        BATCH_ALONE,
        _repeats_in_vain,
    ),
    NeverStep("stays", "no batch moves its session to another phase", SESSION_ALONE, _moved_by_a_batch),
    NeverStep(
        "left_behind",
        "a phase is left with a batch open only for cancelling",
        SESSION_ALONE,
        _leaves_a_batch_behind,
    ),
    NeverStep(
        "forward",
        "a session never goes back, and after cancelling it is never done",
        SESSION_ALONE,
        _goes_back,
    ),
    NeverStep(
        "reasons",
        "an end is reached only by the trigger that carries its reason (K11)",
        SESSION_ALONE,
        _ends_without_its_reason,
    ),
    Possible(
        "can_fail",
        "wherever a session was interrupted, it can be recorded as failed (K8)",
        TOGETHER,
        _can_fail,
        lambda step: step.trigger is Trigger.FAIL and step.target.phase is Phase.FAILED,
    ),
    Possible(
        "can_cancel",
        "a cancel is taken at once in every phase that runs (K5)",
        TOGETHER,
        _can_be_cancelled,
        _takes_the_cancel,
    ),
    Possible(
        "can_settle",
        "a cancel that has come to rest with nothing in doubt is announced as cancelled (K3)",
        TOGETHER,
        _has_come_to_rest,
        lambda step: step.trigger is Trigger.SETTLE and step.target.phase is Phase.CANCELLED,
    ),
    Possible(
        "can_abort",
        "a batch whose request is over can be ended at once (K5, K7)",
        TOGETHER,
        _can_end_its_batch,
        lambda step: step.trigger is Trigger.ABORT_BATCH,
    ),
    Reachable(
        "can_commit",
        "a batch that can still be answered can still be committed (K2)",
        TOGETHER,
        _can_still_be_committed,
        lambda step: step.trigger is Trigger.COMMIT_BATCH,
        lambda step: step.trigger is not Trigger.ABORT_BATCH,
    ),
    Reachable(
        "can_be_done",
        "a session with nothing in doubt can still be done, whatever work is left",
        TOGETHER,
        _can_still_be_done,
        lambda step: step.target.phase is Phase.DONE,
        _any_step,
    ),
)
"""Judged by ``check``, in this order."""
