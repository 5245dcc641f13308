"""The proof: every configuration that the charts can reach is visited, and the promises are judged there.

``check`` explores the product of both charts with the real guards, and then each chart alone, under every
answer that the world may give. It takes changed charts too, and says what a change breaks.
"""

from __future__ import annotations

from collections.abc import Iterator

from statesync.lifecycle import BATCH, SESSION, Chart
from statesync.verify.configuration import Configuration, OpenBatch, Request
from statesync.verify.explore import Scope, Way, explore
from statesync.verify.moves import Step
from statesync.verify.properties import PROPERTIES
from statesync.verify.report import Explored, Report, Verdict, Violation

__all__ = [
    "Configuration",
    "Explored",
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


def check(session: Chart = SESSION, batch: Chart = BATCH) -> Report:
    """Explore both charts and their product, and judge every property.

    A violation carries a shortest way to it; a property that breaks in several explorations is reported
    for the product if it breaks there. The same charts always give the same report.
    """
    found = {violation.name: violation for violation in violations(session, batch)}
    spaces = [explore(scope, session, batch) for scope in Scope]
    return Report(
        configurations=sum(len(space.steps) for space in spaces),
        transitions=sum(space.transitions for space in spaces),
        properties=tuple(Verdict(each.name, each.statement, each.name not in found) for each in PROPERTIES),
        violations=tuple(found[each.name] for each in PROPERTIES if each.name in found),
        explorations=tuple(Explored(space.scope, len(space.steps), space.transitions) for space in spaces),
    )


def violations(session: Chart = SESSION, batch: Chart = BATCH) -> Iterator[Violation]:
    """Yield the violations as they are found, at most one a property; the first one costs the least."""
    broken: set[str] = set()
    for scope in Scope:
        space = explore(scope, session, batch)
        for each in PROPERTIES:
            way = each.broken_by(space) if scope in each.scopes and each.name not in broken else None
            if way is not None:
                broken.add(each.name)
                yield Violation(each.name, each.statement, scope, way)
