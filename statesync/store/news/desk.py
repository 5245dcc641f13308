"""Where news come in and go out: one desk a store, with a thread as long as anybody observes the store.

The thread tells which of the records are there and which are gone, as they are when it looks: so what is told
is true in whatever order the commits are told.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from logging import Logger, getLogger
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from statesync.errors import InternalError, StoreError, SyncError
from statesync.store.file.looks import Looks
from statesync.store.news.observation import Observation, OnNews
from statesync.store.news.told import News
from statesync.store.parts import StoreParts
from statesync.store.tracking.records import has_number_among, there_among
from statesync.threads import Task, threads

if TYPE_CHECKING:
    from statesync.store.news.taps import Noted
    from statesync.store.news.witness import StoreWitness

logger: Logger = getLogger(__name__)

_GRACE = 10.0
"""Seconds that a callback gets when the store is closed, where nobody says how many."""


class Observer(Protocol):
    """Who is told the news."""

    def put(self, news: News) -> None:
        """Take news, and return at once."""

    def stop(self) -> None:
        """Take nothing any more."""

    def wait(self, timeout: float | None) -> bool:
        """Wait until nothing of the program's runs for it any more; tell whether it is so."""


class Desk:
    """The observers of one store."""

    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts
        self._noted: SimpleQueue[Noted | None] = SimpleQueue()
        self._witness: StoreWitness | None = None
        self._changing = threading.RLock()
        self._observers: list[Observer] = []
        self._reader: _Reader | None = None
        self._process = os.getpid()

    def observe(self, names: frozenset[str] | None, callback: OnNews) -> Observation:
        """Tell ``callback`` what is committed from now on of these objects, or of all.

        Raises ``StoreError``.
        """
        observation = Observation(self._parts.database, names, callback, self.leave)
        self.enter(observation)
        return observation

    def enter(self, observer: Observer) -> None:
        """Tell an observer what is committed from now on. Raises ``StoreError``."""
        self._begin_anew_after_a_fork()
        with self._changing:
            self._observers = [*self._observers, observer]
            try:
                if self._reader is None:
                    self._reader = self._begin()
            except BaseException:
                self.leave(observer)
                raise

    def _begin(self) -> _Reader:
        # Nobody observes most stores: the witness and its taps come with the first who does.
        from statesync.store.news.witness import StoreWitness

        if self._witness is None:
            self._witness = StoreWitness(self._parts, self._noted.put)
        reader = _Reader(self._parts, self._witness, self._noted, self._put)
        threads.start(reader.task)
        failure = reader.begun.get()
        if failure is not None:
            raise failure
        return reader

    def _begin_anew_after_a_fork(self) -> None:
        if self._process != os.getpid():  # the observers are in its parent, and so are all who hold a lock
            self.__init__(self._parts)  # type: ignore[misc]

    def _put(self, told: list[News]) -> None:
        for observer in self._observers:
            for news in told:
                observer.put(news)

    def leave(self, observer: Observer) -> None:
        """Tell it nothing any more."""
        with self._changing:
            self._observers = [each for each in self._observers if each is not observer]
            if not self._observers:
                self._stop_reading()

    def _stop_reading(self) -> _Reader | None:
        with self._changing:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.stop()
            return reader

    def close(self, grace: float | None) -> None:
        """End every observation, and wait for calls that are under way, each ``grace`` seconds (None: 10)."""
        if self._process != os.getpid():
            return
        with self._changing:
            observers, self._observers = self._observers, []
            reader = self._stop_reading()
        for each in observers:
            each.stop()
        for each in observers:
            each.wait(_GRACE if grace is None else grace)
        if reader is not None:
            reader.task.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the file alone for the length of the block, after which everything is told for changed."""
        reader = self._stop_reading()
        if reader is not None:
            reader.task.wait()
        try:
            yield
        finally:
            if reader is not None:
                self._go_on()

    def _go_on(self) -> None:
        with self._changing:
            if not self._observers or self._reader is not None:
                return
            try:
                self._reader = self._begin()
            except StoreError:
                logger.warning("nothing is told of the store: it cannot be read", exc_info=True)
                return
        self._noted.put(dict.fromkeys(self._parts.registry.known))


class _Reader:
    """The thread of a desk."""

    def __init__(
        self,
        parts: StoreParts,
        witness: StoreWitness,
        noted: SimpleQueue[Noted | None],
        put: Callable[[list[News]], object],
    ) -> None:
        self._parts, self._witness, self._noted, self._put = parts, witness, noted, put
        self.task: Task = Task(self._run, "statesync-news", self._let_go)
        self.begun: SimpleQueue[SyncError | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._untold: deque[Noted] = deque()
        self._version: int | None = None
        self._is_blind = False
        self._looks = Looks(partial(noted.put, {}))

    def stop(self) -> None:
        """See nothing any more, and end soon."""
        self._witness.end()
        self._stopped.set()
        self._noted.put(None)

    def _run(self) -> None:
        try:
            self._witness.begin()
        except SyncError as error:
            self._parts.database.leave()
            self.begun.put(error)
            return
        self.begun.put(None)
        commits = self._parts.database.peewee.commits
        commits.watch(self._looks.commit)
        try:
            while not self._stopped.is_set():
                self._round()
        except Exception:
            logger.exception("a defect ended what tells the news of a store")
        finally:
            commits.unwatch(self._looks.commit)
            self._parts.database.leave()

    def _let_go(self) -> None:
        """Let go who waits for the beginning, if a defect has kept it from that."""
        self.begun.put(InternalError("a defect of statesync ended what tells the news; its log says which"))

    def _round(self) -> None:
        """Wait for what was written by the library, or for the time to look for the rest; and tell it."""
        with suppress(Empty):
            self._untold.append(self._noted.get(timeout=self._looks.pause) or {})
            self._looks.stir()
        try:
            self._look()
            while self._untold:
                self._tell(self._untold[0])
                self._untold.popleft()
            self._is_blind = False
        except StoreError:
            if not self._is_blind:
                logger.warning("what came in cannot be read; it is told as soon as it can", exc_info=True)
            self._is_blind = True

    def _look(self) -> None:
        database = self._parts.database
        with database.errors_mapped():
            (version,) = database.raw().execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._looks.stir()
            found = self._witness.look()
            if found is not None:
                self._untold.append(found)
                self._version = version

    def _tell(self, noted: Noted) -> None:
        if noted:
            with self._parts.database.snapshot() as connection:
                told = [self._news(connection, name, keys) for name, keys in noted.items()]
            self._put(told)

    def _news(self, connection: sqlite3.Connection, name: str, keys: set[str] | None) -> News:
        if keys is None:
            return News(name, everything=True)
        tracked = self._parts.registry.refresh(connection).get(name)
        there = set() if tracked is None else there_among(connection, tracked, keys)
        gone = keys - there
        if gone and tracked is not None and has_number_among(connection, tracked, gone):
            return News(name, everything=True)
        return News(name, tuple(sorted(there)), tuple(sorted(gone)))
