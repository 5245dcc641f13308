"""Who wants to know at once that this process has committed something to a file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from weakref import WeakKeyDictionary


class Commits:
    """Tells of commits on a database's connections, in the thread that commits.

    It is told of those that go by Peewee, which are nearly all. Others, and those of other processes, are
    found by a look. What has changed no row is none.
    """

    def __init__(self) -> None:
        self._told: tuple[Callable[[], object], ...] = ()
        self._changing = threading.RLock()
        self._changes: WeakKeyDictionary[sqlite3.Connection, int] = WeakKeyDictionary()

    def watch(self, tell: Callable[[], object]) -> None:
        """Call ``tell``, which returns at once and raises nothing, after each commit."""
        with self._changing:
            self._told = (*self._told, tell)

    def unwatch(self, tell: Callable[[], object]) -> None:
        """Call it no more."""
        with self._changing:
            self._told = tuple(each for each in self._told if each != tell)

    def note(self, connection: sqlite3.Connection) -> None:
        """Tell of a commit, if something was executed on the connection that has left no transaction open."""
        changes = connection.total_changes
        if self._changes.get(connection, 0) != changes and not connection.in_transaction:
            self._changes[connection] = changes
            for tell in self._told:
                tell()
