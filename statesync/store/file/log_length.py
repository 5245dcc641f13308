"""How long SQLite's log becomes amid a session, and how it is written back after one.

SQLite writes its log back into the file with the commit that makes it too long. A session lets it become
longer than the program does. That saves a tenth of a large download, because a page that is written twice
meanwhile is written back once. After a large session a thread writes the log back, so nobody waits.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from statesync.classes import define
from statesync.sqlite.wal import write_back
from statesync.threads import Task, threads

_TIMES = 4
"""How many times longer than the program's own a session's log may become: 16 MB if the program sets none."""


@define(eq=False)
class LogLength:
    """The log of the file that a database's sessions write to, one after the other."""

    _put_off: int | None = None
    """The pages from which on a commit of this session would have written the log back."""
    _writing_back: Task | None = None

    def put_off(self, connection: sqlite3.Connection) -> None:
        """Let the session end before the log is written back into the file.

        A program that writes it back by itself, and has told SQLite so (0 pages), goes on doing that.
        """
        if self._put_off is None:
            self._put_off = _limit(connection) or None
            _set_limit(connection, 0)

    def is_put_off(self) -> bool:
        """Tell whether a writing back was put off, and is not begun."""
        return self._put_off is not None

    def begin(self, connection: sqlite3.Connection, file: Path) -> None:
        """Begin what was put off, in a thread, unless one is at it still."""
        pages, self._put_off = self._put_off, None
        if pages is None:
            return
        _set_limit(connection, pages)
        if self._writing_back is None or self._writing_back.wait(0):
            task = Task(lambda: write_back(file), "statesync-checkpoint")
            self._writing_back = task if threads.try_to_start(task) else None

    def forget(self) -> None:
        """Leave the log as it is: who closes the file's last connection writes it back."""
        self._put_off = None

    def wait(self) -> None:
        """Wait for the writing back that is under way."""
        writing, self._writing_back = self._writing_back, None
        if writing is not None:
            writing.wait()


def lengthen(connection: sqlite3.Connection) -> None:
    """Let a session's commits write the log back later than the program's."""
    _set_limit(connection, _TIMES * _limit(connection))


def _limit(connection: sqlite3.Connection) -> int:
    """Return the pages from which on a commit on this connection writes the log back; 0: none does."""
    (pages,) = connection.execute("PRAGMA wal_autocheckpoint").fetchone()
    return int(pages)


def _set_limit(connection: sqlite3.Connection, pages: int) -> None:
    connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
