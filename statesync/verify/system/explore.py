"""Every interleaving of a modelled world, each world visited once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from attrs import evolve, frozen

from statesync.verify.system import promises
from statesync.verify.system.driver import Step, begin
from statesync.verify.system.hub import push
from statesync.verify.system.steps import steps
from statesync.verify.system.store import edit, next_upload
from statesync.verify.system.world import Budget, Device, Hub, Record, World

POLICIES = ("client_wins", "server_wins")


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
class SystemReport:
    """What the exploration of the system saw. ``runs`` counts the ways from the beginning to an end."""

    states: int
    transitions: int
    runs: int
    properties: tuple[tuple[str, bool], ...]
    violations: tuple[SystemViolation, ...]

    @property
    def holds(self) -> bool:
        """Whether every promise holds."""
        return not self.violations

    def text(self) -> str:
        """Return the report as lines for people."""
        seen = f"{self.runs} runs through {self.states} states and {self.transitions} transitions"
        verdicts = [f"{'holds ' if holds else 'BROKEN'}  {statement}" for statement, holds in self.properties]
        return "\n".join([seen, "", *verdicts, *("\n" + each.text() for each in self.violations)])


def first_worlds(policy: str, budget: Budget) -> tuple[World, ...]:
    """Return the worlds that runs begin in: two devices and a hub with three records.

    Device a has edited x and y; device b has edited y and z, and the hub has that already. So two upload
    batches and up to two pages lie before a, and y is in conflict. In the second and the third world x is in
    doubt from an earlier session; in the third the hub has applied it.
    """
    records = [("x", 1, "x", "seed"), ("y", 4, "y of b", "b"), ("z", 5, "z of b", "b")]
    hub = Hub(
        head=5,
        records=tuple(Record(*record) for record in records),
        history=(("y", "y of b", "b"), ("z", "z of b", "b")),
    )
    before = (("x", "x"), ("y", "y"), ("z", "z"))
    a = edit(edit(Device("a", before, cursor=3), "x", "x of a"), "y", "y of a")
    b = Device("b", (("x", "x"), ("y", "y of b"), ("z", "z of b")), cursor=5)
    clean = World(hub, (a, b), policy, stage=0, budget=budget, talk=None)
    upload = next_upload(a, looked_through=0, horizon=a.positions)
    if upload is None:
        raise ValueError("there is nothing to be in doubt of")
    unsure = evolve(a, upload=upload, in_doubt=True, batches_made=1)
    unheard = evolve(clean, devices=(unsure, b))
    return begin(clean), begin(unheard), begin(evolve(unheard, hub=push(hub, upload)[0]))


def check_system(budget: Budget | None = None, policies: Iterable[str] = POLICIES) -> SystemReport:
    """Run the real conversation through every interleaving within ``budget``, and judge the promises.

    ``budget`` says how many accidents of each kind may happen, at every point where they can; by default
    one cancel, one crash, one lost request, one lost answer and one edit. See ``first_worlds`` for where the
    runs begin; each policy has worlds of its own.
    """
    worlds = [world for policy in policies for world in first_worlds(policy, budget or Budget())]
    explored = [_Explored(world) for world in worlds]
    broken: dict[str, SystemViolation] = {}
    for each in explored:
        for violation in each.violations:
            broken.setdefault(violation.statement, violation)
    return SystemReport(
        states=sum(len(each.reached_by) for each in explored),
        transitions=sum(each.transitions for each in explored),
        runs=sum(each.runs() for each in explored),
        properties=tuple((statement, statement not in broken) for statement in promises.STATEMENTS),
        violations=tuple(broken[statement] for statement in promises.STATEMENTS if statement in broken),
    )


class _Explored:
    """All worlds that the first one can become, breadth first."""

    def __init__(self, first: World) -> None:
        self._first = first
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
        return [SystemViolation(name, self._first.policy, way) for name, way in self._broken.items()]

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
        number = self._numbers.get(step.target)
        if number is None:
            number = self._numbers[step.target] = len(self._numbers)
            self.reached_by.append((source, step.words))
            self._worlds.append(step.target)
        return number

    def _way(self, number: int) -> tuple[str, ...]:
        way: list[str] = []
        while number:
            number, words = self.reached_by[number]
            way.append(words)
        return tuple(reversed(way))
