"""A hub's connections: opened when they are needed, kept for the next request, closed at the first doubt.

A connection that was opened before another one met a server that is away, or that only reads, leads to the
same server. So a doubt is about all of them, and whoever comes next opens a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import peewee

_Connection = TypeVar("_Connection")


class TooManyConnections(Exception):
    """All connections are lent, and none came back in time."""


class PooledDatabase(peewee.Database, Generic[_Connection]):
    """A Peewee database whose connections go from thread to thread, each to one at a time.

    ``connections`` is how many are lent at once. Who comes then waits up to ``patience`` seconds, and meets
    ``TooManyConnections``. ``_connect`` and ``_close`` are how Peewee takes and gives back a connection.
    """

    _state: Any

    def __init__(self, address: str, *, connections: int, patience: float, **settings: Any) -> None:
        self._most, self._patience = connections, patience
        self._forget_connections()
        super().__init__(address, **settings)
        self._lock = nullcontext()  # Peewee's would let everybody wait while one thread connects

    def _open(self) -> _Connection:
        """Return a new connection."""
        raise NotImplementedError

    def _shut(self, connection: _Connection) -> None:
        """Close a connection for good."""
        raise NotImplementedError

    def _is_alive(self, connection: _Connection) -> bool:
        """Tell whether an idle connection can be used, without asking anybody."""
        raise NotImplementedError

    def _is_at_peace(self, connection: _Connection) -> bool:
        """Tell whether a connection is outside of any transaction, and can be lent again."""
        raise NotImplementedError

    def _watched(self, _connection: _Connection) -> AbstractContextManager[None]:
        """Return what goes on beside a connection as long as it is lent."""
        return nullcontext()

    def together(self) -> AbstractContextManager[None]:
        """Let the statements of a block wait for each other, and travel when an answer is asked for.

        Raises ``Undone`` at the end if one of them failed that was to travel with the commit.
        """
        return nullcontext()

    def was_idle(self) -> bool:
        """Tell whether the calling thread's connection had been opened before it was lent."""
        return threading.get_ident() not in self._new

    def check_in_place(self) -> None:
        """Raise what says that the open connections lead elsewhere than new ones would."""

    @contextmanager
    def lent(self) -> Generator[None]:
        """Lend the calling thread a connection for the length of the block, if it has none."""
        if not self.is_closed():
            yield
            return
        self.connect()
        try:
            with self._watched(self._mine()):
                yield
        finally:
            self._give_back()

    def begin_at_rest(self) -> None:
        """Take another connection if the calling thread's is amid a transaction that nobody will end.

        An interrupt leaves one as a transaction begins, a Ctrl-C in the main thread: what is written in it
        would be told as accepted, and never be committed.
        """
        if self.in_transaction() or not self._is_at_peace(self._mine()):
            self._give_back()
            self.connect()

    def _give_back(self) -> None:
        self._state.transactions.clear()  # Peewee closes nothing amid one; SQLite and the server roll it back
        self.close()

    def distrust(self) -> None:
        """Use no connection again that is open now.

        The idle ones are closed at once, the others when they come back.
        """
        self._doubts += 1
        while (lent := self._pop_idle()) is not None:
            self._shut(lent[0])

    def close_all(self) -> None:
        """Close every connection, as ``distrust`` does, and the calling thread's own."""
        self.distrust()
        self.close()

    def begin_anew(self) -> None:
        """Begin without connections in a forked process: what there is belongs to its parent."""
        self._forget_connections()
        self.dispose()

    def _forget_connections(self) -> None:
        self._places: SimpleQueue[None] = SimpleQueue()
        """One for each connection that may be lent; a ``Semaphore`` takes several times as long."""
        for _ in range(self._most):
            self._places.put(None)
        self._doubts = 0
        self._idle: list[tuple[_Connection, int]] = []
        """Connections with the number of doubts that there were when they were opened."""
        self._lent: dict[int, tuple[_Connection, int] | None] = {}
        """What each thread has; None while it opens one."""
        self._hurried: set[int] = set()
        """The threads that do not wait for one."""
        self._new: set[int] = set()
        """The threads whose connection was opened for them."""

    def _connect(self) -> _Connection:
        thread, doubts = threading.get_ident(), self._doubts
        try:
            self._places.get(timeout=0 if thread in self._hurried else self._patience)
        except Empty:
            raise TooManyConnections from None
        self._lent[thread] = None
        try:
            lent = self._take_idle()
            if lent is None:
                lent = (self._open(), doubts)
                self._new.add(thread)
            self._lent[thread] = lent
        finally:
            if self._lent[thread] is None:
                del self._lent[thread]
                self._places.put(None)
        return lent[0]

    def _mine(self) -> _Connection:
        """Return the connection that the calling thread has."""
        lent = self._lent[threading.get_ident()]
        if lent is None:
            raise peewee.InterfaceError("the connection is still being opened")
        return lent[0]

    def _take_idle(self) -> tuple[_Connection, int] | None:
        while (lent := self._pop_idle()) is not None:
            connection, doubts = lent
            if doubts == self._doubts and self._is_alive(connection):
                return lent
            self._shut(connection)
        return None

    def _pop_idle(self) -> tuple[_Connection, int] | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _close(self, connection: _Connection) -> None:
        thread = threading.get_ident()
        lent = self._lent.pop(thread)
        self._new.discard(thread)
        try:
            if lent is not None and lent[1] == self._doubts and self._is_at_peace(connection):
                self._idle.append(lent)
            else:
                self._shut(connection)
        finally:
            self._places.put(None)
