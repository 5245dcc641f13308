"""The file that a hub on SQLite holds open, and what is done when its path leads to another one.

A backup that is moved into the place of an open file finds the old file's log beside it. Whoever opens the
backup then, replays that log into it, and so damages it. So nothing is opened while the old file is in use;
whoever closes it last puts its log aside.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from attrs import Factory, define, field

from statesync.hub.db.failures import GONE, REPLACED, WrongFile
from statesync.sqlite.identity import Identity, identity_of, logs_of, put_aside


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
