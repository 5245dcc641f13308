"""What charts are made of: guards, edges, and the chart itself, which checks its rules when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
from attrs import field

from statesync.classes import frozen
from statesync.lifecycle.facts import Facts
from statesync.lifecycle.rules import broken_rules
from statesync.lifecycle.words import AnyPhase, AnyTrigger


@frozen
class Guard:
    """A named predicate over the facts; an edge is taken only if all of its guards hold.

    ``meaning`` completes the sentence "it requires that …".
    """

    name: str
    meaning: str
    holds: Callable[[Facts], bool] = field(repr=False, eq=False)


@frozen
class Edge:
    """``trigger`` leads from ``source`` to ``target`` if every guard holds."""

    trigger: AnyTrigger
    source: AnyPhase
    target: AnyPhase
    guards: tuple[Guard, ...] = ()

    def refused_by(self, facts: Facts) -> Guard | None:
        """Return the first guard that does not hold, or None if the edge may be taken."""
        return next((guard for guard in self.guards if not guard.holds(facts)), None)

    @property
    def occasion(self) -> tuple[AnyPhase, AnyTrigger, frozenset[str]]:
        """When it may be taken. Two edges of one occasion would leave what happens to their order."""
        return self.source, self.trigger, frozenset(guard.name for guard in self.guards)

    def __str__(self) -> str:
        guards = " and ".join(guard.name for guard in self.guards)
        return f"{self.trigger}: {self.source} -> {self.target}" + (f" if {guards}" if guards else "")


class BrokenChart(Exception):
    """A chart breaks one of the four rules (``statesync.lifecycle.rules``)."""


@attrs.frozen(cache_hash=True)  # it is looked up by each session
class Chart:
    """One lifecycle as data: its phases are those that its edges name.

    Making a chart checks the four rules (``statesync.lifecycle.rules``) and raises ``BrokenChart`` if one
    does not hold.
    """

    name: str
    initial: AnyPhase
    finals: frozenset[AnyPhase]
    edges: tuple[Edge, ...]

    def __attrs_post_init__(self) -> None:
        """Check the rules."""
        for broken in broken_rules(self.phases, self.initial, self.finals, self.edges):
            raise BrokenChart(f"{self.name}: {broken}")

    @property
    def phases(self) -> tuple[AnyPhase, ...]:
        """Every phase, in the order of its definition."""
        return tuple(type(self.initial))

    @property
    def triggers(self) -> tuple[AnyTrigger, ...]:
        """Every trigger that an edge names, in the order of its definition."""
        return tuple(dict.fromkeys(edge.trigger for edge in self.edges))

    def edges_of(self, phase: AnyPhase, trigger: AnyTrigger) -> tuple[Edge, ...]:
        """Return the edges that ``trigger`` may take in ``phase``; none means that it is illegal."""
        return tuple(edge for edge in self.edges if edge.source is phase and edge.trigger is trigger)

    def legal(self, phase: AnyPhase) -> tuple[AnyTrigger, ...]:
        """Return the triggers that have an edge out of ``phase``, whatever the guards say."""
        return tuple(dict.fromkeys(edge.trigger for edge in self.edges if edge.source is phase))

    def is_final(self, phase: AnyPhase) -> bool:
        """Tell whether ``phase`` is an end."""
        return phase in self.finals


def edges(
    trigger: AnyTrigger, sources: Iterable[AnyPhase], target: AnyPhase | None, *guards: Guard
) -> tuple[Edge, ...]:
    """Return an edge from each source; a target of None stays where it is."""
    return tuple(Edge(trigger, source, target or source, guards) for source in sources)
