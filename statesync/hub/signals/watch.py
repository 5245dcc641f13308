"""The one thread of a process that looks whether heads have moved, as long as anybody waits for that.

It asks for the heads of all spaces that may have moved in one statement. What may have moved is said by the
pushes of this process, by those who begin to wait, and by the database (``Observer``): it is no more than a
hint, and what is read is the truth. So a hint too many costs a look, and one that is lost costs time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection, Mapping
from logging import Logger, getLogger
from typing import Protocol

import peewee
import psycopg

from statesync.errors import UsageError
from statesync.hub.db.failures import Warnings, WrongFile
from statesync.hub.errors import busy
from statesync.hub.signals.waiters import Head, Waiter, Waiters, ring
from statesync.threads import Task, threads

logger: Logger = getLogger(__name__)

_FAILURES = (peewee.PeeweeException, sqlite3.Error, psycopg.Error, WrongFile, OSError, UsageError)
"""What a database fails by that is away, hangs up, or is another one by now."""

_LINGER = 10.0
"""Seconds that the thread waits for somebody to come."""

_AFTER_A_FAILURE = 1.0
"""Seconds until the database is asked again that has failed."""

_REST = 10
"""How many times as long as it took to look at all spaces, none but those that are named are looked at."""


class Observer(Protocol):
    """How one kind of database tells that somebody has committed. For one thread, but for ``wake``."""

    tells_others: bool
    """Whether other processes have to be told of the pushes of this one."""

    def wait(self, seconds: float, *, watches: bool) -> Collection[str] | None:
        """Wait so long, or until ``wake``, or until others have moved spaces; return these.

        None: any may have moved. ``watches`` says whether anybody wants to know of others.
        """

    def wake(self) -> None:
        """End the wait that is under way, or the next one. From any thread."""

    def heads(self, spaces: Collection[str]) -> Mapping[str, Head]:
        """Return the heads of those of ``spaces`` that there are."""

    def tell(self, spaces: Collection[str]) -> float:
        """Tell other processes that these have moved; return in how many seconds it may be called again."""

    def rest(self) -> None:
        """Let go of what it holds, until it is asked again."""

    def begin_anew(self) -> None:
        """Begin with nothing, as a forked process does."""


class Watch:
    """The waiters of one hub, and its thread, which is there while it has something to do.

    Programs only hand it on: it is what ``Hub.watch`` is.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._warnings = Warnings()
        self._closed = threading.Event()
        self._forget()

    def begin_anew(self) -> None:
        """Begin without waiters and thread, as a forked process does."""
        self._observer.begin_anew()
        was_closed, self._closed = self._closed.is_set(), threading.Event()
        if was_closed:
            self._closed.set()
        self._forget()

    def _forget(self) -> None:
        self._waiters = Waiters()
        self._untold: set[str] = set()
        self._tell_at = self._all_at = 0.0
        self._task: Task | None = None
        self._lock = threading.Lock()

    # -- from any thread -------------------------------------------------------------------------------

    def add(self, waiter: Waiter) -> None:
        """Let somebody wait, until it is told or removed.

        Raises the 503 of a hub that is being closed, or that has no thread to look in.
        """
        self._waiters.add(waiter)
        if not self._set_going():
            self._waiters.remove(waiter)
            raise busy("the hub is being closed" if self._closed.is_set() else "the hub has too many threads")

    def remove(self, waiter: Waiter) -> None:
        """Let it wait no more."""
        self._waiters.remove(waiter)

    def count(self, space: str) -> int:
        """Return how many wait in a space, whose head was read for them."""
        return self._waiters.count(space)

    def hurry(self, waiter: Waiter) -> Head | None:
        """Return the head that it may be told now; None if none was read: then it is told the next one."""
        return self._waiters.hurry(waiter)

    def moved(self, space: str) -> None:
        """Say that a transaction of this process may have moved a space; called once it has ended.

        Raises nothing: what was committed stays so, and who is not told of it now finds it later.
        """
        is_watched = self._waiters.doubt(space)
        if self._observer.tells_others:
            with self._lock:
                is_awaited = bool(self._untold)
                self._untold.add(space)
            if is_awaited and not is_watched:
                return  # the thread knows of others, which it tells of together with this one
        elif not is_watched:
            return
        if not self._set_going():
            with self._lock:
                self._untold.clear()

    def close(self) -> None:
        """Tell all that wait, and end the thread."""
        with self._lock:
            self._closed.set()
            task = self._task
        self._observer.wake()
        if task is not None:
            task.wait(_LINGER)  # a server that hangs is not waited for any longer
        ring(self._waiters.take_all())

    def _set_going(self) -> bool:
        """Let the thread look, and start it if there is none; return False where none can be had."""
        with self._lock:
            if self._closed.is_set():
                return False
            if self._task is None:
                task = Task(self._run, "statesync-signals")
                if not threads.try_to_start(task):
                    return False
                self._task = task
        self._observer.wake()
        return True

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if not self._is_idle():
                    self._look()
                elif self._has_ended():
                    return
            except _FAILURES as error:
                self._warnings.warn("the heads of the spaces cannot be looked at", error)
                self._begin_again()
            except Exception:  # a defect: the thread goes on all the same, for those who wait
                logger.exception("a look at the heads of the spaces failed")
                self._begin_again()
        self._observer.rest()

    def _is_idle(self) -> bool:
        return not self._waiters and not self._untold

    def _has_ended(self) -> bool:
        """Wait for something to do; give up the thread where nothing comes, and let another one begin."""
        self._observer.wait(_LINGER, watches=False)
        if not self._is_idle():
            return False
        self._observer.rest()
        with self._lock:
            if not self._is_idle():
                return False
            self._task = None
            return True

    def _look(self) -> None:
        """Do what there is to do, and wait for more."""
        self._tell()
        self._read()
        moved = self._observer.wait(self._seconds(), watches=bool(self._waiters))
        if moved is None:
            self._waiters.doubt_all()
        for space in moved or ():
            self._waiters.doubt(space)

    def _tell(self) -> None:
        if not self._untold or time.monotonic() < self._tell_at:
            return
        with self._lock:
            untold, self._untold = self._untold, set()
        self._tell_at = time.monotonic() + self._observer.tell(untold)

    def _read(self) -> None:
        begun = time.monotonic()
        is_for_all = self._waiters.is_all_doubted() and begun >= self._all_at
        doubted = self._waiters.take_doubted(all_of_them=is_for_all)
        if doubted:
            self._waiters.note(doubted, self._observer.heads(doubted))
        if is_for_all:
            now = time.monotonic()
            self._all_at = now + _REST * (now - begun)

    def _seconds(self) -> float:
        """Return how long there is nothing to do, as far as is known."""
        now = time.monotonic()
        ends = [self._tell_at] if self._untold else []
        ends += [self._all_at] if self._waiters.is_all_doubted() else []
        return min([_LINGER, *(max(0.0, end - now) for end in ends)])

    def _begin_again(self) -> None:
        """Let go of what may be broken, doubt all, and pause. What was to be told to others may be lost.

        The pause asks nothing of the observer, which may have no descriptor left to wait by.
        """
        self._waiters.doubt_all()
        self._observer.rest()
        self._closed.wait(_AFTER_A_FAILURE)
