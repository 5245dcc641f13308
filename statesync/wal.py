"""Writing SQLite's log back into its file, beside whoever reads and writes; none of them waits for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from logging import Logger, getLogger
from pathlib import Path

logger: Logger = getLogger(__name__)


def write_back(path: Path) -> None:
    """Write back what is in the log of the database at ``path``, on a connection of its own.

    A failure is logged and no more: nothing is lost, and the next commit that finds the log long tries again.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error:
        logger.warning("the log of %s could not be written back", path.name, exc_info=True)
