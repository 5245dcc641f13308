"""How often progress is told to what draws it: people see no more than some steps a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from statesync.values import Part, Progress, State

LEAST_SECONDS = 0.1
"""Seconds between two steps that are told, where nothing but figures has changed."""


class Pace:
    """Says which steps of one session are told: those that change more than figures, and ten a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at = float("-inf")
        self._told: Progress | None = None

    def admits(self, event: Progress) -> bool:
        """Tell whether a step is told; the figures of one that is not come with the next one."""
        now = self._clock()
        if not self._is_news(event) and now - self._told_at < LEAST_SECONDS:
            return False
        self._told_at, self._told = now, event
        return True

    def _is_news(self, event: Progress) -> bool:
        told = self._told
        if told is None or event.part is Part.SYNC or event.state is State.WAITING:
            return True
        return event.part is not told.part or told.state is State.WAITING


def paced(callback: Callable[[Progress], object]) -> Callable[[Progress], None]:
    """Return an ``on_progress`` that calls ``callback`` ten times a second at most, for what draws.

    What changes more than figures is always told: each phase, each failure, the end. Also for several
    sessions, one after the other.
    """
    pace = Pace()

    def tell(event: Progress) -> None:
        if pace.admits(event):
            callback(event)

    return tell
