"""The exploration of a keeper, alone and with the sessions that it begins."""

from __future__ import annotations

from functools import lru_cache

from statesync.lifecycle import KEEPER, SESSION, Chart, Edge
from statesync.verify.keeping.moves import KeeperConfiguration, KeeperMoves, KeeperScope, KeeperStep
from statesync.verify.space import Space, walk

KeeperSpace = Space[KeeperConfiguration, KeeperStep]


@lru_cache(maxsize=8)
def explore_keeper(scope: KeeperScope, keeper: Chart = KEEPER, session: Chart = SESSION) -> KeeperSpace:
    """Visit every configuration that a keeper, its sessions and the world around it can reach."""
    moves = KeeperMoves(scope, keeper, session)
    return walk(scope, moves.first(), moves.of)


@lru_cache(maxsize=1)
def keeper_pairs() -> frozenset[tuple[Edge, Edge]]:
    """Return the pairs of edges that one keeper can take one right after the other."""
    space = explore_keeper(KeeperScope.WITH_SESSIONS)
    places: list[tuple[KeeperConfiguration, Edge | None]] = [
        (first, None) for first in space.steps if first not in space.reached_by
    ]
    seen, pairs = set(places), set[tuple[Edge, Edge]]()
    while places:
        now, last = places.pop()
        for step in space.steps[now]:
            edge = _edge(step)
            if last is not None and edge is not None:
                pairs.add((last, edge))
            place = (step.target, edge or last)
            if place not in seen:
                seen.add(place)
                places.append(place)
    return frozenset(pairs)


def _edge(step: KeeperStep) -> Edge | None:
    if step.trigger is None:
        return None
    edges = KEEPER.edges_of(step.source.phase, step.trigger)
    return next(edge for edge in edges if edge.target is step.target.phase)
