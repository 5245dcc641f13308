"""The four kinds of property, and how each finds the shortest way to what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Generic, Protocol

from attrs import frozen

from statesync.verify.space import C, S, Space, Way


class Property(Protocol[C, S]):
    """Something that must be so. ``scopes`` tells of which explorations it is judged."""

    @property
    def name(self) -> str:
        """A short name, for programs and for counterexamples."""

    @property
    def statement(self) -> str:
        """The property as a sentence."""

    @property
    def scopes(self) -> frozenset[StrEnum]:
        """The explorations that it is judged in."""

    def broken_by(self, space: Space[C, S]) -> Way[C, S] | None:
        """Return a shortest way to a violation, or None if the property holds in ``space``."""


@frozen
class Never(Generic[C, S]):
    """No configuration is like this."""

    name: str
    statement: str
    scopes: frozenset[StrEnum]
    bad: Callable[[C], bool]

    def broken_by(self, space: Space[C, S]) -> Way[C, S] | None:
        """See ``Property``."""
        found = next(filter(self.bad, space.steps), None)
        return None if found is None else space.way_to(found)


@frozen
class NeverStep(Generic[C, S]):
    """No step is like this."""

    name: str
    statement: str
    scopes: frozenset[StrEnum]
    bad: Callable[[S], bool]

    def broken_by(self, space: Space[C, S]) -> Way[C, S] | None:
        """See ``Property``."""
        every_step = (step for steps in space.steps.values() for step in steps)
        found = next(filter(self.bad, every_step), None)
        return None if found is None else space.way_to(found.source, found)


@frozen
class Possible(Generic[C, S]):
    """In every configuration where ``when`` holds, one step ``goal`` can be taken at once."""

    name: str
    statement: str
    scopes: frozenset[StrEnum]
    when: Callable[[C], bool]
    goal: Callable[[S], bool]

    def broken_by(self, space: Space[C, S]) -> Way[C, S] | None:
        """See ``Property``."""
        for now, steps in space.steps.items():
            if self.when(now) and not any(map(self.goal, steps)):
                return space.way_to(now)
        return None


@frozen
class Reachable(Generic[C, S]):
    """From every configuration where ``when`` holds, steps ``using`` lead to a step ``goal``."""

    name: str
    statement: str
    scopes: frozenset[StrEnum]
    when: Callable[[C], bool]
    goal: Callable[[S], bool]
    using: Callable[[S], bool]

    def broken_by(self, space: Space[C, S]) -> Way[C, S] | None:
        """See ``Property``."""
        fine = space.that_can_reach(self.goal, using=self.using)
        found = next((now for now in space.steps if self.when(now) and now not in fine), None)
        return None if found is None else space.way_to(found)
