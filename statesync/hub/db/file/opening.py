"""Opening a hub's SQLite file: its connections, its writers' turns, and the reads that take no thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from statesync.classes import define
from statesync.hub.db.database import Database
from statesync.hub.db.file.checkpoints import Checkpoints, WriterLock
from statesync.hub.db.file.pool import SqlitePool
from statesync.hub.db.file.records import SqliteDialect
from statesync.hub.db.groups import Group
from statesync.sqlite import forks


def open_sqlite(path: str, connections: int, patience: float) -> Database:
    """Return the hub database in the file at ``path``, which has to be there when it is first used.

    ``connections`` is how many requests read at once; there is one more for who writes, and one for reading
    at once.
    """
    pool = SqlitePool(path, connections=connections + 2, patience=patience)
    checkpoints = Checkpoints(pool.held_file(), pool.is_in_place)
    writer_lock = WriterLock(patience, checkpoints)
    forks.holds_file(pool)
    forks.begins_anew(writer_lock)
    forks.begins_anew(checkpoints)
    database = Database(pool, SqliteDialect(), writer_lock, checkpoints.close)
    database.glances = _Glances(pool)
    database.group = Group(lambda: database.writing(), pool, patience)
    forks.begins_anew(database.group)
    return database


@define(eq=False)
class _Glances:
    """Reads in the calling thread: a few pages of the file, which takes no longer than to find a thread."""

    pool: SqlitePool

    async def ask(self, sql: str, parameters: Sequence[str]) -> Sequence[Any] | None:
        """Return the rows of one statement; None if a thread has to ask."""
        with self.pool.at_once() as connection:
            if connection is None:
                return None
            try:
                return connection.execute(sql, parameters).fetchall()
            except sqlite3.Error:  # a thread waits for what is locked, and says what fails
                return None
