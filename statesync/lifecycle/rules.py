"""The rules that every chart obeys, whatever its phases mean.

* Rule 1. One initial phase; every phase can be reached from it.
* Rule 2. From every phase a final phase can be reached.
* Rule 3. No edge leaves a final phase.
* Rule 4. No two edges for one (phase, trigger, guards): what happens is never a matter of order.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Protocol


class Way(Protocol):
    """What the rules ask of an edge."""

    @property
    def source(self) -> StrEnum:
        """The phase that it leaves."""

    @property
    def target(self) -> StrEnum:
        """The phase that it leads to."""

    @property
    def occasion(self) -> Hashable:
        """Its phase, its trigger and its guards, in whatever order these stand."""


def broken_rules(
    phases: Iterable[StrEnum], initial: StrEnum, finals: Collection[StrEnum], ways: Collection[Way]
) -> Iterator[str]:
    """Say how a chart breaks the rules; nothing comes of a sound one."""
    yield from _leaving_an_end(initial, finals, ways)
    yield from _out_of_reach(phases, initial, ways)
    yield from _without_a_way_out(phases, finals, ways)
    yield from _ambiguous(ways)


def _leaving_an_end(initial: StrEnum, finals: Collection[StrEnum], ways: Iterable[Way]) -> Iterator[str]:
    for way in ways:
        if way.source in finals:
            yield f"{way} leaves a final phase"
    if not finals or initial in finals:
        yield "the initial phase must not be final, and a final one is needed"


def _out_of_reach(phases: Iterable[StrEnum], initial: StrEnum, ways: Iterable[Way]) -> Iterator[str]:
    forward: dict[StrEnum, set[StrEnum]] = {}
    for way in ways:
        forward.setdefault(way.source, set()).add(way.target)
    reached = _reach(initial, forward)
    for phase in phases:
        if phase not in reached:
            yield f"{phase} cannot be reached from {initial}"


def _without_a_way_out(
    phases: Iterable[StrEnum], finals: Iterable[StrEnum], ways: Iterable[Way]
) -> Iterator[str]:
    backward: dict[StrEnum, set[StrEnum]] = {}
    for way in ways:
        backward.setdefault(way.target, set()).add(way.source)
    can_end: set[StrEnum] = set().union(*(_reach(final, backward) for final in finals))
    for phase in phases:
        if phase not in can_end:
            yield f"no way leads from {phase} to a final phase"


def _ambiguous(ways: Iterable[Way]) -> Iterator[str]:
    seen: set[Hashable] = set()
    for way in ways:
        if way.occasion in seen:
            yield f"{way} stands twice"
        seen.add(way.occasion)


def _reach(start: StrEnum, steps: Mapping[StrEnum, set[StrEnum]]) -> set[StrEnum]:
    seen, frontier = {start}, [start]
    while frontier:
        new = steps.get(frontier.pop(), set()) - seen
        seen |= new
        frontier += new
    return seen
