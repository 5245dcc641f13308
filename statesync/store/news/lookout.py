"""Who looks out over a scope: whether a commit has left something to send, and how much is stuck. Only reads.

SQLite counts the commits of all other connections to a file, in this process and in others
(``PRAGMA data_version``), so to ask is cheap: only after a commit is there a look at the outbox. Commits of
this process are told besides, so that nobody waits for the next look.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from attrs import evolve

from statesync.store import quarantine, spaces
from statesync.store.cursors import applied
from statesync.store.cursors.cursor import Cursor
from statesync.store.journal import batches, sessions
from statesync.store.outbox import preview, queue
from statesync.store.outbox.fold import logged
from statesync.store.outbox.queue import Mark
from statesync.store.parts import StoreParts
from statesync.store.tracking.objects import Objects
from statesync.values import Backlog, PendingChange

_NOTHING: Mark = (0, 0, 0)


class Lookout:
    """Looks over some objects of a store, or (None) over all, and over a hub's ``space``.

    ``has_news`` and ``note_offered`` are called in one thread, which keeps a connection for that.
    """

    def __init__(self, parts: StoreParts, names: tuple[str, ...] | None, space: str) -> None:
        self._parts, self._names, self._space = parts, names, space
        self._version: int | None = None
        self._offered = _NOTHING

    def watch(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` after each commit of this process, in any thread; it must return at once."""
        self._parts.database.peewee.commits.watch(tell)

    def unwatch(self, tell: Callable[[], object]) -> None:
        """Call it no more."""
        self._parts.database.peewee.commits.unwatch(tell)

    def has_news(self) -> bool:
        """Tell whether there was a commit since the last look, after which something is there to send.

        What the last session was offered and has left as it was is no news: another one would do the same.
        Raises ``StoreError`` where the database cannot be read.
        """
        database = self._parts.database
        with database.errors_mapped():
            (version,) = database.raw().execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return False
        with database.snapshot() as connection:
            objects = self._objects(connection)
            found = bool(logged(connection, objects)) or self._ready(connection) not in (
                _NOTHING,
                self._offered,
            )
        self._version = version
        return found

    def note_offered(self) -> None:
        """Take what is ready to be sent now for no news any more. Raises ``StoreError``."""
        with self._parts.database.snapshot() as connection:
            self._offered = self._ready(connection)

    def backlog(self) -> Backlog:
        """Return how much waits and is stuck; from any thread. Raises ``StoreError``."""
        with self._parts.database.snapshot() as connection:
            objects = self._objects(connection)
            found = Backlog(
                quarantined=quarantine.count_of(connection, objects),
                in_doubt=bool(batches.all_in_doubt(connection, self._space)),
                partly_read=sum(not at.is_whole for at in applied.cursors(connection, objects).values()),
            )
            if logged(connection, objects):
                return _by_why(found, preview.pending(connection, objects))
            every, contested, parked, deferred = queue.count_by_why(connection, objects)
            waiting = every - contested - parked - deferred
            return evolve(found, waiting=waiting, deferred=deferred, in_conflict=contested, parked=parked)

    def is_behind(self) -> bool:
        """Tell whether the hub is known to have more than was read here; from any thread.

        So it is while a session runs, after one that has not read all, and where an object was let go of.
        Raises ``StoreError``.
        """
        with self._parts.database.snapshot() as connection:
            if sessions.running(connection):
                return True
            objects = self._parts.registry.refresh(connection)
            wanted = set(objects) if self._names is None else set(objects) & set(self._names)
            read = applied.cursors(connection, wanted)
            head = spaces.head_of(connection, self._space)
            return any(name not in read or not self._has_read(read[name], head) for name in wanted)

    def _has_read(self, cursor: Cursor, head: int) -> bool:
        return cursor.space == self._space and cursor.rereading is None and cursor.position >= head

    def read_until(self, *, is_done: bool) -> int:
        """Return up to which head of the hub's space everything here was read; 0 for nothing.

        Where the last session is not done, it is the head that the hub has told: the next session, whenever
        that is, brings what was left. From any thread. Raises ``StoreError``.
        """
        with self._parts.database.snapshot() as connection:
            if not is_done:
                return spaces.head_of(connection, self._space)
            found = applied.cursors(connection, self._objects(connection))
            return max((each.position for each in found.values() if each.space == self._space), default=0)

    def _objects(self, connection: sqlite3.Connection) -> Objects:
        self._parts.registry.refresh(connection)
        known = self._parts.registry.known  # what waits of an object without a table waits all the same
        return known if self._names is None else {n: one for n, one in known.items() if n in self._names}

    def _ready(self, connection: sqlite3.Connection) -> Mark:
        return queue.mark_of_ready(connection, self._objects(connection), time.time())


def _by_why(found: Backlog, changes: list[PendingChange]) -> Backlog:
    contested = [change for change in changes if change.in_conflict]
    parked = [change for change in changes if change.parked and not change.in_conflict]
    deferred = [each for each in changes if each.deferred and not (each.in_conflict or each.parked)]
    others = len(changes) - len(contested) - len(parked) - len(deferred)
    return evolve(
        found,
        waiting=others,
        deferred=len(deferred),
        in_conflict=len(contested),
        parked=len(parked),
    )
