"""Beginning to watch a hub's database: the one module that knows both ways."""

from __future__ import annotations

from statesync.hub.db.database import Database
from statesync.hub.db.file.pool import SqlitePool
from statesync.hub.db.server.pool import PostgresPool, detach
from statesync.hub.signals.files import FileObserver
from statesync.hub.signals.servers import ServerObserver
from statesync.hub.signals.watch import Observer, Watch
from statesync.sqlite import forks


def watch_over(database: Database) -> Watch:
    """Return the watch of a hub over its database. It asks for nothing before somebody waits or pushes."""
    watch = Watch(_observer_of(database))
    forks.begins_anew(watch)
    return watch


def _observer_of(database: Database) -> Observer:
    pool = database.pool
    if isinstance(pool, SqlitePool):
        return FileObserver(pool.apart)
    if isinstance(pool, PostgresPool):
        return ServerObserver(pool.open_apart, pool.watched_apart, detach)
    raise TypeError(f"{pool!r} is neither of the databases that a hub can have")
