"""The four kinds of property, and how each finds the shortest way to what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import frozen

from statesync.verify.configuration import Configuration
from statesync.verify.explore import Scope, Space, Way
from statesync.verify.moves import Step

SESSION_ALONE = frozenset({Scope.SESSION, Scope.PRODUCT})
BATCH_ALONE = frozenset({Scope.BATCH, Scope.PRODUCT})
EACH_ALONE = frozenset(Scope)
TOGETHER = frozenset({Scope.PRODUCT})


class Property(Protocol):
    """Something that must be so. ``scopes`` tells of which explorations it is judged."""

    @property
    def name(self) -> str:
        """A short name, for programs and for counterexamples."""

    @property
    def statement(self) -> str:
        """The property as a sentence."""

    @property
    def scopes(self) -> frozenset[Scope]:
        """The explorations that it is judged in."""

    def broken_by(self, space: Space) -> Way | None:
        """Return a shortest way to a violation, or None if the property holds in ``space``."""


@frozen
class Never:
    """No configuration is like this."""

    name: str
    statement: str
    scopes: frozenset[Scope]
    bad: Callable[[Configuration], bool]

    def broken_by(self, space: Space) -> Way | None:
        """See ``Property``."""
        found = next(filter(self.bad, space.steps), None)
        return None if found is None else space.way_to(found)


@frozen
class NeverStep:
    """No step is like this."""

    name: str
    statement: str
    scopes: frozenset[Scope]
    bad: Callable[[Step], bool]

    def broken_by(self, space: Space) -> Way | None:
        """See ``Property``."""
        every_step = (step for steps in space.steps.values() for step in steps)
        found = next(filter(self.bad, every_step), None)
        return None if found is None else space.way_to(found.source, found)


@frozen
class Possible:
    """In every configuration where ``when`` holds, one step ``goal`` can be taken at once."""

    name: str
    statement: str
    scopes: frozenset[Scope]
    when: Callable[[Configuration], bool]
    goal: Callable[[Step], bool]

    def broken_by(self, space: Space) -> Way | None:
        """See ``Property``."""
        for now, steps in space.steps.items():
            if self.when(now) and not any(map(self.goal, steps)):
                return space.way_to(now)
        return None


@frozen
class Reachable:
    """From every configuration where ``when`` holds, steps ``using`` lead to a step ``goal``."""

    name: str
    statement: str
    scopes: frozenset[Scope]
    when: Callable[[Configuration], bool]
    goal: Callable[[Step], bool]
    using: Callable[[Step], bool]

    def broken_by(self, space: Space) -> Way | None:
        """See ``Property``."""
        fine = space.that_can_reach(self.goal, using=self.using)
        found = next((now for now in space.steps if self.when(now) and now not in fine), None)
        return None if found is None else space.way_to(found)
