"""Until when, and whether at all, a session's thread may write.

A session is its thread's, until it has ended or is left behind: then it is nobody's, for good. The thread may
hang in code of the program's, and come back at any time; so the question is asked where it commits, and
where it sends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from statesync.errors import StaleRunner

SETTLING = 0.4
"""Seconds after the end of its time in which a session may still wait for another writer, to be ended."""


class Tenure:
    """One session's right to act. ``end`` takes it away once; whoever does that ends the session."""

    def __init__(self) -> None:
        self._in_use = threading.Lock()
        self._is_over = False
        self._ends: list[float] = []

    # -- until when ----------------------------------------------------------------------------------

    def shorten(self, seconds: float) -> None:
        """Let it be over these seconds from now, or earlier.

        From any thread, and from a signal handler: it takes no lock.
        """
        self._ends.append(time.monotonic() + seconds)

    @property
    def ends_at(self) -> float | None:
        """When it is over, in monotonic seconds; None: nobody has said how long it may take."""
        return min(self._ends) if self._ends else None

    def seconds_left(self) -> float | None:
        """Return the seconds that are left, 0 or more; None: nobody has said how long it may take."""
        return max(0.0, min(self._ends) - time.monotonic()) if self._ends else None

    def may_wait_until(self, wanted: float) -> float:
        """Return until when a writer may be waited for that would be waited for until ``wanted``."""
        return min((wanted, *(end + SETTLING for end in self._ends)))

    # -- whether at all ------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the session has ended, or was left behind."""
        return self._is_over

    def end(self) -> bool:
        """Take the right away, after a commit that is under way; True for the one who did."""
        with self._in_use:
            was_over, self._is_over = self._is_over, True
            return not was_over

    def check(self) -> None:
        """Raise ``StaleRunner`` if it is over."""
        if self._is_over:
            raise StaleRunner(
                "the session was ended without its thread, which was late: it does nothing any more"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody end it during the block. Raises ``StaleRunner``, and does nothing, if it is over."""
        with self._in_use:
            self.check()
            yield
