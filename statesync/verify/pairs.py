"""Which edges of a chart can be taken right after each other at all, as far as the explorer has seen.

Many pairs that a chart seems to allow never happen: a guard that held for the first edge refuses the second.
"""

from __future__ import annotations

from functools import lru_cache

from statesync.lifecycle import BATCH, SESSION, AnyPhase, AnyTrigger, Chart, Edge, Trigger, with_linked
from statesync.verify.configuration import Configuration
from statesync.verify.explore import Scope, explore
from statesync.verify.moves import Step

Pair = tuple[Edge, Edge]
_Place = tuple[Configuration, Edge | None, Edge | None]


@lru_cache(maxsize=1)
def possible_pairs() -> frozenset[Pair]:
    """Return the pairs of edges, of both charts, that one session can take one right after the other."""
    space = explore(Scope.PRODUCT, SESSION, BATCH)
    places: list[_Place] = [(first, None, None) for first in space.steps if first not in space.reached_by]
    seen, pairs = set(places), set[Pair]()
    while places:
        now, session, batch = places.pop()
        for step in space.steps[now]:
            session_edge, batch_edge = _edge_of_session(step), _edge_of_batch(step)
            pairs.update(_followed(session, session_edge) | _followed(batch, batch_edge))
            place = (step.target, session_edge or session, batch_edge or batch)
            if place not in seen:
                seen.add(place)
                places.append(place)
    return frozenset(pairs)


def _followed(before: Edge | None, after: Edge | None) -> set[Pair]:
    if before is None or after is None or before.target is not after.source:
        return set()
    return {(before, after)}


def _edge_of_session(step: Step) -> Edge | None:
    if not isinstance(step.trigger, Trigger):
        return None
    return _edge(SESSION, step.source.phase, step.trigger, step.target.phase)


def _edge_of_batch(step: Step) -> Edge | None:
    """Return the edge of the batch chart that a step takes, by itself or linked to a session trigger."""
    moving = [each for each in with_linked([step.trigger] if step.trigger else []) if each in BATCH.triggers]
    if not moving or step.source.batch is None:
        return None
    left = step.target.batch
    ended = step.target.last_end if left is None else left.phase
    return None if ended is None else _edge(BATCH, step.source.batch.phase, moving[0], ended)


def _edge(chart: Chart, source: AnyPhase, trigger: AnyTrigger, target: AnyPhase) -> Edge:
    return next(edge for edge in chart.edges_of(source, trigger) if edge.target is target)
