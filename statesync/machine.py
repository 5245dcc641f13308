"""The machine: runs the charts of ``lifecycle`` with the library ``transitions``, and nothing else does.

Two rules of section 3.3 live here:

* Rule 2, a transition is a transaction. What a trigger writes is committed by ``commit`` *inside* the
  transition, before the phase moves: ``before_state_change`` is the one hook that is used. If ``commit``
  raises, the phase is what it was, and so is the database.
* Rule 5, linked triggers. Triggers that are fired together are first looked up in the tables, one after the
  other; so either all of them are legal and share one transaction, or none of them happens.

One thread fires: two threads that fire from one state would both succeed in ``transitions``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from logging import LogRecord, getLogger

from attrs import frozen
from transitions import EventData
from transitions import Machine as Engine

from statesync.errors import GuardRefused, IllegalTransition, InternalError
from statesync.lifecycle import (
    BATCH,
    KEEPER,
    SESSION,
    AnyPhase,
    AnyTrigger,
    BatchPhase,
    Chart,
    Edge,
    Facts,
    Guard,
    KeeperPhase,
    KeeperTrigger,
    Phase,
    Trigger,
    batch_after,
    with_linked,
)


@frozen
class Move:
    """One transition that is about to be taken."""

    chart: str
    trigger: AnyTrigger
    source: AnyPhase
    target: AnyPhase


Commit = Callable[[tuple[Move, ...]], None]
"""Writes the journal rows of the moves, and what else belongs to them, in one transaction."""


_PHASES = {str(phase): phase for phase in Phase}
_BATCH_PHASES = {str(phase): phase for phase in BatchPhase}
_KEEPER_PHASES = {str(phase): phase for phase in KeeperPhase}


class SessionMachine:
    """One session's lifecycle, and that of the batch it has open.

    ``phase`` and ``batch`` change only in ``fire``, and only after its ``commit`` has returned.
    """

    def __init__(self, session: Chart = SESSION, batch: Chart = BATCH) -> None:
        self._session = _Runner(session)
        self._batch = _Runner(batch)
        self._has_batch = False

    @classmethod
    def standing_at(cls, phase: Phase, batch: BatchPhase | None) -> SessionMachine:
        """Return a machine in the phases that a journal says, for the recovery of an interrupted session."""
        machine = cls()
        machine._session.model.state = str(phase)
        machine._set_batch(batch)
        return machine

    @property
    def phase(self) -> Phase:
        """The session's phase."""
        return _PHASES[self._session.model.state]

    @property
    def batch(self) -> BatchPhase | None:
        """The open batch's phase, None when no batch is open."""
        return _BATCH_PHASES[self._batch.model.state] if self._has_batch else None

    def fire(self, *triggers: AnyTrigger, facts: Facts, commit: Commit) -> tuple[Move, ...]:
        """Fire ``triggers`` one after the other as one transaction, and return the moves taken.

        ``batch`` and ``cancelling`` of the facts are filled in from where the machine stands. A linked
        session trigger (``lifecycle.LINKED``) moves the open batch too. Raises ``IllegalTransition`` or
        ``GuardRefused`` before anything is written, and whatever ``commit`` raises; each leaves every
        phase as it was (K10).
        """
        planned = self._plan(triggers, facts)
        moves = tuple(move for move, _, _ in planned)
        # The first transition writes for all; the others have been looked up and cannot be refused.
        write: Commit | None = commit
        for move, known, batch in planned:
            self._runner(move.trigger).take(move, known, write and _writer(write, moves))
            self._set_batch(batch)
            write = None
        return moves

    def _plan(
        self, triggers: tuple[AnyTrigger, ...], facts: Facts
    ) -> list[tuple[Move, Facts, BatchPhase | None]]:
        """Return each move, the facts that it is taken by, and the phase of the open batch after it."""
        phase, batch, known = self.phase, self.batch, facts
        planned: list[tuple[Move, Facts, BatchPhase | None]] = []
        for trigger in with_linked(triggers):
            known = _as_known(known, phase, batch)
            source = phase if isinstance(trigger, Trigger) else batch
            if source is None:
                raise IllegalTransition(phase, trigger, self._session.chart.legal(phase))
            move = self._runner(trigger).look_up(trigger, source, known)
            phase = move.target if isinstance(move.target, Phase) else phase
            batch = batch_after(trigger, move.target, batch, self._batch.chart)
            planned.append((move, known, batch))
        return planned

    def _runner(self, trigger: AnyTrigger) -> _Runner:
        return self._session if isinstance(trigger, Trigger) else self._batch

    def _set_batch(self, phase: BatchPhase | None) -> None:
        self._has_batch = phase is not None
        if phase is not None:
            self._batch.model.state = str(phase)


class KeeperMachine:
    """One keeper's lifecycle. ``phase`` changes only in ``fire``; nothing of it is written down.

    ``chart`` is ``KEEPER``, or what ``keeper_chart`` has made of it for the conditions of a program.
    """

    def __init__(self, chart: Chart = KEEPER) -> None:
        self._keeper = _Runner(chart)

    @classmethod
    def standing_at(cls, phase: KeeperPhase, chart: Chart = KEEPER) -> KeeperMachine:
        """Return a machine in this phase."""
        machine = cls(chart)
        machine._keeper.model.state = str(phase)
        return machine

    @property
    def chart(self) -> Chart:
        """The chart that runs."""
        return self._keeper.chart

    @property
    def phase(self) -> KeeperPhase:
        """The keeper's phase."""
        return _KEEPER_PHASES[self._keeper.model.state]

    def fire(self, trigger: KeeperTrigger, *, facts: Facts) -> Move:
        """Fire ``trigger``, and return the move taken.

        Raises ``IllegalTransition`` or ``GuardRefused``, and changes nothing then (K10).
        """
        move = self._keeper.look_up(trigger, self.phase, facts)
        self._keeper.take(move, facts, None)
        return move


def _as_known(facts: Facts, phase: Phase, batch: BatchPhase | None) -> Facts:
    """Fill in where the machine stands; many moves leave that as it is."""
    cancelling = phase is Phase.CANCELLING
    if (facts.batch, facts.cancelling) == (batch, cancelling):
        return facts
    return facts.at(batch, cancelling=cancelling)


def _writer(commit: Commit, moves: tuple[Move, ...]) -> Callable[[], None]:
    return lambda: commit(moves)


class _Model:
    """What ``transitions`` moves: it needs a plain object with a ``state``."""

    def __init__(self, state: str) -> None:
        self.state = state


class _Runner:
    """One chart in the hands of ``transitions``."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.model = _Model(str(chart.initial))
        self._engine = _engine(chart)

    def look_up(self, trigger: AnyTrigger, source: AnyPhase, facts: Facts) -> Move:
        """Return where ``trigger`` leads, or say no in our own words: the one place where that happens."""
        edges = self.chart.edges_of(source, trigger)
        if not edges:
            raise IllegalTransition(source, trigger, self.chart.legal(source))
        refusals = [edge.refused_by(facts) for edge in edges]
        for edge, refusal in zip(edges, refusals, strict=True):
            if refusal is None:
                return Move(self.chart.name, trigger, source, edge.target)
        raise GuardRefused(source, trigger, next(guard for guard in refusals if guard is not None))

    def take(self, move: Move, facts: Facts, write: Callable[[], None] | None) -> None:
        """Move the model; ``write`` runs inside the transition, before the phase changes."""
        taken = self._engine.events[move.trigger].trigger(self.model, facts=facts, write=write)
        if not taken or self.model.state != move.target:
            raise InternalError(f"transitions and the {self.chart.name} chart do not agree about {move}")


_NAME = "statesync "


def _is_of_others(record: LogRecord) -> bool:
    """Tell whether ``transitions`` logs of another machine than ours, whose name comes first in its lines.

    It has ten lines a trigger for a program that logs at INFO, and none of them is news.
    """
    said = record.args[0] if isinstance(record.args, tuple) and record.args else ""
    return not str(said).startswith(_NAME)


getLogger("transitions.core").addFilter(_is_of_others)


@lru_cache(maxsize=8)
def _engine(chart: Chart) -> Engine:
    """Return the chart's engine. It holds no state (the models do), so all sessions share it."""
    return Engine(
        model=None,
        name=f"{_NAME}{chart.name}",
        states=[str(phase) for phase in chart.phases],
        initial=str(chart.initial),
        transitions=[_transition(edge) for edge in chart.edges],
        before_state_change=[_write],
        auto_transitions=False,
        send_event=True,
        queued=False,
        ignore_invalid_triggers=False,
    )


def _transition(edge: Edge) -> dict[str, object]:
    return {
        "trigger": str(edge.trigger),
        "source": str(edge.source),
        "dest": str(edge.target),
        "conditions": [_condition(guard) for guard in edge.guards],
    }


def _condition(guard: Guard) -> Callable[[EventData], bool]:
    return lambda event: guard.holds(event.kwargs["facts"])


def _write(event: EventData) -> None:
    write = event.kwargs["write"]
    if write is not None:
        write()
