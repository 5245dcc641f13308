"""Pictures that a notebook shows by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from statesync.classes import frozen
from statesync.diagram.drawing import NO_MARKS, Marks
from statesync.diagram.formats import DiagramsMissing, mermaid, svg
from statesync.diagram.history import taken
from statesync.lifecycle import SESSION, Chart
from statesync.values import JournalEntry, SessionInfo


@frozen
class Shown:
    """A chart that a notebook shows as SVG, or as mermaid text where the extra is not installed."""

    chart: Chart
    marks: Marks = NO_MARKS

    def _repr_svg_(self) -> str | None:
        """Return the picture; None, with which notebooks look on, where it cannot be drawn."""
        try:
            return svg(self.chart, self.marks)
        except DiagramsMissing:
            return None

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self}```\n"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        image = self._repr_svg_()
        words = {"text/plain": str(self)}
        return (
            {"image/svg+xml": image} | words if image else {"text/markdown": self._repr_markdown_()} | words
        )

    def __str__(self) -> str:
        return mermaid(self.chart, self.marks)


class HasChart(Protocol):
    """What runs a chart of its own, as a keeper does: ``AutoSync``."""

    @property
    def chart(self) -> Chart:
        """The chart that it runs."""


def show(chart: Chart | HasChart = SESSION, marks: Marks = NO_MARKS) -> Shown:
    """Return ``chart``, or that of a keeper, as something that a notebook shows; ``str()`` is mermaid."""
    return Shown(chart if isinstance(chart, Chart) else chart.chart, marks)


def show_session(journal: Sequence[JournalEntry], session: SessionInfo) -> Shown:
    """Return the way that a recorded session took as something that a notebook shows."""
    return Shown(SESSION, taken(journal, session))
