"""The one mailbox of a session's loop.

``post`` is a single put into a ``SimpleQueue``, which is reentrant: it may be called from any thread and
from a signal handler, and returns at once.
"""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue

from statesync.checks import LONGEST_WAIT
from statesync.protocol.messages import CancelRequested
from statesync.session.requests import Reply
from statesync.values import Reason

Letter = CancelRequested | Reply


class Mailbox:
    """Letters in the order in which they came, but for cancels, which go first."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Letter] = SimpleQueue()
        self._letters: deque[Letter] = deque()

    def post(self, letter: Letter) -> None:
        """Leave a letter; from any thread, or a signal handler."""
        self._queue.put(letter)

    def post_cancel(self, reason: Reason, grace: float | None) -> None:
        """Leave a cancel; from any thread, or a signal handler."""
        self.post(CancelRequested(reason, grace))

    def take_cancel(self) -> CancelRequested | None:
        """Return the cancel that waits, or None; never waits itself."""
        self._fetch(0.0)
        return self._pop_cancel()

    def has_cancel(self) -> bool:
        """Tell whether a cancel waits; never waits itself."""
        self._fetch(0.0)
        return any(isinstance(letter, CancelRequested) for letter in self._letters)

    def take(self, timeout: float | None) -> Letter | None:
        """Wait up to ``timeout`` seconds (None: for ever) for a letter.

        It may come back before that with None, as for somebody's endless time.
        """
        if not self._letters:
            self._fetch(None if timeout is None else min(timeout, LONGEST_WAIT))
        return self._pop() if self._letters else None

    def _fetch(self, timeout: float | None) -> None:
        try:
            letter = self._queue.get(timeout=timeout) if timeout != 0.0 else self._queue.get_nowait()
            while True:
                self._letters.append(letter)
                letter = self._queue.get_nowait()
        except Empty:
            return

    def _pop_cancel(self) -> CancelRequested | None:
        for letter in self._letters:
            if isinstance(letter, CancelRequested):
                self._letters.remove(letter)
                return letter
        return None

    def _pop(self) -> Letter:
        return self._pop_cancel() or self._letters.popleft()
