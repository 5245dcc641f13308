"""The lifecycle of sessions and batches: both charts, and their guards.

This file is the only copy of what may happen to a session and to a batch, as ``lifecycle.keeper`` is of what
may happen to a keeper. The machine runs these tables, the diagrams draw them, the explorer proves things
about them, the documentation and the test kit read them.

The rules that every chart obeys (``lifecycle.rules``) are checked when this module is imported: every
phase can be reached and has a way to an end, none leaves an end, and no edge stands twice.

Source: sections 3.1 to 3.3 of the design.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from statesync.lifecycle.keeper import KEEPER
from statesync.lifecycle.shapes import Chart, Guard, edges
from statesync.lifecycle.words import (
    AnyPhase,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    KeeperTrigger,
    Phase,
    Trigger,
)

NO_BATCH_OPEN = Guard("no_batch_open", "no batch is open", lambda facts: facts.batch is None)
BATCH_RECEIVED = Guard(
    "batch_received",
    "the open batch has its answer",
    lambda facts: facts.batch is BatchPhase.RECEIVED,
)
BATCH_OPEN = Guard("batch_open", "a batch is open", lambda facts: facts.batch is not None)
REQUEST_OVER = Guard(
    "request_over",
    "the batch's request has ended or its drain deadline has passed",
    lambda facts: facts.request_ended or facts.deadline_passed,
)
OUTBOX_DRAINED = Guard(
    "outbox_drained",
    "the outbox is drained up to the session's upload limit",
    lambda facts: facts.outbox_drained,
)
FEED_DRAINED = Guard("feed_drained", "the hub's feed is drained", lambda facts: facts.feed_drained)
NOTHING_IN_DOUBT = Guard("nothing_in_doubt", "no batch is in doubt", lambda facts: not facts.in_doubt)
NOT_CANCELLING = Guard("not_cancelling", "the session is not cancelling", lambda facts: not facts.cancelling)
RETRYABLE = Guard("retryable", "the failure can be retried", lambda facts: facts.retryable)
ATTEMPTS_LEFT = Guard("attempts_left", "attempts are left", lambda facts: facts.attempts_left)


_RUNNING = (Phase.UPLOADING, Phase.DOWNLOADING)
_WITH_BATCH = (*_RUNNING, Phase.CANCELLING)

SESSION = Chart(
    name="session",
    initial=Phase.IDLE,
    finals=frozenset({Phase.CANCELLED, Phase.FAILED, Phase.DONE}),
    edges=(
        # A session always starts with the upload: the hub can find conflicts only before it is read.
        *edges(Trigger.START, [Phase.IDLE], Phase.UPLOADING),
        # One at a time, so that a cancel has one batch to bring to its end. None in cancelling (K1).
        *edges(Trigger.OPEN_BATCH, _RUNNING, None, NO_BATCH_OPEN),
        # Legal in cancelling too: an answer that comes during the drain is stored, so both sides agree (K2).
        *edges(Trigger.COMMIT_BATCH, _WITH_BATCH, None, BATCH_RECEIVED),
        # Not while the request is under way, unless the cancel's grace has passed (K7).
        *edges(Trigger.ABORT_BATCH, _WITH_BATCH, None, BATCH_OPEN, REQUEST_OVER),
        # A direction that the options switch off counts as drained: it is passed through without a batch.
        *edges(Trigger.FINISH_UPLOAD, [Phase.UPLOADING], Phase.DOWNLOADING, NO_BATCH_OPEN, OUTBOX_DRAINED),
        *edges(Trigger.FINISH_DOWNLOAD, [Phase.DOWNLOADING], Phase.DONE, NO_BATCH_OPEN, FEED_DRAINED),
        # In idle nothing was opened or sent, so there is nothing to drain: the cancel is final at once (K5).
        *edges(Trigger.CANCEL, [Phase.IDLE], Phase.CANCELLED),
        # No guard: a cancel is taken at once. No edge from cancelling: a second one changes nothing (K6).
        *edges(Trigger.CANCEL, _RUNNING, Phase.CANCELLING),
        # ``cancelled`` says that the user knows what became of every record, so nothing may be in doubt (K7).
        *edges(Trigger.SETTLE, [Phase.CANCELLING], Phase.CANCELLED, NO_BATCH_OPEN, NOTHING_IN_DOUBT),
        # The batch is ended first, so that every batch has its own recorded end (K2). Doubt is no
        # hindrance: the next session settles it.
        *edges(Trigger.FAIL, [Phase.IDLE, *_WITH_BATCH], Phase.FAILED, NO_BATCH_OPEN),
    ),
)

_UNSENT = (BatchPhase.OPEN, BatchPhase.WAITING)

BATCH = Chart(
    name="batch",
    initial=BatchPhase.OPEN,
    finals=frozenset({BatchPhase.COMMITTED, BatchPhase.ABORTED}),
    edges=(
        # The guard is K1: what waits when a cancel comes is not sent any more.
        *edges(BatchTrigger.SEND, _UNSENT, BatchPhase.IN_FLIGHT, NOT_CANCELLING),
        # No guard: an answer is taken in whatever phase the session is in when it comes.
        *edges(BatchTrigger.RECEIVE, [BatchPhase.IN_FLIGHT], BatchPhase.RECEIVED),
        # To put a batch back while cancelling would promise an attempt that K1 forbids.
        *edges(
            BatchTrigger.RETRY,
            [BatchPhase.IN_FLIGHT],
            BatchPhase.WAITING,
            RETRYABLE,
            ATTEMPTS_LEFT,
            NOT_CANCELLING,
        ),
        # Only an answered batch is committed: its effect is the answer.
        *edges(BatchTrigger.COMMIT, [BatchPhase.RECEIVED], BatchPhase.COMMITTED),
        # No guard: no request is under way. A received batch is aborted where its answer cannot be stored.
        *edges(BatchTrigger.ABORT, [*_UNSENT, BatchPhase.RECEIVED], BatchPhase.ABORTED),
        *edges(BatchTrigger.ABORT, [BatchPhase.IN_FLIGHT], BatchPhase.ABORTED, REQUEST_OVER),
    ),
)

CHARTS = (SESSION, BATCH, KEEPER)
"""Every chart that there is."""

LINKED: Mapping[Trigger, BatchTrigger | None] = {
    Trigger.OPEN_BATCH: None,
    Trigger.COMMIT_BATCH: BatchTrigger.COMMIT,
    Trigger.ABORT_BATCH: BatchTrigger.ABORT,
}
"""The session triggers that concern the open batch, each with the batch trigger that goes with it (rule 5).

None: the trigger brings a new batch, in the batch chart's initial phase.
"""

_BRINGING = frozenset(trigger for trigger, linked in LINKED.items() if linked is None)


def with_linked(triggers: Iterable[AnyTrigger]) -> tuple[AnyTrigger, ...]:
    """Return ``triggers`` in their order, each followed by the batch trigger that is linked to it."""
    every: list[AnyTrigger] = []
    for trigger in triggers:
        linked = LINKED.get(trigger) if isinstance(trigger, Trigger) else None
        every += [trigger] if linked is None else [trigger, linked]
    return tuple(every)


def brings_batch(trigger: AnyTrigger) -> bool:
    """Tell whether ``trigger`` brings a new batch."""
    return trigger in _BRINGING


def concerns_batch(trigger: AnyTrigger) -> bool:
    """Tell whether ``trigger`` is about the open batch: it moves it, or is linked to what moves it."""
    return isinstance(trigger, BatchTrigger) or trigger in LINKED


def batch_after(
    trigger: AnyTrigger, target: AnyPhase, batch: BatchPhase | None, chart: Chart = BATCH
) -> BatchPhase | None:
    """Return the open batch's phase after ``trigger`` alone has led to ``target``, None if none is open then.

    ``batch`` is its phase before. ``chart`` is the batch chart that runs.
    """
    phase = chart.initial if brings_batch(trigger) else target
    if not isinstance(phase, BatchPhase):
        return batch
    return None if chart.is_final(phase) else phase


def chart_of(trigger: AnyTrigger) -> Chart:
    """Return the chart that ``trigger`` belongs to."""
    if isinstance(trigger, KeeperTrigger):
        return KEEPER
    return SESSION if isinstance(trigger, Trigger) else BATCH
