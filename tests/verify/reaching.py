"""Every world that an exploration meets: tests look for those that they are about."""

from __future__ import annotations

from collections.abc import Iterable

from statesync.verify.system import steps
from statesync.verify.system.world import World


def reached(beginnings: Iterable[World]) -> set[World]:
    """Return every world that an exploration meets."""
    frontier = [*beginnings]
    seen = set(frontier)
    while frontier:
        new = {step.target for step in steps.steps(frontier.pop())} - seen
        seen |= new
        frontier += new
    return seen
