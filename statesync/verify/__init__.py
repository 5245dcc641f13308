"""The proof: every configuration that the charts can reach is visited, and the promises are judged there.

``check`` explores the product of the charts of sessions and batches with the real guards, and each of them
alone, and the keeper's, alone and with the sessions that it begins, under every answer that the world may
give. It takes changed charts too, and says what a change breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from statesync.lifecycle import BATCH, KEEPER, SESSION, Chart
from statesync.verify.configuration import Configuration, OpenBatch, Request
from statesync.verify.explore import Scope, explore
from statesync.verify.judgement import Property
from statesync.verify.keeping.explore import explore_keeper
from statesync.verify.keeping.moves import KeeperConfiguration, KeeperScope, KeeperStep
from statesync.verify.keeping.properties import KEEPER_PROPERTIES
from statesync.verify.moves import Step
from statesync.verify.properties import PROPERTIES
from statesync.verify.report import Explored, Report, Verdict, Violation
from statesync.verify.space import Space, Way

__all__ = [
    "Configuration",
    "Explored",
    "KeeperConfiguration",
    "KeeperScope",
    "KeeperStep",
    "OpenBatch",
    "Report",
    "Request",
    "Scope",
    "Step",
    "Verdict",
    "Violation",
    "Way",
    "check",
    "violations",
]

_Judged = tuple[Space[Any, Any], tuple[Property[Any, Any], ...]]


def check(session: Chart = SESSION, batch: Chart = BATCH, keeper: Chart = KEEPER) -> Report:
    """Explore all charts and their products, and judge every property.

    A violation carries a shortest way to it; a property that breaks in several explorations is reported
    for the product if it breaks there. The same charts always give the same report.
    """
    found = {violation.name: violation for violation in violations(session, batch, keeper)}
    spaces = [space for space, _ in _judged(session, batch, keeper)]
    judged: tuple[Property[Any, Any], ...] = (*PROPERTIES, *KEEPER_PROPERTIES)
    return Report(
        configurations=sum(len(space.steps) for space in spaces),
        transitions=sum(space.transitions for space in spaces),
        properties=tuple(Verdict(each.name, each.statement, each.name not in found) for each in judged),
        violations=tuple(found[each.name] for each in judged if each.name in found),
        explorations=tuple(Explored(space.scope, len(space.steps), space.transitions) for space in spaces),
    )


def violations(session: Chart = SESSION, batch: Chart = BATCH, keeper: Chart = KEEPER) -> Iterator[Violation]:
    """Yield the violations as they are found, at most one a property; the first one costs the least."""
    broken: set[str] = set()
    for space, properties in _judged(session, batch, keeper):
        for each in properties:
            in_question = space.scope in each.scopes and each.name not in broken
            way = each.broken_by(space) if in_question else None
            if way is not None:
                broken.add(each.name)
                yield Violation(each.name, each.statement, space.scope, way)


def _judged(session: Chart, batch: Chart, keeper: Chart) -> Iterator[_Judged]:
    """Yield every exploration with the properties that are judged there."""
    for scope in Scope:
        yield explore(scope, session, batch), PROPERTIES
    for keeper_scope in KeeperScope:
        yield explore_keeper(keeper_scope, keeper, session), KEEPER_PROPERTIES
