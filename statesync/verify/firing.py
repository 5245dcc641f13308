"""Triggers taken without the machine: the charts as a pure function, linked triggers included."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

from statesync.lifecycle import (
    BATCH,
    LINKED,
    SESSION,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Edge,
    Facts,
    Phase,
    Trigger,
)


class NotTaken(Exception):
    """A trigger is illegal or a guard refuses it."""


@frozen
class Standing:
    """The phases of a session and of the batch that it has open."""

    phase: Phase
    batch: BatchPhase | None = None


def take(
    standing: Standing,
    triggers: Sequence[AnyTrigger],
    facts: Facts,
    session: Chart = SESSION,
    batch: Chart = BATCH,
) -> tuple[Standing, tuple[Edge, ...]]:
    """Return where ``triggers``, one after the other, lead, and the edges taken. Raises ``NotTaken``."""
    taken: list[Edge] = []
    for trigger in triggers:
        for each in (trigger, *linked_to(trigger)):
            standing, edge = take_one(standing, each, facts, session, batch)
            taken.append(edge)
    return standing, tuple(taken)


def linked_to(trigger: AnyTrigger) -> tuple[BatchTrigger, ...]:
    """Return the batch trigger that moves with a session trigger, if there is one."""
    linked = LINKED.get(trigger) if isinstance(trigger, Trigger) else None
    return () if linked is None else (linked,)


def take_one(
    standing: Standing,
    trigger: AnyTrigger,
    facts: Facts,
    session: Chart = SESSION,
    batch: Chart = BATCH,
) -> tuple[Standing, Edge]:
    """Return where ``trigger`` alone leads, and the edge taken. Raises ``NotTaken``."""
    known = evolve(facts, batch=standing.batch, cancelling=standing.phase is Phase.CANCELLING)
    if isinstance(trigger, BatchTrigger):
        if standing.batch is None:
            raise NotTaken(f"{trigger}, but no batch is open")
        edge = _edge(batch, standing.batch, trigger, known)
        left = None if batch.is_final(edge.target) else BatchPhase(edge.target)
        return Standing(standing.phase, left), edge
    edge = _edge(session, standing.phase, trigger, known)
    opened = BatchPhase(batch.initial) if trigger is Trigger.OPEN_BATCH else standing.batch
    return Standing(Phase(edge.target), opened), edge


def _edge(chart: Chart, phase: Phase | BatchPhase, trigger: AnyTrigger, facts: Facts) -> Edge:
    edges = chart.edges_of(phase, trigger)
    allowed = next((edge for edge in edges if edge.refused_by(facts) is None), None)
    if allowed is None:
        raise NotTaken(f"{trigger} in {phase}: " + ("a guard refuses it" if edges else "it is illegal"))
    return allowed
