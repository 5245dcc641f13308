"""Writing for several at once: who waits for the disk shares one commit with the others who wait.

Whoever comes first leads: it runs its own step and those of all who wait, one after the other in one
transaction, and commits. Meanwhile others come, and one of them leads next. Each step is whole or not there
at all: one that fails is undone by itself. Nobody is told anything before the commit.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, TypeVar, cast

from statesync.classes import define
from statesync.hub.db.failures import failure_of
from statesync.hub.errors import Refused, busy, outcome_unknown

_Outcome = TypeVar("_Outcome")

_LONGEST = 0.05
"""Seconds after which a transaction takes no further step."""

_MOST = 64
"""Steps of one transaction."""


class Parts(Protocol):
    """How a transaction undoes its last part."""

    def begin_part(self) -> None:
        """Begin a part of the transaction that is open."""

    def end_part(self) -> None:
        """End the part; what it did belongs to the transaction."""

    def undo_part(self) -> bool:
        """Undo what the part did; return False if the whole transaction is undone already."""


@define(eq=False)
class _Turn:
    """One step, and what became of it.

    Whoever waits for it ``is_called`` when that is known, or when it is its turn to lead; who leads at once
    waits for nothing.
    """

    step: Callable[[], object]
    is_called: threading.Event | None = None
    is_done: bool = False
    outcome: object = None
    error: Exception | None = None

    def call(self) -> None:
        """Let it go on, if it waits."""
        if self.is_called is not None:
            self.is_called.set()


@define(eq=False)
class _Kept:
    """Keeps the error that ends a block, for those whom it concerns."""

    error: Exception | None = None

    def __enter__(self) -> None:
        self.error = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
        return self.error is not None


class Group:
    """The steps of one process that write to one file. ``writing`` opens a transaction, as a context.

    Who waits longer than ``patience`` seconds for its step to begin is refused.
    """

    def __init__(
        self, writing: Callable[[], AbstractContextManager[None]], parts: Parts, patience: float
    ) -> None:
        self._writing, self._parts, self._patience = writing, parts, patience
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin with nobody, as a forked process does."""
        self._lock = threading.Lock()
        self._waiting: deque[_Turn] = deque()
        self._is_led = False
        self._leader: int | None = None

    def run(self, step: Callable[[], _Outcome]) -> _Outcome:
        """Run ``step``, perhaps in another thread, and return what it returned once that is committed.

        ``step`` may be run twice: what its first run did is undone then. Raises what it raises, or what
        ``writing`` raises, and the 503 for who has waited too long.
        """
        turn, called = _Turn(step), None
        with self._lock:
            if self._is_led and self._leader != threading.get_ident():
                turn.is_called = called = threading.Event()
                self._waiting.append(turn)
            else:
                self._begin_to_lead(turn)
        if called is not None:
            self._wait(turn, called)
        if not turn.is_done:
            self._lead()
        if turn.error is not None:
            raise turn.error
        return cast(_Outcome, turn.outcome)

    def _begin_to_lead(self, turn: _Turn) -> None:
        """Put a step before all others. Called under the lock.

        Who leads already was interrupted, and what it led with is nobody's any more.
        """
        self._is_led, self._leader = True, threading.get_ident()
        self._waiting = deque([turn, *(each for each in self._waiting if each.is_called is not None)])

    def _wait(self, turn: _Turn, called: threading.Event) -> None:
        try:
            is_called = called.wait(self._patience)
        except BaseException:  # a Ctrl-C, perhaps: nobody is left to lead, if it was its turn
            self._leave(turn, called)
            raise
        if is_called:
            return
        with self._lock:
            if turn in self._waiting and not called.is_set():
                self._waiting.remove(turn)
                raise busy("the hub has too many writes under way")
        called.wait()

    def _leave(self, turn: _Turn, called: threading.Event) -> None:
        """Let a step that waits not be run any more; if it was to lead, another one does."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                if called.is_set():
                    self._call_next()

    def _call_next(self) -> None:
        """Let the next one lead, if there is one. Called under the lock."""
        self._is_led, self._leader = bool(self._waiting), None
        if self._waiting:
            self._waiting[0].call()

    def _lead(self) -> None:
        """Run the steps of those who wait, the caller's first; then let another one lead."""
        turns: list[_Turn] = []
        self._leader = threading.get_ident()
        self._take(turns)
        try:
            self._commit(turns)
        finally:
            with self._lock:
                self._call_next()
            for turn in turns:
                if not turn.is_done:
                    turn.is_done, turn.error = True, outcome_unknown()
                turn.call()

    def _take(self, turns: list[_Turn]) -> bool:
        """Take the next one who waits; return False if there is none."""
        with self._lock:
            if not self._waiting:
                return False
            turns.append(self._waiting.popleft())
            return True

    def _commit(self, turns: list[_Turn]) -> None:
        kept = _Kept()
        with kept, self._writing():
            self._run_all(turns)
        error = kept.error
        for turn in turns:
            if error is not None and turn.error is None:
                if len(turns) == 1:
                    turn.error = error
                elif _is_unknown(error):
                    turn.error = outcome_unknown()
                else:
                    self._commit_alone(turn)
            turn.is_done = True

    def _commit_alone(self, turn: _Turn) -> None:
        """Run a step in a transaction of its own: what has failed was another's, or was of all together."""
        kept = _Kept()
        with kept, self._writing():
            turn.outcome = turn.step()
        turn.error = kept.error

    def _run_all(self, turns: list[_Turn]) -> None:
        until = time.monotonic() + _LONGEST
        # The first is no part: if it fails, nothing else is undone with it. In a part SQLite copies every
        # page before it is written, which is a tenth of a large push.
        turns[0].outcome = turns[0].step()
        while len(turns) < _MOST and time.monotonic() < until and self._take(turns):
            self._run_part(turns[-1])

    def _run_part(self, turn: _Turn) -> None:
        self._parts.begin_part()
        try:
            turn.outcome = turn.step()
        except Exception as error:  # it is told to whose step it is
            turn.error = error
            # A connection on which the database has failed is not used any longer.
            if failure_of(error) is not None or not self._parts.undo_part():
                raise
        else:
            self._parts.end_part()


def _is_unknown(error: Exception) -> bool:
    """Tell whether the transaction may have been committed."""
    return isinstance(error, Refused) and error.problem.code == outcome_unknown().problem.code
