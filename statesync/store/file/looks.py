"""When a thread looks at a file for commits: at once after one of this process, else by a pause that grows.

Nobody tells of what other processes commit. Fifty looks a second, for as long as a program rests, cost a
hundredth of a core and wake a device up fifty times a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable

OFTEN = 0.02
"""Seconds between two looks where something has happened just now."""

SELDOM = 0.25
"""Seconds between two looks after a long rest."""

_SHARE = 16
"""A pause is this part of the time for which nothing has happened: what goes on is found soon."""


class Looks:
    """The rhythm of one thread's looks. ``wake`` ends its pause."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._wakes_from = float("-inf")
        self._stirred_at = time.monotonic()

    def commit(self) -> None:
        """Wake it for a commit of this process; those that follow soon are found by its next look.

        From any thread.
        """
        now = time.monotonic()
        if now >= self._wakes_from:
            self._wakes_from = now + OFTEN
            self._wake()

    def stir(self) -> None:
        """Take note that something has happened, of which more may follow."""
        self._stirred_at = time.monotonic()

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return max(OFTEN, min(SELDOM, (time.monotonic() - self._stirred_at) / _SHARE))
