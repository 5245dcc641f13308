"""Who wants to know at once that this process has committed something to a file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable


class Commits:
    """Tells of commits on a database's connections, in the thread that commits.

    It is told of those that go by Peewee, which are nearly all. Others, and those of other processes, are
    found by a look. A commit too many may be told, such as one of nothing.
    """

    def __init__(self) -> None:
        self._told: tuple[Callable[[], object], ...] = ()
        self._changing = threading.RLock()

    def watch(self, tell: Callable[[], object]) -> None:
        """Call ``tell``, which returns at once and raises nothing, after each commit."""
        with self._changing:
            self._told = (*self._told, tell)

    def unwatch(self, tell: Callable[[], object]) -> None:
        """Call it no more."""
        with self._changing:
            self._told = tuple(each for each in self._told if each != tell)

    def committed(self) -> None:
        """Tell that there was a commit."""
        for tell in self._told:
            tell()

    def executed(self, cursor: sqlite3.Cursor) -> None:
        """Tell of a commit if this statement was one: it was no query, and left no transaction open."""
        if self._told and cursor.description is None and not cursor.connection.in_transaction:
            self.committed()
