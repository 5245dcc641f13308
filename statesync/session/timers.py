"""What a session waits for besides its letters: its deadline, a cancel's grace, a back-off, a head start."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from enum import Enum

from attrs import evolve, field

from statesync.classes import define
from statesync.protocol.messages import BackoffOver, CancelRequested, Event, GraceOver, HeadStartOver
from statesync.values import Reason

BACKOFF_CAP = 30.0
"""Seconds that one back-off takes at most, unless the hub asks for more."""

HEAD_START = 0.003
"""Seconds in which an upload's request is left alone to be sent."""

LONGEST_WAIT = 300.0
"""Seconds of a Retry-After that a session heeds at most, whatever the hub asks for."""


class Timer(Enum):
    """What can be waited for; what stands first goes first where several are over."""

    SESSION = CancelRequested(Reason.DEADLINE)
    GRACE = GraceOver()
    BACKOFF = BackoffOver()
    HEAD_START = HeadStartOver()


@define(eq=False)
class Timers:
    """When what is waited for is over, by a monotonic ``clock``.

    ``grace`` is what the batch in flight gets when the session's own time is over.
    """

    clock: Callable[[], float] = time.monotonic
    grace: float | None = None
    _ends: dict[Timer, float] = field(init=False, factory=dict)

    def start(self, timer: Timer, seconds: float) -> None:
        """Wait for ``timer``: these seconds from now, whatever was said before."""
        self._ends[timer] = self.clock() + seconds

    def shorten(self, timer: Timer, seconds: float) -> None:
        """Wait for ``timer`` these seconds from now at most; an earlier end stays."""
        end = self.clock() + seconds
        self._ends[timer] = min(end, self._ends.get(timer, end))

    def seconds_left(self) -> float | None:
        """Return the seconds until the first is over; None: nothing is waited for."""
        return max(0.0, min(self._ends.values()) - self.clock()) if self._ends else None

    def is_due(self, timer: Timer) -> bool:
        """Tell whether ``timer`` is waited for, and over."""
        return timer in self._ends and self.clock() >= self._ends[timer]

    def take_due(self) -> Event | None:
        """Return the event of one that is over, which is not waited for any more; None if none is."""
        for timer in Timer:
            if self.is_due(timer):
                del self._ends[timer]
                event: Event = timer.value
                return evolve(event, grace=self.grace) if isinstance(event, CancelRequested) else event
        return None


def backoff(attempt: int, at_least: float | None) -> float:
    """Return the seconds to wait before ``attempt`` (2 is the first retry): exponential, full jitter.

    They follow the ``at_least`` that the hub asks for: it tells all that it turns away the same, and they
    would come back together.
    """
    delay = random.uniform(0.0, min(BACKOFF_CAP, 0.25 * 2.0**attempt))  # noqa: S311 - jitter is no secret
    return min(at_least or 0.0, LONGEST_WAIT) + delay
