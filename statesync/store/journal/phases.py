"""The phases in which a chart has not ended, as a part of a statement."""

from __future__ import annotations

from statesync.lifecycle import Chart, Phase

_AS_INDEXED = (Phase.DONE, Phase.CANCELLED, Phase.FAILED)
"""The order in which the partial index of running sessions names the final phases."""


def has_not_ended(chart: Chart) -> str:
    """Return the condition that the column ``phase`` is none of the chart's final phases.

    SQLite uses a partial index only for the very condition that it was made with, order included.
    """
    order = (*_AS_INDEXED, *chart.phases)
    finals = [f"'{phase}'" for phase in sorted(chart.finals, key=order.index)]
    return f"phase NOT IN ({', '.join(finals)})"
