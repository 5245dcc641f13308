"""The lifecycle: both charts, their guards, and the facts that guards read.

This file is the only copy of what may happen to a session and to a batch. The machine runs these
tables, the diagrams draw them, the explorer proves things about them, the documentation and the test
kit read them.

The rules that every chart here obeys (``lifecycle.rules``) are checked when this module is imported: every
phase can be reached and has a way to an end, none leaves an end, and no edge stands twice.

Source: sections 3.1 to 3.3 of the design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from attrs import field, frozen

from statesync.lifecycle.rules import broken_rules


class Phase(StrEnum):
    """Where a session stands."""

    IDLE = "idle"
    UPLOADING = "uploading"
    DOWNLOADING = "downloading"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"


class BatchPhase(StrEnum):
    """Where a batch stands."""

    OPEN = "open"
    WAITING = "waiting"
    IN_FLIGHT = "in_flight"
    RECEIVED = "received"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Trigger(StrEnum):
    """What moves a session."""

    START = "start"
    OPEN_BATCH = "open_batch"
    COMMIT_BATCH = "commit_batch"
    ABORT_BATCH = "abort_batch"
    FINISH_UPLOAD = "finish_upload"
    FINISH_DOWNLOAD = "finish_download"
    CANCEL = "cancel"
    SETTLE = "settle"
    FAIL = "fail"


class BatchTrigger(StrEnum):
    """What moves a batch."""

    SEND = "send"
    RECEIVE = "receive"
    RETRY = "retry"
    COMMIT = "commit"
    ABORT = "abort"


AnyPhase = Phase | BatchPhase
AnyTrigger = Trigger | BatchTrigger


@frozen
class Facts:
    """All that a guard may know at the moment a trigger is fired.

    The defaults describe a session that has just begun: nothing open, nothing drained, nothing wrong.
    """

    batch: BatchPhase | None = None
    """The phase of the open batch; None when no batch is open."""
    cancelling: bool = False
    """The session is in the phase ``cancelling``."""
    request_ended: bool = False
    """No request of the open batch is under way."""
    deadline_passed: bool = False
    """The time that ``cancel(grace=…)`` gave the drain is over."""
    outbox_drained: bool = False
    """No change up to the session's upload limit is left to send."""
    feed_drained: bool = False
    """The hub said that no more pages follow."""
    in_doubt: bool = False
    """An upload batch was sent and ended without the hub's answer."""
    retryable: bool = False
    """The failure of the last request may go away by itself."""
    attempts_left: bool = False
    """The open batch may be sent once more."""

    def at(self, batch: BatchPhase | None, *, cancelling: bool) -> Facts:
        """Return these facts with another batch phase, and with whether the session is cancelling.

        Written out, because every move asks for it, and ``attrs.evolve`` takes four times as long.
        """
        return Facts(
            batch,
            cancelling,
            self.request_ended,
            self.deadline_passed,
            self.outbox_drained,
            self.feed_drained,
            self.in_doubt,
            self.retryable,
            self.attempts_left,
        )


@frozen
class Guard:
    """A named predicate over the facts; an edge is taken only if all of its guards hold.

    ``meaning`` completes the sentence "it requires that …".
    """

    name: str
    meaning: str
    holds: Callable[[Facts], bool] = field(repr=False, eq=False)


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


@frozen
class Edge:
    """``trigger`` leads from ``source`` to ``target`` if every guard holds."""

    trigger: AnyTrigger
    source: AnyPhase
    target: AnyPhase
    guards: tuple[Guard, ...] = ()

    def refused_by(self, facts: Facts) -> Guard | None:
        """Return the first guard that does not hold, or None if the edge may be taken."""
        return next((guard for guard in self.guards if not guard.holds(facts)), None)

    @property
    def occasion(self) -> tuple[AnyPhase, AnyTrigger, frozenset[str]]:
        """When it may be taken. Two edges of one occasion would leave what happens to their order."""
        return self.source, self.trigger, frozenset(guard.name for guard in self.guards)

    def __str__(self) -> str:
        guards = " and ".join(guard.name for guard in self.guards)
        return f"{self.trigger}: {self.source} -> {self.target}" + (f" if {guards}" if guards else "")


class BrokenChart(Exception):
    """A chart breaks one of the four rules (``statesync.lifecycle.rules``)."""


@frozen(cache_hash=True)
class Chart:
    """One lifecycle as data: its phases are those that its edges name.

    Making a chart checks the four rules (``statesync.lifecycle.rules``) and raises ``BrokenChart`` if one
    does not hold.
    """

    name: str
    initial: AnyPhase
    finals: frozenset[AnyPhase]
    edges: tuple[Edge, ...]

    def __attrs_post_init__(self) -> None:
        """Check the rules."""
        for broken in broken_rules(self.phases, self.initial, self.finals, self.edges):
            raise BrokenChart(f"{self.name}: {broken}")

    @property
    def phases(self) -> tuple[AnyPhase, ...]:
        """Every phase, in the order of its definition."""
        return tuple(type(self.initial))

    @property
    def triggers(self) -> tuple[AnyTrigger, ...]:
        """Every trigger that an edge names, in the order of its definition."""
        return tuple(dict.fromkeys(edge.trigger for edge in self.edges))

    def edges_of(self, phase: AnyPhase, trigger: AnyTrigger) -> tuple[Edge, ...]:
        """Return the edges that ``trigger`` may take in ``phase``; none means that it is illegal."""
        return tuple(edge for edge in self.edges if edge.source is phase and edge.trigger is trigger)

    def legal(self, phase: AnyPhase) -> tuple[AnyTrigger, ...]:
        """Return the triggers that have an edge out of ``phase``, whatever the guards say."""
        return tuple(dict.fromkeys(edge.trigger for edge in self.edges if edge.source is phase))

    def is_final(self, phase: AnyPhase) -> bool:
        """Tell whether ``phase`` is an end."""
        return phase in self.finals


def _edges(
    trigger: AnyTrigger, sources: Iterable[AnyPhase], target: AnyPhase | None, *guards: Guard
) -> tuple[Edge, ...]:
    """Return an edge from each source; a target of None stays where it is."""
    return tuple(Edge(trigger, source, target or source, guards) for source in sources)


_RUNNING = (Phase.UPLOADING, Phase.DOWNLOADING)
_WITH_BATCH = (*_RUNNING, Phase.CANCELLING)

SESSION = Chart(
    name="session",
    initial=Phase.IDLE,
    finals=frozenset({Phase.CANCELLED, Phase.FAILED, Phase.DONE}),
    edges=(
        # A session always starts with the upload: the hub can find conflicts only before it is read.
        *_edges(Trigger.START, [Phase.IDLE], Phase.UPLOADING),
        # One at a time, so that a cancel has one batch to bring to its end. None in cancelling (K1).
        *_edges(Trigger.OPEN_BATCH, _RUNNING, None, NO_BATCH_OPEN),
        # Legal in cancelling too: an answer that comes during the drain is stored, so both sides agree (K2).
        *_edges(Trigger.COMMIT_BATCH, _WITH_BATCH, None, BATCH_RECEIVED),
        # Not while the request is under way, unless the cancel's grace has passed (K7).
        *_edges(Trigger.ABORT_BATCH, _WITH_BATCH, None, BATCH_OPEN, REQUEST_OVER),
        # A direction that the options switch off counts as drained: it is passed through without a batch.
        *_edges(Trigger.FINISH_UPLOAD, [Phase.UPLOADING], Phase.DOWNLOADING, NO_BATCH_OPEN, OUTBOX_DRAINED),
        *_edges(Trigger.FINISH_DOWNLOAD, [Phase.DOWNLOADING], Phase.DONE, NO_BATCH_OPEN, FEED_DRAINED),
        # In idle nothing was opened or sent, so there is nothing to drain: the cancel is final at once (K5).
        *_edges(Trigger.CANCEL, [Phase.IDLE], Phase.CANCELLED),
        # No guard: a cancel is taken at once. No edge from cancelling: a second one changes nothing (K6).
        *_edges(Trigger.CANCEL, _RUNNING, Phase.CANCELLING),
        # ``cancelled`` says that the user knows what became of every record, so nothing may be in doubt (K7).
        *_edges(Trigger.SETTLE, [Phase.CANCELLING], Phase.CANCELLED, NO_BATCH_OPEN, NOTHING_IN_DOUBT),
        # The batch is ended first, so that every batch has its own recorded end (K2). Doubt is no
        # hindrance: the next session settles it.
        *_edges(Trigger.FAIL, [Phase.IDLE, *_WITH_BATCH], Phase.FAILED, NO_BATCH_OPEN),
    ),
)

_UNSENT = (BatchPhase.OPEN, BatchPhase.WAITING)

BATCH = Chart(
    name="batch",
    initial=BatchPhase.OPEN,
    finals=frozenset({BatchPhase.COMMITTED, BatchPhase.ABORTED}),
    edges=(
        # The guard is K1: what waits when a cancel comes is not sent any more.
        *_edges(BatchTrigger.SEND, _UNSENT, BatchPhase.IN_FLIGHT, NOT_CANCELLING),
        # No guard: an answer is taken in whatever phase the session is in when it comes.
        *_edges(BatchTrigger.RECEIVE, [BatchPhase.IN_FLIGHT], BatchPhase.RECEIVED),
        # To put a batch back while cancelling would promise an attempt that K1 forbids.
        *_edges(
            BatchTrigger.RETRY,
            [BatchPhase.IN_FLIGHT],
            BatchPhase.WAITING,
            RETRYABLE,
            ATTEMPTS_LEFT,
            NOT_CANCELLING,
        ),
        # Only an answered batch is committed: its effect is the answer.
        *_edges(BatchTrigger.COMMIT, [BatchPhase.RECEIVED], BatchPhase.COMMITTED),
        # No guard: no request is under way. A received batch is aborted where its answer cannot be stored.
        *_edges(BatchTrigger.ABORT, [*_UNSENT, BatchPhase.RECEIVED], BatchPhase.ABORTED),
        *_edges(BatchTrigger.ABORT, [BatchPhase.IN_FLIGHT], BatchPhase.ABORTED, REQUEST_OVER),
    ),
)

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
    return SESSION if isinstance(trigger, Trigger) else BATCH
