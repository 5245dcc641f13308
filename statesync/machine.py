"""The machine: runs the charts of ``lifecycle`` with the library ``transitions``, and nothing else does.

Two rules of section 3.3 live here:

* Rule 2, a transition is a transaction. What a trigger writes is committed by ``commit`` *inside* the
  transition, before the phase moves: ``before_state_change`` is the one hook that is used. If ``commit``
  raises, the phase is what it was, and so is the database.
* Rule 5, linked triggers. Triggers that are fired together are first rehearsed on a second model, which
  writes nothing; so either all of them are legal and share one transaction, or none of them happens.

One thread fires: two threads that fire from one state would both succeed in ``transitions``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from attrs import evolve, frozen
from transitions import EventData, MachineError
from transitions import Machine as Engine

from statesync.errors import GuardRefused, IllegalTransition
from statesync.lifecycle import (
    BATCH,
    LINKED,
    SESSION,
    AnyPhase,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Edge,
    Facts,
    Guard,
    Phase,
    Trigger,
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


class SessionMachine:
    """One session's lifecycle, and that of the batch it has open.

    ``phase`` and ``batch`` change only in ``fire``, and only after its ``commit`` has returned.
    """

    def __init__(self, session: Chart = SESSION, batch: Chart = BATCH) -> None:
        self._session = _Runner(session)
        self._batch = _Runner(batch)
        self._batch_chart = batch
        self._has_batch = False

    @classmethod
    def standing_at(cls, phase: Phase, batch: BatchPhase | None) -> SessionMachine:
        """Return a machine in the phases that a journal says, for the recovery of an interrupted session."""
        machine = cls()
        machine._session.real.state = str(phase)
        machine._has_batch = batch is not None
        if batch is not None:
            machine._batch.real.state = str(batch)
        return machine

    @property
    def phase(self) -> Phase:
        """The session's phase."""
        return Phase(self._session.real.state)

    @property
    def batch(self) -> BatchPhase | None:
        """The open batch's phase, None when no batch is open."""
        return BatchPhase(self._batch.real.state) if self._has_batch else None

    def fire(self, *triggers: AnyTrigger, facts: Facts, commit: Commit) -> tuple[Move, ...]:
        """Fire ``triggers`` one after the other as one transaction, and return the moves taken.

        ``batch`` and ``cancelling`` of the facts are filled in from where the machine stands. A linked
        session trigger (``lifecycle.LINKED``) moves the open batch too. Raises ``IllegalTransition`` or
        ``GuardRefused`` before anything is written, and whatever ``commit`` raises; each leaves every
        phase as it was (K10).
        """
        rehearsed = self._rehearse(triggers, facts)
        moves = tuple(move for move, _ in rehearsed)
        # The first transition writes for all; the others have been rehearsed and cannot be refused.
        write: Commit | None = commit
        for move, known in rehearsed:
            self._runner(move.trigger).take(move.trigger, known, write and _writer(write, moves))
            self._follow_open(move, self._batch.real)
            write = None
        self._has_batch = self._still_open(moves)
        return moves

    def _rehearse(self, triggers: tuple[AnyTrigger, ...], facts: Facts) -> list[tuple[Move, Facts]]:
        session, batch = self._session.rehearsal, self._batch.rehearsal
        session.state, batch.state = self._session.real.state, self._batch.real.state
        rehearsed: list[tuple[Move, Facts]] = []
        is_open = self._has_batch
        for trigger in _with_linked(triggers):
            known = evolve(
                facts,
                batch=BatchPhase(batch.state) if is_open else None,
                cancelling=session.state == Phase.CANCELLING,
            )
            if isinstance(trigger, BatchTrigger) and not is_open:
                raise IllegalTransition(Phase(session.state), trigger, SESSION.legal(Phase(session.state)))
            move = self._runner(trigger).rehearse(trigger, known)
            self._follow_open(move, batch)
            rehearsed.append((move, known))
            is_open = self._is_open_after(move, is_open=is_open)
        return rehearsed

    def _runner(self, trigger: AnyTrigger) -> _Runner:
        return self._session if isinstance(trigger, Trigger) else self._batch

    def _follow_open(self, move: Move, model: _Model) -> None:
        if move.trigger is Trigger.OPEN_BATCH:
            model.state = str(self._batch_chart.initial)

    def _is_open_after(self, move: Move, *, is_open: bool) -> bool:
        if move.trigger is Trigger.OPEN_BATCH:
            return True
        return is_open and not self._batch_chart.is_final(move.target)

    def _still_open(self, moves: tuple[Move, ...]) -> bool:
        is_open = self._has_batch
        for move in moves:
            is_open = self._is_open_after(move, is_open=is_open)
        return is_open


def _with_linked(triggers: tuple[AnyTrigger, ...]) -> list[AnyTrigger]:
    expanded: list[AnyTrigger] = []
    for trigger in triggers:
        expanded.append(trigger)
        if isinstance(trigger, Trigger) and trigger in LINKED:
            expanded.append(LINKED[trigger])
    return expanded


def _writer(commit: Commit, moves: tuple[Move, ...]) -> Callable[[], None]:
    return lambda: commit(moves)


class _Model:
    """What ``transitions`` moves: it needs a plain object with a ``state``."""

    def __init__(self, state: str) -> None:
        self.state = state


class _Runner:
    """One chart in the hands of ``transitions``: a real model, and one to rehearse on."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._phases = {str(phase): phase for phase in chart.phases}
        self.real, self.rehearsal = _Model(str(chart.initial)), _Model(str(chart.initial))
        self._engine = _engine(chart)

    def rehearse(self, trigger: AnyTrigger, facts: Facts) -> Move:
        """Move the rehearsal model, or say no in our own words: the one place where that happens."""
        source = self._phases[self.rehearsal.state]
        try:
            taken = self._engine.events[trigger].trigger(self.rehearsal, facts=facts, write=None)
        except (MachineError, KeyError):
            raise IllegalTransition(source, trigger, self._chart.legal(source)) from None
        if not taken:
            raise GuardRefused(source, trigger, self._refusing_guard(source, trigger, facts))
        return Move(self._chart.name, trigger, source, self._phases[self.rehearsal.state])

    def take(self, trigger: AnyTrigger, facts: Facts, write: Callable[[], None] | None) -> None:
        """Move the real model; ``write`` runs inside the transition, before the phase changes."""
        self._engine.events[trigger].trigger(self.real, facts=facts, write=write)

    def _refusing_guard(self, source: AnyPhase, trigger: AnyTrigger, facts: Facts) -> Guard:
        refusals = (edge.refused_by(facts) for edge in self._chart.edges_of(source, trigger))
        return next(guard for guard in refusals if guard is not None)


@lru_cache(maxsize=8)
def _engine(chart: Chart) -> Engine:
    """Return the chart's engine. It holds no state (the models do), so all sessions share it."""
    return Engine(
        model=None,
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
