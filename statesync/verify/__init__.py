"""The proof: every configuration that the charts can reach is visited, and the promises are judged there.

``check`` explores the session chart, the batch chart, and their product with the real guards, under every
answer that the world may give. It takes changed charts too, and says what a change breaks.
"""

from __future__ import annotations

from statesync.lifecycle import BATCH, SESSION, Chart
from statesync.verify.explore import Scope, explore
from statesync.verify.properties import PROPERTIES
from statesync.verify.report import Explored, Report, Verdict, Violation

__all__ = ["Explored", "Report", "Scope", "Verdict", "Violation", "check"]


def check(session: Chart = SESSION, batch: Chart = BATCH) -> Report:
    """Explore both charts and their product, and judge every property.

    A violation carries a shortest path to it; a property that breaks in several explorations is reported
    for the first one. The same charts always give the same report.
    """
    spaces = [explore(scope, session, batch) for scope in Scope]
    violations = []
    for each in PROPERTIES:
        judged = ((space, each.broken_by(space)) for space in spaces if space.scope in each.scopes)
        broken = ((space, path) for space, path in judged if path is not None)
        violations += [
            Violation(each.name, each.statement, space.scope, path) for space, path in [*broken][:1]
        ]
    names = {violation.name for violation in violations}
    return Report(
        configurations=sum(len(space.steps) for space in spaces),
        transitions=sum(space.transitions for space in spaces),
        properties=tuple(Verdict(each.name, each.statement, each.name not in names) for each in PROPERTIES),
        violations=tuple(violations),
        explorations=tuple(Explored(space.scope, len(space.steps), space.transitions) for space in spaces),
    )
