"""Seeing commits on a PostgreSQL server: all heads are asked for now and then, and NOTIFY makes it faster.

One connection listens, asks and tells. NOTIFY takes a lock of the whole server's while its transaction ends,
so it never goes with a push: a transaction of its own tells of all that was pushed since the last one.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager

import psycopg
from attrs import field

from statesync.classes import define
from statesync.hub.signals.waiters import Head

LOOK_EVERY = 3.0
"""Seconds after which the heads of all watched spaces are asked for, whatever was told."""

_TELL_EVERY = 0.02
"""Seconds between two NOTIFYs of a process."""

_CHANNEL = "statesync"
_MANY = "*"
"""What is told instead of more names than fit."""
_MOST = 7_000
"""Characters of names: PostgreSQL takes less than 8,000 bytes."""

_HEADS = "SELECT space, epoch, head FROM space WHERE space = ANY(%b::text[])"

Connection = psycopg.Connection[tuple[object, ...]]


@define(eq=False)
class ServerObserver:
    """``connect`` opens a connection, ``watched`` cuts one that hangs, ``let_go`` leaves it to the parent."""

    connect: Callable[[], Connection]
    watched: Callable[[Connection], AbstractContextManager[None]]
    let_go: Callable[[Connection], object]
    tells_others: bool = True
    _connection: Connection | None = None
    _heard: set[str] = field(factory=set)
    _is_lost: bool = True
    """Whether nothing was heard for a while: then any space may have moved."""
    _look_at: float = 0.0
    _is_woken: bool = False
    _ends: tuple[socket.socket, socket.socket] | None = None
    """While somebody may wait: a byte that is sent into the first wakes who waits at the second."""

    def begin_anew(self) -> None:
        """Begin with nothing, as a forked process does."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.let_go(connection)
        self._ends, self._is_woken, self._is_lost = None, False, True

    def wait(self, seconds: float, *, watches: bool) -> Collection[str] | None:
        """Wait; return the spaces of which others have told, None where it is time to look at all."""
        connection = self._listening() if watches else None
        until = min(seconds, max(0.0, self._look_at - time.monotonic())) if watches else seconds
        if not (watches and (self._heard or self._is_lost)):
            self._sleep(connection, until)
        if connection is None:
            self._heard.clear()
            return ()
        self._hear(connection)
        if self._is_lost or time.monotonic() >= self._look_at:
            self._is_lost, self._look_at = False, time.monotonic() + LOOK_EVERY
            self._heard.clear()
            return None
        heard, self._heard = self._heard, set()
        return None if _MANY in heard else heard

    def wake(self) -> None:
        """End the wait that is under way, or the next one."""
        if self._is_woken:
            return
        self._is_woken = True
        ends = self._ends
        if ends is not None:
            with contextlib.suppress(OSError):  # it is full, or nobody waits any more
                ends[0].send(b"!")

    def heads(self, spaces: Collection[str]) -> Mapping[str, Head]:
        """Return the heads of those of ``spaces`` that there are."""
        with self.watched(connection := self._listening()):
            rows = connection.execute(_HEADS, (list(spaces),)).fetchall()
        return {str(space): Head(str(epoch), int(str(head))) for space, epoch, head in rows}

    def tell(self, spaces: Collection[str]) -> float:
        """Tell of all of them at once."""
        names = " ".join(spaces)
        said = names if len(names) <= _MOST else _MANY
        with self.watched(connection := self._listening()):
            connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, said))
        return _TELL_EVERY

    def rest(self) -> None:
        """Close the connection: whatever others tell from now on is lost."""
        connection, self._connection = self._connection, None
        ends, self._ends = self._ends, None
        for one in (connection, *(ends or ())):
            if one is not None:
                one.close()
        self._is_lost = True

    def _listening(self) -> Connection:
        """Return the connection; what was told before it listened was lost."""
        if self._connection is None or self._connection.closed:
            self._is_lost = True
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> Connection:
        """Return a new connection, which listens."""
        connection = self.connect()
        try:
            connection.add_notify_handler(self._take)
            with self.watched(connection):
                # What is told may be lost with the server: nobody waits for the disk.
                connection.execute("SET synchronous_commit = off")
                connection.execute(f"LISTEN {_CHANNEL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _sleep(self, connection: Connection | None, seconds: float) -> None:
        if self._ends is None:
            self._ends = socket.socketpair()
            for end in self._ends:
                end.settimeout(0)
        ours = self._ends[1]
        if not self._is_woken:
            with selectors.DefaultSelector() as waiting:
                waiting.register(ours, selectors.EVENT_READ)
                if connection is not None:
                    waiting.register(connection.fileno(), selectors.EVENT_READ)
                waiting.select(seconds)
        with contextlib.suppress(BlockingIOError):
            ours.recv(1 << 10)
        self._is_woken = False  # who woke it in between has changed something that is looked at next

    def _hear(self, connection: Connection) -> None:
        wire = connection.pgconn
        wire.consume_input()
        while (told := wire.notifies()) is not None:
            self._hear_of(told.be_pid, told.extra.decode())

    def _take(self, told: psycopg.Notify) -> None:
        self._hear_of(told.pid, told.payload)

    def _hear_of(self, process: int, names: str) -> None:
        connection = self._connection
        if connection is None or process != connection.pgconn.backend_pid:  # not this one's own
            self._heard.update(names.split(" "))
