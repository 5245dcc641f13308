"""Triggers taken without the machine: the charts as a pure function, linked triggers included."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from statesync.lifecycle import (
    BATCH,
    SESSION,
    AnyTrigger,
    BatchPhase,
    Chart,
    Edge,
    Facts,
    Phase,
    Trigger,
    batch_after,
    with_linked,
)


class NotTaken(Exception):
    """A trigger is illegal or a guard refuses it."""


@frozen
class Phases:
    """The phases of a session and of the batch that it has open."""

    phase: Phase
    batch: BatchPhase | None = None


def take(
    now: Phases,
    triggers: Sequence[AnyTrigger],
    facts: Facts,
    session: Chart = SESSION,
    batch: Chart = BATCH,
) -> tuple[Phases, tuple[Edge, ...]]:
    """Return where ``triggers``, one after the other, lead, and the edges taken. Raises ``NotTaken``."""
    taken: list[Edge] = []
    for trigger in with_linked(triggers):
        now, edge = take_one(now, trigger, facts, session, batch)
        taken.append(edge)
    return now, tuple(taken)


def take_one(
    now: Phases,
    trigger: AnyTrigger,
    facts: Facts,
    session: Chart = SESSION,
    batch: Chart = BATCH,
) -> tuple[Phases, Edge]:
    """Return where ``trigger`` alone leads, and the edge taken. Raises ``NotTaken``."""
    known = facts.at(now.batch, cancelling=now.phase is Phase.CANCELLING)
    if isinstance(trigger, Trigger):
        edge = _edge(session, now.phase, trigger, known)
    elif now.batch is None:
        raise NotTaken(f"{trigger}, but no batch is open")
    else:
        edge = _edge(batch, now.batch, trigger, known)
    phase = edge.target if isinstance(edge.target, Phase) else now.phase
    return Phases(phase, batch_after(trigger, edge.target, now.batch, batch)), edge


def _edge(chart: Chart, phase: Phase | BatchPhase, trigger: AnyTrigger, facts: Facts) -> Edge:
    edges = chart.edges_of(phase, trigger)
    allowed = next((edge for edge in edges if edge.refused_by(facts) is None), None)
    if allowed is None:
        raise NotTaken(f"{trigger} in {phase}: " + ("a guard refuses it" if edges else "it is illegal"))
    return allowed
