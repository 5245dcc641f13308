"""Writing SQLite's log back into its file, beside whoever reads and writes; none of them waits for it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection
from contextlib import closing
from logging import Logger, getLogger
from pathlib import Path

from statesync.sqlite import forks

logger: Logger = getLogger(__name__)


def write_back(path: Path) -> None:
    """Write back what is in the log of the database at ``path``, on a connection of its own.

    A failure is logged and no more: nothing is lost, and the next commit that finds the log long tries again.
    """
    writing = _WritingBack(path)
    forks.holds_file(writing)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            writing.connections = (connection,)
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            writing.connections = ()
    except sqlite3.Error:
        logger.warning("the log of %s could not be written back", path.name, exc_info=True)
    finally:
        forks.lets_go(writing)  # the traceback may be kept, and what is here with it


class _WritingBack:
    """A writing back that is under way: a process that is forked meanwhile must not open the file."""

    def __init__(self, path: Path, connections: Collection[sqlite3.Connection] = ()) -> None:
        self.path, self.connections = path, connections
        self.thread = threading.get_ident()

    def held_file(self) -> Path:
        return self.path

    def held_connections(self) -> Collection[sqlite3.Connection]:
        return self.connections

    def is_at_rest(self) -> bool:
        return self.thread == threading.get_ident()

    def begin_anew(self) -> None:
        self.connections = ()
