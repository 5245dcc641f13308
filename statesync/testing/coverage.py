"""Which parts of the charts a test run has exercised: edges, pairs of edges, and what guards said.

``with watching() as coverage:`` counts every machine that runs meanwhile, of sessions and of keepers, in any
thread, and recovery too. A keeper's conditions count as one guard, whatever the program calls them, and its
chart is asked for only where a keeper ran. ``coverage.text()`` is the report, ``coverage.marks(SESSION)`` the
picture: give it to ``diagram.svg``. For a whole test run there is ``pytest --statesync-coverage``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from attrs import Factory, field

from statesync.classes import define, frozen
from statesync.diagram.drawing import Mark, Marks, Weight
from statesync.lifecycle import (
    BATCH,
    CHARTS,
    KEEPER,
    SESSION,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Edge,
    Facts,
    KeeperTrigger,
    Phase,
    chart_of,
    with_linked,
)
from statesync.machine import Commit, KeeperMachine, Move, SessionMachine
from statesync.verify.firing import NotTaken, Phases, take_one
from statesync.verify.keeping.explore import keeper_pairs
from statesync.verify.pairs import possible_pairs

Counts = dict[str, list[list[Any]]]
"""Counts by names: lists of names that end with how often."""


@frozen
class Outcome:
    """What one guard of one chart said."""

    chart: str
    guard: str
    held: bool

    def __str__(self) -> str:
        return f"{self.chart}: {self.guard} {'holds' if self.held else 'refuses'}"


@define(eq=False)
class ChartCoverage:
    """What was exercised, with counts. ``pairs`` are edges that one machine took right after each other."""

    edges: Counter[Edge] = field(factory=Counter)
    pairs: Counter[tuple[Edge, Edge]] = field(factory=Counter)
    outcomes: Counter[Outcome] = field(factory=Counter)
    _last: WeakKeyDictionary[SessionMachine | KeeperMachine, dict[str, Edge]] = field(
        factory=WeakKeyDictionary
    )
    _lock: threading.Lock = Factory(threading.Lock)

    def missing_edges(self, chart: Chart) -> list[Edge]:
        """Return the edges of ``chart`` that were never taken."""
        return [edge for edge in chart.edges if not self.edges[edge]]

    def missing_outcomes(self, chart: Chart) -> list[Outcome]:
        """Return what guards of ``chart`` never said: each has to hold once and to refuse once."""
        names = dict.fromkeys(guard.name for edge in chart.edges for guard in edge.guards)
        every = [Outcome(chart.name, name, held) for name in names for held in (True, False)]
        return [outcome for outcome in every if not self.outcomes[outcome]]

    @property
    def is_complete(self) -> bool:
        """Whether every edge was taken and every guard was seen to hold and to refuse."""
        return not any(self.missing_edges(chart) or self.missing_outcomes(chart) for chart in self.charts)

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The charts that are asked for: a program that has no keeper need not exercise one."""
        has_keeper = any(edge in KEEPER.edges for edge in self.edges)
        return CHARTS if has_keeper else (SESSION, BATCH)

    def missing_pairs(self, chart: Chart) -> list[tuple[Edge, Edge]]:
        """Return the pairs of edges of ``chart`` that can follow each other and never did."""
        order = {edge: number for number, edge in enumerate(chart.edges)}
        missing = [pair for pair in _possible_pairs() if pair[0] in order and not self.pairs[pair]]
        return sorted(missing, key=lambda pair: (order[pair[0]], order[pair[1]]))

    def marks(self, chart: Chart) -> Marks:
        """Return the marks of the picture: how often each edge was taken, and alarm where never."""
        return Marks(
            edges={
                edge: Mark(f"taken {count} times" if count > 1 else "taken once", Weight.STRONG)
                if (count := self.edges[edge])
                else Mark("never taken", Weight.ALARM)
                for edge in chart.edges
            },
            caption=(self._line(chart),),
        )

    def text(self) -> str:
        """Return the report as lines for people."""
        lines: list[str] = []
        for chart in self.charts:
            lines.append(self._line(chart))
            lines += [f"  never taken: {edge}" for edge in self.missing_edges(chart)]
            lines += [
                f"  never one after the other: {_place(chart, one)}, {_place(chart, other)}"
                for one, other in self.missing_pairs(chart)
            ]
            lines += [f"  never seen: {outcome}" for outcome in self.missing_outcomes(chart)]
        return "\n".join(lines)

    def _line(self, chart: Chart) -> str:
        taken = len(chart.edges) - len(self.missing_edges(chart))
        pairs = sum(one in chart.edges for one, _ in _possible_pairs())
        followed = pairs - len(self.missing_pairs(chart))
        said = sum(outcome.chart == chart.name for outcome in self.outcomes)
        guards = len({guard.name for edge in chart.edges for guard in edge.guards})
        return (
            f"{chart.name} chart: {taken} of {len(chart.edges)} edges, {followed} of {pairs} pairs of "
            f"edges, {said} of {2 * guards} guard outcomes"
        )

    def counts(self) -> Counts:
        """Return the counts by names alone, so that they can go to another process as JSON does."""
        with self._lock:
            return {
                "edges": [[*_names(edge), count] for edge, count in self.edges.items()],
                "pairs": [
                    [*_names(one), *_names(other), count] for (one, other), count in self.pairs.items()
                ],
                "outcomes": [[each.chart, each.guard, each.held, n] for each, n in self.outcomes.items()],
            }

    def add(self, counts: Counts) -> None:
        """Add what another process has counted of the same charts."""
        edges = {_names(edge): edge for chart in CHARTS for edge in chart.edges}
        with self._lock:
            for *names, count in counts["edges"]:
                self.edges[edges[tuple(names)]] += count
            for *names, count in counts["pairs"]:
                self.pairs[edges[tuple(names[:4])], edges[tuple(names[4:])]] += count
            for chart, guard, held, count in counts["outcomes"]:
                self.outcomes[Outcome(chart, guard, held)] += count

    def note_moves(self, machine: SessionMachine | KeeperMachine, moves: tuple[Move, ...]) -> None:
        """Count what ``machine`` took."""
        with self._lock:
            before = self._last.setdefault(machine, {})
            for move in moves:
                edge = _edge(move)
                if edge is None:  # a machine that runs changed charts
                    continue
                last = before.get(move.chart)
                self.edges[edge] += 1
                if last is not None and last.target is edge.source:
                    self.pairs[last, edge] += 1
                before[move.chart] = edge

    def note_guards(self, chart: Chart, edge: Edge, facts: Facts) -> None:
        """Count what the guards of ``edge`` said, up to the first that refused."""
        with self._lock:
            for guard in edge.guards:
                held = guard.holds(facts)
                self.outcomes[Outcome(chart.name, guard.name, held)] += 1
                if not held:
                    return


def _place(chart: Chart, edge: Edge) -> str:
    """Return an edge in few words, with where it leads only where that is not clear."""
    several = len(chart.edges_of(edge.source, edge.trigger)) > 1
    return f"{edge.trigger} ({edge.source}" + (f" to {edge.target})" if several else ")")


def _possible_pairs() -> frozenset[tuple[Edge, Edge]]:
    return possible_pairs() | keeper_pairs()


def _names(edge: Edge) -> tuple[str, ...]:
    """Return what tells an edge from all others, by names."""
    return chart_of(edge.trigger).name, str(edge.source), str(edge.trigger), str(edge.target)


def _edge(move: Move) -> Edge | None:
    edges = chart_of(move.trigger).edges_of(move.source, move.trigger)
    return next((edge for edge in edges if edge.target is move.target), None)


def _asked(
    phase: Phase, batch: BatchPhase | None, triggers: tuple[AnyTrigger, ...], facts: Facts
) -> Iterator[tuple[Chart, Edge, Facts]]:
    """Yield the edges whose guards are asked when ``triggers`` are fired together, with what they know."""
    now = Phases(phase, batch)
    for trigger in with_linked(triggers):
        chart = chart_of(trigger)
        here = now.batch if isinstance(trigger, BatchTrigger) else now.phase
        known = facts.at(now.batch, cancelling=now.phase is Phase.CANCELLING)
        if here is not None:
            yield from ((chart, edge, known) for edge in chart.edges_of(here, trigger))
        try:
            now, _ = take_one(now, trigger, facts)
        except NotTaken:
            return


@contextmanager
def watching() -> Iterator[ChartCoverage]:
    """Count what every machine does inside the block."""
    coverage = ChartCoverage()
    with _watching_sessions(coverage), _watching_keepers(coverage):
        yield coverage


@contextmanager
def _watching_sessions(coverage: ChartCoverage) -> Iterator[None]:
    fire = SessionMachine.fire

    def watched(
        self: SessionMachine, *triggers: AnyTrigger, facts: Facts, commit: Commit
    ) -> tuple[Move, ...]:
        for chart, edge, known in _asked(self.phase, self.batch, triggers, facts):
            coverage.note_guards(chart, edge, known)
        moves = fire(self, *triggers, facts=facts, commit=commit)
        coverage.note_moves(self, moves)
        return moves

    SessionMachine.fire = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        SessionMachine.fire = fire  # type: ignore[method-assign]


@contextmanager
def _watching_keepers(coverage: ChartCoverage) -> Iterator[None]:
    fire = KeeperMachine.fire

    def watched(self: KeeperMachine, trigger: KeeperTrigger, *, facts: Facts) -> Move:
        chart = chart_of(trigger)
        for edge in chart.edges_of(self.phase, trigger):
            coverage.note_guards(chart, edge, facts)
        move = fire(self, trigger, facts=facts)
        coverage.note_moves(self, (move,))
        return move

    KeeperMachine.fire = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        KeeperMachine.fire = fire  # type: ignore[method-assign]
