"""Running both sides of a comparison in fresh processes, by turns, and taking medians."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from attrs import field, frozen

Figures = dict[str, float]

_PACKAGE = __name__.rpartition(".")[0]
ROOT = Path(__file__).parents[_PACKAGE.count(".") + 1]
"""The folder that the package is imported from: the benchmark's processes run in it."""


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in a process of its own."""
    return [sys.executable, "-m", f"{_PACKAGE}.{name}", *arguments]


@frozen
class Result:
    """One row of the report.

    ``ours`` and ``limit`` are in ``unit``; ``ratio`` is what the target ``reach`` is about: ours over the
    limit, unless the row says otherwise. ``details`` are further figures, ``series`` what a plot shows.
    """

    workload: str
    what: str
    ours: float
    limit: float | None
    unit: str
    ratio: float
    reach: float
    details: dict[str, float] = field(factory=dict)
    series: dict[str, list[float]] = field(factory=dict)
    more_is_better: bool = False

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return self.ratio >= self.reach if self.more_is_better else self.ratio <= self.reach


def run(target: str, **arguments: object) -> Figures:
    """Run ``module:function`` of ``sides`` in a fresh process and return its figures."""
    return run_raw(target, **arguments)


def run_raw(target: str, **arguments: object) -> dict[str, Any]:
    """Run ``module:function`` of ``sides`` in a fresh process and return what it found."""
    done = subprocess.run(
        module("child", target, json.dumps(arguments)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=900,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


Side = Callable[[int], Figures]
"""Measures one side once; gets the number of the run."""


def by_turns(repeat: int, ours: Side, limit: Side) -> tuple[Figures, Figures]:
    """Measure both sides ``repeat`` times, each going first every other time; return their medians."""
    mine: list[Figures] = []
    theirs: list[Figures] = []
    for number in range(repeat):
        pair = [(mine, ours), (theirs, limit)]
        for kept, side in pair if number % 2 else reversed(pair):
            kept.append(side(number))
    return middle(mine), middle(theirs)


def all_by_turns(repeat: int, sides: Sequence[Callable[[], Figures]]) -> list[Figures]:
    """Measure several sides ``repeat`` times, each time in the other direction; return their medians."""
    found: list[list[Figures]] = [[] for _ in sides]
    for number in range(repeat):
        pairs = list(zip(found, sides, strict=True))
        for kept, side in pairs if number % 2 else reversed(pairs):
            kept.append(side())
    return [middle(each) for each in found]


def middle(figures: list[Figures]) -> Figures:
    """Return the median of every figure."""
    return {name: median(one[name] for one in figures) for name in figures[0]}
