"""The file that a hub on SQLite holds open, and what is done when its path leads to another one.

A backup that is moved into the place of an open file finds the old file's log beside it. Whoever opens the
backup then, replays that log into it, and so damages it. So nothing is opened while the old file is in use;
whoever closes it last puts its log aside.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from pathlib import Path

from attrs import Factory, field

from statesync.classes import define
from statesync.hub.db.failures import GONE, REPLACED, WrongFile
from statesync.sqlite.identity import Identity, identity_of, logs_of, put_aside


def make_private(path: Path) -> bool:
    """Make the file at ``path``, for its owner alone; return False if it is there, or cannot be made.

    SQLite gives the files beside it the same rights, and says why it cannot use a file.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return False
    return True


@define(eq=False)
class HeldFile:
    """The file at ``path``, with how many connections are open to it."""

    path: Path
    _identity: Identity | None = None
    _logs: dict[Path, Identity | None] = field(factory=dict)
    _connections: int = 0
    _was_there: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)
    _name: str = field(init=False, default=Factory(lambda held: str(held.path), takes_self=True))
    """The path as a text, by which a file is asked for in half of the time."""

    def check(self) -> None:
        """Raise ``WrongFile`` if the path does not lead to the file that is open."""
        mine = self._identity  # another thread may close the last connection meanwhile
        if mine is None:
            return
        found = identity_of(self._name)
        if found != mine:
            raise WrongFile(GONE if found is None else REPLACED, self.path)

    def is_in_place(self) -> bool:
        """Tell whether the path leads to the file that is open, if one is."""
        mine = self._identity
        return mine is None or identity_of(self._name) == mine

    def open(self, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """Return what ``connect`` does: a connection to the file that is open already, if one is.

        Raises ``WrongFile`` if another one, or none, is at its path by now.
        """
        with self._lock:
            self.check()
            found = identity_of(self._name)
            if found is None and self._was_there:
                raise WrongFile(GONE, self.path)
            connection = connect()
            if identity_of(self._name) != found:
                connection.close()
                raise WrongFile(REPLACED, self.path)
            self._identity, self._was_there = found, True
            self._connections += 1
        return connection

    def note_log(self) -> None:
        """Take note of the files beside the one that is open, once SQLite has made them."""
        with self._lock:
            if self.is_in_place():
                self._logs = logs_of(self.path)

    def shut(self, connection: sqlite3.Connection) -> None:
        """Close a connection. With the last one, the log of a file that was replaced is put aside."""
        with self._lock:
            connection.close()
            self._connections -= 1
            if self._connections == 0:
                if not self.is_in_place() and self.path.exists():
                    put_aside(self.path, self._logs)
                self._identity = None


@define(eq=False)
class Apart:
    """A connection to the file at ``path`` that is never lent to anybody else; one thread uses it.

    ``count_doubts`` counts the times that all connections were doubted. ``opened`` counts how often this one
    was opened. A process may fork while it is there and not in use.
    """

    path: Path
    check: Callable[[], object]
    connect: Callable[[], sqlite3.Connection]
    shut_down: Callable[[sqlite3.Connection], object]
    count_doubts: Callable[[], int]
    opened: int = 0
    _kept: sqlite3.Connection | None = None
    _doubts: int = 0
    _is_used: bool = False

    @contextmanager
    def used(self) -> Generator[sqlite3.Connection]:
        """Give the connection, opened if need be; after an error it is closed. Raises ``WrongFile``."""
        self._is_used = True
        try:
            self.check()
            yield self._connection()
        except BaseException:
            self.shut()
            raise
        finally:
            self._is_used = False

    def _connection(self) -> sqlite3.Connection:
        doubts = self.count_doubts()
        if self._kept is not None and self._doubts == doubts:
            return self._kept
        self.shut()
        self._kept, self._doubts = self.connect(), doubts
        self.opened += 1
        return self._kept

    def shut(self) -> None:
        """Close it, in the thread that uses it, or when none does."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self.shut_down(kept)

    def begin_anew(self) -> None:
        """Begin without a connection in a forked process."""
        self._kept, self._is_used = None, False

    def held_file(self) -> Path:
        """Return the path of the file."""
        return self.path

    def held_connections(self) -> Collection[sqlite3.Connection]:
        """Return the connection, if it is open."""
        return [] if self._kept is None else [self._kept]

    def is_at_rest(self) -> bool:
        """Tell whether no thread uses it."""
        return not self._is_used
