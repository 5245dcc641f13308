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
from statesync.classes import frozen
from statesync.errors import RemoteError, SyncError
from statesync.keeping.asking import Asking
from statesync.keeping.messages import Signalled
from statesync.lifecycle import KeeperPhase
from statesync.net.signals import Signals
from statesync.threads import Task, threads
from statesync.wire import Signal

logger: Logger = getLogger(__name__)


@frozen
class Heard:
    """The hub answers the question for news again, or does not any more."""


Tell = Callable[[Signalled | Heard], object]


class Listening:
    """Asks for news while its keeper listens; ``tell`` gets ``Signalled``. It is used in the keeper's thread.

    What it knows outlives a poll: how the hub is asked best, and up to which head it has told of news.
    """

    def __init__(self, target: Target, tell: Tell) -> None:
        self._target, self._tell = target, tell
        self._listens = False
        self._is_deaf = False
        """Whether it listens, and could not begin to ask."""
        self._poll: _Poll | None = None
        self._asking = Asking()
        self._told: _Told | None = None
        self._kept: Signals | None = None

    @property
    def hears(self) -> bool | None:
        """Whether the hub answers the question; None where it is not asked, or had no time to. Any thread."""
        poll = self._poll
        if poll is None:
            return False if self._is_deaf else None
        return poll.asking.hears

    def follow(self, phase: KeeperPhase, *, is_done: bool) -> None:
        """Ask while ``phase`` is ``listening``, and only then.

        ``is_done`` says whether the keeper's last session has read all that there was.
        """
        listens = phase is KeeperPhase.LISTENING
        if phase is KeeperPhase.NEEDS_TOKEN:
            self._asking = Asking()  # with the next token
        if listens is not self._listens:
            self._listens, self._is_deaf = listens, False
            self._end()
            if listens:
                self._asking = self._asking.reached() if is_done else self._asking
                self._begin(is_done=is_done)

    def ask_with_another_token(self, *, is_done: bool) -> None:
        """Forget that the hub has refused the one before: it would not be asked again for an hour."""
        if self._asking.is_refused or (self._poll is not None and self._poll.asking.is_refused):
            self._end()
            self._asking = Asking()
            if self._listens:
                self._begin(is_done=is_done)

    def close(self) -> None:
        """Ask no more."""
        self._end()
        if self._kept is not None:
            _let_go(self._kept.close)
            self._kept = None

    def _begin(self, *, is_done: bool) -> None:
        self._poll = self._ask_in_thread(is_done=is_done)
        self._is_deaf = self._poll is None

    def _ask_in_thread(self, *, is_done: bool) -> _Poll | None:
        try:
            since = self._since(is_done=is_done)
            signals = self._kept or self._target.signals()
            poll = _Poll(signals, since, self._asking, self._tell, self._target.clear_up)
            threads.start(Task(poll.run, "statesync-listening"))
        except (SyncError, RuntimeError):
            logger.warning("the hub cannot be listened to; the interval goes on", exc_info=True)
            return None
        except Exception:  # a remote of the program's own may raise anything
            logger.exception("the remote cannot be asked for news; the interval goes on")
            return None
        self._kept = None
        return poll

    def _since(self, *, is_done: bool) -> int:
        """Return the head that is no news any more.

        What was told of, and has led to a session, is none either: a session may have its reasons to leave
        something, and would do so again at once. So it is with a head that has gone back, as of a hub that
        was restored, or lags behind.
        """
        told, self._told = self._told, None
        read = self._target.lookout.read_until(is_done=is_done)
        if told is None:
            return read
        return told.head if told.head < told.since else max(told.head, read)

    def _end(self) -> None:
        poll, self._poll = self._poll, None
        if poll is None:
            return
        was_over = poll.end()
        self._asking, self._told = poll.asking, poll.told
        if was_over:
            self._kept = poll.signals


@frozen
class _Told:
    """The news that a poll has ended with: the head, and the one since which it has asked."""

    head: int
    since: int


class _Poll:
    """One question after the other, until there is news, or nobody wants to know any more."""

    def __init__(
        self,
        signals: Signals,
        since: int,
        asking: Asking,
        tell: Tell,
        clear_up: Callable[[], object],
    ) -> None:
        self.signals, self.asking = signals, asking
        self.told: _Told | None = None
        self._since, self._tell, self._clear_up = since, tell, clear_up
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
            self.asking = evolve(self.asking, at=time.monotonic(), failures=self.asking.failures + 1)
            self._tell_while_asked(Heard())
        finally:
            if not self._is_over:
                _let_go(self.signals.close)

    def end(self) -> bool:
        """Want to know no more, from another thread; tell whether it was over by itself.

        Then the signals are free, and were not interrupted, so that they can be asked again.
        """
        with self._ending:
            self._ended.set()
        if not self._is_over:
            _let_go(self.signals.interrupt)
        return self._is_over

    def _ask(self) -> None:
        began, heard = time.monotonic(), self.asking.hears
        try:
            said = self._answer()
        except RemoteError as error:
            if not self._ended.is_set():
                self._note(error, began)
                self._tell_of_change(heard)
            return
        self.asking = self.asking.answered(began)
        self._tell_of_change(heard)
        if said.head != self._since:
            self._end_with(said.head, began)

    def _end_with(self, head: int, began: float) -> None:
        """Tell of news, unless nobody wants to know any more."""
        with self._ending:
            if self._ended.is_set():
                return
            self.asking = evolve(self.asking, at=began)
            self.told, self._is_over = _Told(head, self._since), True
        self._tell_while_asked(Signalled())

    def _tell_of_change(self, heard: bool | None) -> None:
        if self.asking.hears is not heard:
            self._tell_while_asked(Heard())

    def _answer(self) -> Signal:
        try:
            return self.signals.ask(self._since, self.asking.wait)
        finally:
            self._clear_up()  # the program's function for the token may have read the store

    def _note(self, error: RemoteError, began: float) -> None:
        was_refused, now = self.asking.is_refused, time.monotonic()
        self.asking = self.asking.failed(error, began, now, random.random())  # noqa: S311 - jitter is no secret
        logger.debug("no news from the hub, asked again in %.1f seconds: %s", self.asking.at - now, error)
        if self.asking.is_refused and not was_refused:
            self._tell_while_asked(Signalled())  # a session finds out, and says, what is wrong with the token

    def _tell_while_asked(self, what: Signalled | Heard) -> None:
        if not self._ended.is_set():
            self._tell(what)


def _let_go(end: Callable[[], object]) -> None:
    """End or close what asks; nothing that a remote of the program's own raises then ends its keeper."""
    try:
        end()
    except Exception:
        logger.exception("a question for news could not be ended as it should")
