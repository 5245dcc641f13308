"""The way that a recorded session took, as marks on a chart."""

from __future__ import annotations

from collections.abc import Sequence

from statesync.diagram.drawing import Mark, Marks, Weight
from statesync.lifecycle import SESSION, AnyPhase, Chart, Edge, Phase, Trigger
from statesync.values import JournalEntry, SessionInfo

_FEW = 4
_NOT_TAKEN = Mark(weight=Weight.FAINT)


def taken(journal: Sequence[JournalEntry], session: SessionInfo, chart: Chart = SESSION) -> Marks:
    """Return the marks of the way that ``session`` took through ``chart``.

    The edges that it took are numbered in their order, with how often and when (seconds since the session
    was made); the rest is faint. Where and why it failed or was cancelled stands on its last phase.
    """
    steps = [entry for entry in journal if entry.chart == chart.name]
    by_edge: dict[Edge, list[tuple[int, JournalEntry]]] = {}
    for number, entry in enumerate(steps, start=1):
        by_edge.setdefault(_edge(chart, entry), []).append((number, entry))
    last = steps[-1] if steps and chart is SESSION else None
    ended_badly = last is not None and session.phase in (Phase.FAILED, Phase.CANCELLED)
    return Marks(
        edges={
            edge: Mark(_when(took), Weight.ALARM if ended_badly and took[-1][1] is last else Weight.STRONG)
            for edge, took in by_edge.items()
        },
        phases=_visited(chart, steps) | (_end(journal, session) if chart is SESSION else {}),
        otherwise=_NOT_TAKEN,
        caption=_caption(session),
    )


def _edge(chart: Chart, entry: JournalEntry) -> Edge:
    return next(edge for edge in chart.edges_of(entry.source, entry.trigger) if edge.target is entry.target)


def _when(took: list[tuple[int, JournalEntry]]) -> str:
    numbers = [f"{number}." for number, _ in took]
    if len(numbers) > _FEW:
        numbers = [*numbers[: _FEW - 1], "…", numbers[-1]]
    first, last = took[0][1].elapsed, took[-1][1].elapsed
    if len(took) == 1:
        return f"{numbers[0]} at {first:.2f} s"
    return f"{' '.join(numbers)} ({len(took)} times, {first:.2f} to {last:.2f} s)"


def _visited(chart: Chart, steps: Sequence[JournalEntry]) -> dict[AnyPhase, Mark]:
    phases = [chart.initial, *(entry.target for entry in steps)]
    return {phase: Mark() for phase in dict.fromkeys(phases)}


def _end(journal: Sequence[JournalEntry], session: SessionInfo) -> dict[AnyPhase, Mark]:
    """Return the note on the phase that the session ended in: where it was, and why (K11)."""
    if session.phase not in (Phase.FAILED, Phase.CANCELLED):
        return {}
    words = [f"why: {session.reason or 'not recorded'}"]
    if session.error:
        words.append(session.error)
    turn = next((each for each in journal if each.trigger in (Trigger.CANCEL, Trigger.FAIL)), None)
    if turn is not None:
        words.append(f"where: {turn.source}, at {turn.elapsed:.2f} s{_open_then(journal, turn)}")
    return {session.phase: Mark("; ".join(words), Weight.ALARM)}


def _open_then(journal: Sequence[JournalEntry], turn: JournalEntry) -> str:
    """Return in words which batch was open when the session turned from its way, or was dropped for it."""
    begun = [each for each in journal if each.trigger is Trigger.OPEN_BATCH and each.number < turn.number]
    if not begun:
        return ""
    number = begun[-1].batch
    ended = [each for each in journal if each.batch == number and each.trigger in _ENDS]
    if ended and ended[0].trigger is Trigger.COMMIT_BATCH and ended[0].number < turn.number:
        return f", after batch {number}"
    return f", in batch {number}"


_ENDS = (Trigger.COMMIT_BATCH, Trigger.ABORT_BATCH)


def _caption(session: SessionInfo) -> tuple[str, ...]:
    stats, count = session.stats, len(session.batches)
    return (
        f"session {session.id} of {session.started:%Y-%m-%d %H:%M:%S} UTC: {session.phase} "
        f"after {stats.elapsed:.2f} s",
        f"{', '.join(session.objects)} in space {session.space}: {stats.uploaded} records up, "
        f"{stats.downloaded} down, in {count} {'batch' if count == 1 else 'batches'}",
    )
