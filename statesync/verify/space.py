"""A space that is explored breadth first, remembering the shortest way to every configuration."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Generic, TypeVar

from attrs import frozen

C = TypeVar("C")
"""A configuration: two equal ones have the same future."""
S = TypeVar("S", bound=Any)
"""A step: it has a ``source`` and a ``target``, and its text says what it is."""


@frozen
class Way(Generic[C, S]):
    """Ss that follow each other, from ``start``, where all begins."""

    start: C
    steps: tuple[S, ...]


@frozen
class Space(Generic[C, S]):
    """All that was explored: ``steps`` out of every configuration, in the order of their discovery.

    ``reached_by`` holds the step that discovered a configuration; following it back gives a shortest way.
    """

    scope: StrEnum
    steps: dict[C, tuple[S, ...]]
    reached_by: dict[C, S]

    @property
    def transitions(self) -> int:
        """How many steps lead from one configuration to another or to itself."""
        return sum(len(steps) for steps in self.steps.values())

    def way_to(self, configuration: C, *last: S) -> Way[C, S]:
        """Return a shortest way from where all begins to ``configuration``, and then ``last``."""
        path = [*reversed(last)]
        while step := self.reached_by.get(configuration):
            path.append(step)
            configuration = step.source
        return Way(configuration, tuple(reversed(path)))

    def that_can_reach(self, goal: Callable[[S], bool], *, using: Callable[[S], bool]) -> set[C]:
        """Return the configurations from which steps ``using`` holds for lead to a ``goal`` step."""
        backward: dict[C, list[C]] = {}
        frontier: list[C] = []
        for source, steps in self.steps.items():
            for step in steps:
                if using(step):
                    backward.setdefault(step.target, []).append(source)
                    if goal(step):
                        frontier.append(source)
        found = set(frontier)
        while frontier:
            new = [source for source in backward.get(frontier.pop(), ()) if source not in found]
            found.update(new)
            frontier += new
        return found


def walk(scope: StrEnum, first: Iterable[C], steps_of: Callable[[C], Iterable[S]]) -> Space[C, S]:
    """Visit every configuration that steps lead to from the ``first`` ones."""
    steps: dict[C, tuple[S, ...]] = {}
    reached_by: dict[C, S] = {}
    frontier = deque(first)
    seen = set(frontier)
    while frontier:
        now = frontier.popleft()
        steps[now] = tuple(dict.fromkeys(steps_of(now)))
        for step in steps[now]:
            if step.target not in seen:
                seen.add(step.target)
                reached_by[step.target] = step
                frontier.append(step.target)
    return Space(scope, steps, reached_by)
