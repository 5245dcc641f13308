"""How often a session's progress is told to whoever hears it: ten times a second, and what moves at once.

A fast session has hundreds of steps a second, and whoever draws them does so in the session's own thread.
"""

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
        self._kept: Progress | None = None

    def due(self, event: Progress) -> tuple[Progress, ...]:
        """Return what is told now that ``event`` has come: nothing, or it.

        Before what changes more than figures comes the last step that was kept: it has the last figures of
        the part that is over.
        """
        now, is_news = self._clock(), self._is_news(event)
        if not is_news and now - self._told_at < LEAST_SECONDS:
            self._kept = event
            return ()
        kept, self._kept = self._kept, None
        self._told_at, self._told = now, event
        return (kept, event) if is_news and kept is not None else (event,)

    def _is_news(self, event: Progress) -> bool:
        told = self._told
        if told is None or event.part is Part.SYNC or event.state is State.WAITING:
            return True
        return event.part is not told.part or told.state is State.WAITING
