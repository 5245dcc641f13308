"""Every chart that differs from a given one by one edit of one edge."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from statesync.lifecycle import BrokenChart, Chart, Edge


@frozen
class Mutant:
    """One edit; ``chart`` is None where ``Chart`` itself refuses what comes out of it."""

    edit: str
    chart: Chart | None


def mutants_of(chart: Chart) -> Iterator[Mutant]:
    """Yield a mutant for every edge dropped, every source or target moved, every guard dropped."""
    for number, edge in enumerate(chart.edges):
        for edit, edges in _edits(chart, edge):
            changed = (*chart.edges[:number], *edges, *chart.edges[number + 1 :])
            yield Mutant(f"{chart.name}: {edge}: {edit}", _made(chart, changed))


def _edits(chart: Chart, edge: Edge) -> Iterator[tuple[str, tuple[Edge, ...]]]:
    yield "dropped", ()
    for phase in chart.phases:
        if phase is not edge.source:
            yield f"source moved to {phase}", (evolve(edge, source=phase),)
        if phase is not edge.target:
            yield f"target moved to {phase}", (evolve(edge, target=phase),)
    for guard in edge.guards:
        kept = tuple(other for other in edge.guards if other is not guard)
        yield f"guard {guard.name} dropped", (evolve(edge, guards=kept),)


def _made(chart: Chart, edges: tuple[Edge, ...]) -> Chart | None:
    try:
        return evolve(chart, edges=edges)
    except BrokenChart:
        return None
