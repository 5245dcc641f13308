"""How a session has ended: one value, said once. Whoever asks or waits looks at this, and at nothing else.

A session's thread and whoever ends it in the thread's place may come to that at the same moment. The
``Tenure`` says who of them ends it; only that one announces, and only that one's announcement wakes anybody.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from statesync.classes import frozen
from statesync.errors import InternalError, StoreError, SyncError, UsageError
from statesync.lifecycle import Phase
from statesync.values import SyncResult


@frozen(eq=False)
class Ended:
    """The final phase, and what ``result`` returns or raises."""

    phase: Phase
    outcome: SyncResult | SyncError

    @classmethod
    def of(cls, phase: Phase, result: SyncResult | None, error: SyncError | None) -> Ended:
        """Return how a session has ended of which this is known: a success has a result and no error."""
        if error is None and phase is not Phase.DONE:
            error = InternalError("a defect of statesync ended the session's thread; its log says which")
        if error is None and result is not None:
            return cls(phase, result)
        error = error or StoreError(
            "the session is done, but its history cannot be read; run: statesync doctor"
        )
        error.phase, error.result = phase, result
        return cls(phase, error)

    @property
    def error(self) -> SyncError | None:
        """What ``result`` raises, if it does."""
        return self.outcome if isinstance(self.outcome, SyncError) else None

    @property
    def result(self) -> SyncResult | None:
        """What was done, as far as it can be read."""
        if not isinstance(self.outcome, SyncError):
            return self.outcome
        result: SyncResult | None = self.outcome.result
        return result


class Announcement:
    """Made once, with how the session has ended; complete once the callbacks of the end have come back.

    It is complete also when they need not be waited for any longer. ``news`` tells of every step. It may be
    waited for in a signal handler of a thread that waits for it. Who waits for the end alone sleeps until
    then: a thread that wakes up at every step is in the way of the one that takes it.
    """

    def __init__(self) -> None:
        lock = threading.RLock()
        self.news: threading.Condition = threading.Condition(lock)
        self._completion = threading.Condition(lock)
        self.ended: Ended | None = None
        self.has_begun: bool = False
        self._is_complete = False
        self._teller: int | None = None
        self._wakers: list[Callable[[], object]] = []
        self._process = os.getpid()

    @property
    def is_complete(self) -> bool:
        """Whether nobody has to wait any more: not in a forked process either, where nothing will come."""
        return self._is_complete or self._is_inherited

    @property
    def _is_inherited(self) -> bool:
        return os.getpid() != self._process

    def begin(self) -> None:
        """Say that the session has begun: its end is told to its callbacks."""
        with self.news:
            self.has_begun = True
            self.news.notify_all()

    def make(self, ended: Ended) -> None:
        """Say how it has ended. For whoever has taken the tenure; callbacks follow in this very thread."""
        with self.news:
            self._teller, self.ended = threading.get_ident(), ended
            self.news.notify_all()

    def complete(self) -> None:
        """Let go whoever waits, once it is made."""
        with self.news:
            self.news.wait_for(lambda: self.ended is not None)
            self._is_complete = True
            wakers, self._wakers = self._wakers, []
            self.news.notify_all()
            self._completion.notify_all()
        for wake in wakers:
            wake()

    def call_when_complete(self, wake: Callable[[], object]) -> None:
        """Call ``wake``, which returns at once, when it is complete; in any thread."""
        with self.news:
            if not self._is_complete:
                self._wakers.append(wake)
                return
        wake()

    def wait_for_start(self) -> Ended | None:
        """Wait until the session has begun; return how it has ended if it never did."""
        with self.news:
            self.news.wait_for(lambda: self.has_begun or self._is_complete)
            return None if self.has_begun else self.ended

    def wait(self, timeout: float | None) -> Ended | None:
        """Wait up to ``timeout`` seconds until it is complete; None if it is not. A callback does not wait.

        Raises ``UsageError`` in a process that was forked meanwhile: the session is its parent's.
        """
        if not self._is_complete:
            if self._is_inherited:
                raise UsageError("the session runs in the process that this one was forked from; wait there")
            if self._teller != threading.get_ident():
                with self._completion:
                    if not self._completion.wait_for(lambda: self._is_complete, timeout):
                        return None
        return self.ended
