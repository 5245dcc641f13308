"""Every interleaving of a modelled world, each world visited once."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from attrs import frozen

from statesync.verify.system import promises
from statesync.verify.system.scenarios import POLICIES, SCANS, SCENARIOS, Scenario
from statesync.verify.system.steps import steps
from statesync.verify.system.world import Step, World


@frozen
class SystemViolation:
    """A promise that is broken, and a shortest way there: what happened, in words."""

    statement: str
    policy: str
    way: tuple[str, ...]

    def text(self) -> str:
        """Return the counterexample, one numbered step a line."""
        lines = [f"{number:>4}. {words}" for number, words in enumerate(self.way, start=1)]
        return "\n".join([f"violated ({self.policy}): {self.statement}", *lines])


@frozen
class Explored:
    """How much was seen of one scenario. ``runs`` counts the ways from its beginnings to an end."""

    scenario: str
    states: int
    transitions: int
    runs: int

    def __str__(self) -> str:
        seen = f"{self.runs} runs through {self.states} states and {self.transitions} transitions"
        return f"{seen}: {self.scenario}"


@frozen
class SystemReport:
    """What the exploration of the system saw."""

    explored: tuple[Explored, ...]
    properties: tuple[tuple[str, bool], ...]
    violations: tuple[SystemViolation, ...]

    @property
    def holds(self) -> bool:
        """Whether every promise holds."""
        return not self.violations

    @property
    def runs(self) -> int:
        """How many ways lead from a beginning to an end, in all scenarios together."""
        return sum(part.runs for part in self.explored)

    def text(self) -> str:
        """Return the report as lines for people."""
        verdicts = [f"{'holds ' if holds else 'BROKEN'}  {statement}" for statement, holds in self.properties]
        found = ("\n" + each.text() for each in self.violations)
        return "\n".join([*map(str, self.explored), "", *verdicts, *found])


def check_system(times: int = 1) -> SystemReport:
    """Run the real conversation through every interleaving of every scenario, and judge the promises.

    Each scenario says which accidents may happen, at every point where they can; ``times`` multiplies how
    often.
    """
    return check_scenarios((*SCENARIOS, *SCANS), times=times)


def check_scenarios(
    scenarios: Iterable[Scenario], policies: Iterable[str] = POLICIES, times: int = 1
) -> SystemReport:
    """Do the same for some scenarios; each policy has worlds of its own."""
    broken: dict[str, SystemViolation] = {}
    explored: list[Explored] = []
    for scenario in scenarios:
        worlds = [(policy, world) for policy in policies for world in scenario.worlds(policy, times)]
        with _without_collector():
            parts = [_Exploration(policy, world) for policy, world in worlds]
        for part in parts:
            for violation in part.violations:
                broken.setdefault(violation.statement, violation)
        states = sum(len(part.reached_by) for part in parts)
        runs = sum(part.runs() for part in parts)
        explored.append(Explored(scenario.name, states, sum(part.transitions for part in parts), runs))
    return SystemReport(
        explored=tuple(explored),
        properties=tuple((statement, statement not in broken) for statement in promises.STATEMENTS),
        violations=tuple(broken[statement] for statement in promises.STATEMENTS if statement in broken),
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Spare Python the search for circles: worlds hold none, and it would look at all of them ever again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Exploration:
    """All worlds that the first one can become, breadth first."""

    def __init__(self, policy: str, first: World) -> None:
        self._policy = policy
        self._numbers = {first: 0}
        self._worlds = deque([first])
        self.reached_by: list[tuple[int, str]] = [(0, "")]
        self._next: list[list[int]] = []
        self._broken: dict[str, tuple[str, ...]] = {}
        self.transitions = 0
        while self._worlds:
            self._visit(self._worlds.popleft())

    @property
    def violations(self) -> list[SystemViolation]:
        """One violation of every promise that is broken, with a shortest way."""
        return [SystemViolation(name, self._policy, way) for name, way in self._broken.items()]

    def runs(self) -> int:
        """Return how many ways lead from the first world to one in which nothing happens any more."""
        ways = [0] * len(self._next)
        ways[0] = 1
        waits_for = [0] * len(self._next)
        for targets in self._next:
            for target in targets:
                waits_for[target] += 1
        ready, total = deque([0]), 0
        while ready:
            number = ready.popleft()
            total += 0 if self._next[number] else ways[number]
            for target in self._next[number]:
                ways[target] += ways[number]
                waits_for[target] -= 1
                if not waits_for[target]:
                    ready.append(target)
        return total

    def _visit(self, world: World) -> None:
        number, targets = len(self._next), []
        for step in steps(world):
            self.transitions += 1
            if step.broken is None:
                targets.append(self._found(number, step))
            else:
                self._broken.setdefault(step.broken, (*self._way(number), step.words))
        self._next.append(targets)
        wrong = promises.broken_at_last(world) if world.is_over else None
        if wrong is not None:
            self._broken.setdefault(wrong, self._way(number))

    def _found(self, source: int, step: Step) -> int:
        new = len(self._numbers)
        number = self._numbers.setdefault(step.target, new)  # a world's hash is much of what it costs
        if number == new:
            self.reached_by.append((source, step.words))
            self._worlds.append(step.target)
        return number

    def _way(self, number: int) -> tuple[str, ...]:
        way: list[str] = []
        while number:
            number, words = self.reached_by[number]
            way.append(words)
        return tuple(reversed(way))
