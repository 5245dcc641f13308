"""An observer that is a callback of the program's: called in a thread of its own, one news at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from logging import Logger, getLogger
from types import TracebackType

from statesync.store.file.aside import roll_back_what_is_open
from statesync.store.file.database import Database
from statesync.store.news.told import News
from statesync.store.news.waiting import Waiting
from statesync.threads import Task, threads

logger: Logger = getLogger(__name__)

OnNews = Callable[[News], object]


class Observation:
    """One callback that is told the news. Made by ``observe``; ends with ``stop()``, or as a ``with`` block.

    The callback is called in a thread of its own, for one news after the other, and in no transaction. One
    that raises is logged, and is called again with the next news; one that asks for the end of its thread, as
    ``sys.exit`` does, is called no more. One that blocks keeps its own news waiting, and nobody else's: they
    become one for each object, with ``everything``, when a thousand wait. What it writes is told as well; a
    transaction that it leaves open is rolled back.
    """

    def __init__(
        self,
        database: Database,
        names: frozenset[str] | None,
        callback: OnNews,
        leave: Callable[[Observation], object],
    ) -> None:
        self._database, self._callback, self._leave = database, callback, leave
        self._waiting = Waiting(names)
        self._state = threading.RLock()
        self._task: Task | None = None
        self._is_told = False
        self._process = os.getpid()

    @property
    def is_active(self) -> bool:
        """Whether news are told."""
        return not self._waiting.is_over

    def stop(self) -> None:
        """Be told nothing any more. A call that is under way ends by itself. May be called again."""
        self._waiting.end()
        self._leave(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the call that is under way, but not within it; tell whether none is any more."""
        task = self._task
        return task is None or task.is_this_thread() or task.wait(timeout)

    def __enter__(self) -> Observation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def put(self, news: News) -> None:
        """Let the callback be told; returns at once. Programs do not call it."""
        with self._state:
            if self._waiting.put(news) and not self._is_told:
                self._begin()

    def _begin(self) -> None:
        task = Task(self._work, "statesync-observer")
        try:
            threads.start(task)
        except RuntimeError:  # another time there may be a thread
            logger.exception("there is no thread to tell news in; they wait for the next")
        else:
            self._task, self._is_told = task, True

    def _work(self) -> None:
        try:
            while (news := self._next()) is not None:
                self._call(news)
        finally:
            self._database.leave()

    def _next(self) -> News | None:
        with self._state:
            news = self._waiting.take()
            self._is_told = news is not None
            return news

    def _call(self, news: News) -> None:
        try:
            self._callback(news)
        except Exception:  # the program's code may raise anything, and hears of the next news all the same
            logger.exception("a callback that observes a store raised")
        except BaseException:
            logger.exception("a callback that observes a store asked for the end, and is called no more")
            self.stop()
        if os.getpid() != self._process:  # it has forked, and come back: its threads are in its parent
            os._exit(os.EX_SOFTWARE)
        roll_back_what_is_open(self._database.peewee)
