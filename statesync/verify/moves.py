"""How the explored world moves: by triggers, as the charts allow, and by the world's own steps.

Triggers are fired in any order; only an edge whose guards hold is taken. Linked triggers move both
charts, the guards of both checked first (rule 5 of section 3.3). Everything that the world may answer is
a step of its own, so "whatever the hub does" means every order of these steps.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from statesync.lifecycle import (
    LINKED,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Edge,
    Facts,
    Phase,
    Trigger,
    brings_batch,
    with_linked,
)
from statesync.values import Direction
from statesync.verify.configuration import (
    MAX_ATTEMPTS,
    Configuration,
    OpenBatch,
    Request,
    is_open,
)

ANSWERS = "the hub answers"
GRACE_ENDS = "the drain deadline passes"

_FAILURES = (
    ("the connection is refused, it may come back", Request.FAILED_FOR_NOW, False),
    ("the answer is lost, it may come back", Request.FAILED_FOR_NOW, True),
    ("the request is refused for good", Request.FAILED_FOR_GOOD, False),
    ("the answer is lost for good", Request.FAILED_FOR_GOOD, True),
)


@frozen
class Step:
    """One step: ``cause`` is the trigger that was fired, or in words what the world did."""

    source: Configuration
    cause: AnyTrigger | str
    target: Configuration

    @property
    def trigger(self) -> AnyTrigger | None:
        """The trigger that was fired, None for a step of the world."""
        return self.cause if isinstance(self.cause, Trigger | BatchTrigger) else None

    @property
    def needs_the_hub(self) -> bool:
        """Whether this happens only if the hub answers."""
        return self.cause == ANSWERS

    def __str__(self) -> str:
        return f"{self.cause}: {self.target}"


class Moves:
    """Every step that the two charts and the world allow."""

    def __init__(self, session: Chart, batch: Chart) -> None:
        self._session, self._batch = session, batch
        # Which trigger could be taken in a phase is asked once for every configuration.
        self._by_phase = {
            phase: tuple(edge for edge in chart.edges if edge.source is phase)
            for chart in (session, batch)
            for phase in chart.phases
        }

    def of(self, now: Configuration) -> Iterator[Step]:
        """Yield every step out of ``now``."""
        facts = now.facts()
        for edge in self._taken(self._by_phase[now.phase], facts):
            for target in self._session_moves(now, edge, facts):
                yield Step(now, edge.trigger, target)
        if now.batch is not None:
            for edge in self._taken(self._by_phase[now.batch.phase], facts):
                if edge.trigger not in LINKED.values() and _may_fire(now.batch, edge.trigger):
                    yield Step(now, edge.trigger, _moved(now, now.batch, edge))
            yield from _world(now, now.batch)

    def first(self) -> Iterator[Configuration]:
        """Yield where a session may begin: with work in both directions, in one, or in none."""
        for outbox_drained in (False, True):
            for feed_drained in (False, True):
                yield Configuration(
                    Phase(self._session.initial), outbox_drained=outbox_drained, feed_drained=feed_drained
                )

    def _taken(self, edges: tuple[Edge, ...], facts: Facts) -> Iterator[Edge]:
        return (edge for edge in edges if edge.refused_by(facts) is None)

    def _session_moves(self, now: Configuration, edge: Edge, facts: Facts) -> Iterator[Configuration]:
        phase = Phase(edge.target)
        moved = evolve(now, phase=phase, stopping=now.stopping or phase is Phase.CANCELLING)
        if brings_batch(edge.trigger):
            yield evolve(moved, batch=self._opened(now), last_end=None)
        elif edge.trigger not in LINKED or now.batch is None:
            yield moved
        else:
            linked = with_linked([edge.trigger])
            for end in self._taken(self._by_phase[now.batch.phase], facts):
                if end.trigger in linked:
                    yield from _ended(moved, now.batch, end)

    def _opened(self, now: Configuration) -> OpenBatch:
        direction = Direction.DOWNLOAD if now.phase is Phase.DOWNLOADING else Direction.UPLOAD
        return OpenBatch(BatchPhase(self._batch.initial), direction)


def _moved(now: Configuration, batch: OpenBatch, edge: Edge) -> Configuration:
    """Return ``now`` after ``edge`` has moved its batch; a batch that has ended is open no more."""
    phase = BatchPhase(edge.target)
    if not is_open(phase):
        return evolve(now, batch=None, last_end=phase)
    moved = evolve(batch, phase=phase)
    if edge.trigger is BatchTrigger.SEND:
        # One attempt too many is seen; to count on from there would make the space endless.
        attempts = min(batch.attempts, MAX_ATTEMPTS) + 1
        moved = evolve(moved, request=Request.UNDER_WAY, attempts=attempts)
    elif edge.trigger is BatchTrigger.RECEIVE:
        moved = evolve(moved, doubtful=False)
    return evolve(now, batch=moved)


def _ended(now: Configuration, batch: OpenBatch, edge: Edge) -> Iterator[Configuration]:
    """Yield what may be so after a linked trigger has moved the batch along ``edge``."""
    ended = _moved(now, batch, edge)
    if edge.target is BatchPhase.ABORTED:
        yield evolve(ended, in_doubt=now.in_doubt or _lacks_answer(batch))
    else:
        yield ended
    if edge.target is BatchPhase.COMMITTED and batch.direction is Direction.DOWNLOAD:
        yield evolve(ended, feed_drained=True)
    elif edge.target is BatchPhase.COMMITTED and not now.in_doubt:
        yield evolve(ended, outbox_drained=True)  # what is in doubt would still be in the outbox


def _lacks_answer(batch: OpenBatch) -> bool:
    """Tell whether the hub may have applied an upload batch whose answer was not handed in."""
    is_out = batch.phase is BatchPhase.IN_FLIGHT and batch.request in (Request.UNDER_WAY, Request.ANSWERED)
    return batch.direction is Direction.UPLOAD and (is_out or batch.doubtful)


def _may_fire(batch: OpenBatch, trigger: AnyTrigger) -> bool:
    """``receive`` hands an answer in, so there must be one; everything else may be tried at any time."""
    return trigger is not BatchTrigger.RECEIVE or batch.request is Request.ANSWERED


def _world(now: Configuration, batch: OpenBatch) -> Iterator[Step]:
    if batch.request is Request.UNDER_WAY:
        yield Step(now, ANSWERS, evolve(now, batch=evolve(batch, request=Request.ANSWERED)))
        for words, request, applied in _FAILURES:
            doubtful = batch.doubtful or (applied and batch.direction is Direction.UPLOAD)
            yield Step(now, words, evolve(now, batch=evolve(batch, request=request, doubtful=doubtful)))
    if now.phase is Phase.CANCELLING and not now.deadline_passed:
        yield Step(now, GRACE_ENDS, evolve(now, deadline_passed=True))
