"""Listening: the question for news that a keeper keeps open at its hub while it is in ``listening``.

Each stay in that phase is a poll of its own, in a thread of its own, which ends with the first news, or when
the phase is left. It only ever tells the keeper that there may be news.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from logging import Logger, getLogger

from attrs import evolve

from statesync.autosync.target import Target
from statesync.errors import RemoteError, StoreError, Unauthorized
from statesync.keeping.asking import Asking
from statesync.keeping.messages import Signalled
from statesync.lifecycle import KeeperPhase
from statesync.net.signals import Signals
from statesync.threads import Task, threads

logger: Logger = getLogger(__name__)


class Listening:
    """Asks for news while its keeper listens; ``tell`` gets ``Signalled``. It is used in the keeper's thread.

    What it knows outlives a poll: how the hub is asked best, and up to which head it has told of news.
    """

    def __init__(self, target: Target, tell: Callable[[Signalled], object]) -> None:
        self._target, self._tell = target, tell
        self._listens = False
        self._poll: _Poll | None = None
        self._asking = Asking()
        self._told = 0
        self._kept: Signals | None = None

    def follow(self, phase: KeeperPhase, *, is_done: bool) -> None:
        """Ask while ``phase`` is ``listening``, and only then.

        ``is_done`` says whether the keeper's last session has read all that there was.
        """
        listens = phase is KeeperPhase.LISTENING
        if phase is KeeperPhase.NEEDS_TOKEN:
            self._asking = Asking()  # with the next token
        if listens is not self._listens:
            self._listens = listens
            self._end()
            if listens:
                self._begin(is_done=is_done)

    def forget_refusal(self) -> None:
        """Ask anew with the next ``follow``, if the hub has refused the token: there is another one."""
        asking = self._asking if self._poll is None else self._poll.asking
        if asking.is_refused:
            self._end()
            self._listens, self._asking = False, Asking()

    def close(self) -> None:
        """Ask no more."""
        self._end()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _begin(self, *, is_done: bool) -> None:
        try:
            since = self._since(is_done=is_done)
            poll = _Poll(self._kept or self._target.signals(), since, self._asking, self._tell)
            threads.start(Task(poll.run, "statesync-listening"))
        except (StoreError, RuntimeError):
            logger.warning("the hub cannot be listened to; the interval goes on", exc_info=True)
            return
        self._poll, self._kept = poll, None

    def _since(self, *, is_done: bool) -> int:
        """Return the head that is no news any more.

        What was told of, and has led to a session, is none either: a session may have its reasons to leave
        something, and would do so again at once.
        """
        told, self._told = self._told, 0
        return max(told, self._target.lookout.read_until(is_done=is_done))

    def _end(self) -> None:
        poll, self._poll = self._poll, None
        if poll is None:
            return
        was_over = poll.end()
        self._asking, self._told = poll.asking, poll.told
        if was_over:
            self._kept = poll.signals


class _Poll:
    """One question after the other, until there is news, or nobody wants to know any more."""

    def __init__(
        self, signals: Signals, since: int, asking: Asking, tell: Callable[[Signalled], object]
    ) -> None:
        self.signals, self.asking = signals, asking
        self.told = 0
        self._since, self._tell = since, tell
        self._ending = threading.Lock()
        """Held while it is said who has ended it: the hub by news, or the keeper, which cuts the question."""
        self._is_over = False
        """Whether there was news, so that its connection is free."""
        self._ended = threading.Event()

    def run(self) -> None:
        """Ask, in a thread of its own."""
        try:
            while not self._is_over and not self._ended.wait(max(0.0, self.asking.at - time.monotonic())):
                self._ask()
        except Exception:  # a defect: the keeper goes by its interval, and nobody waits for this thread
            logger.exception("a defect ended the question for news; the interval goes on")
        finally:
            if not self._is_over:
                self.signals.close()

    def end(self) -> bool:
        """Want to know no more, from another thread; tell whether it was over by itself.

        Then the signals are free, and were not interrupted, so that they can be asked again.
        """
        with self._ending:
            self._ended.set()
        if not self._is_over:
            self.signals.interrupt()
        return self._is_over

    def _ask(self) -> None:
        began = time.monotonic()
        try:
            said = self.signals.ask(self._since, self.asking.wait)
        except RemoteError as error:
            if not self._ended.is_set():
                self._note(error, began)
            return
        self.asking = self.asking.answered(began)
        if said.head != self._since:
            self._end_with(said.head, began)

    def _end_with(self, head: int, began: float) -> None:
        """Tell of news, unless nobody wants to know any more."""
        with self._ending:
            if self._ended.is_set():
                return
            self.asking = evolve(self.asking, at=began)
            self.told, self._is_over = head, True
        self._signal()

    def _note(self, error: RemoteError, began: float) -> None:
        was_refused, now = self.asking.is_refused, time.monotonic()
        has_no_token = isinstance(error, Unauthorized) and error.status is None
        self.asking = self.asking.failed(error, began, now, random.random())  # noqa: S311 - jitter is no secret
        logger.debug("no news from the hub, asked again in %.1f seconds: %s", self.asking.at - now, error)
        if has_no_token or (self.asking.is_refused and not was_refused):
            self._signal()  # a session finds out, and says, what is wrong with the token

    def _signal(self) -> None:
        if not self._ended.is_set():
            self._tell(Signalled())
