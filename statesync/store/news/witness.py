"""Sees what the library writes while somebody observes the store, and tells it once it is committed.

``known`` are the signs of the last state whose news are told, or on their way. They move with each commit of
the library's, under the lock that is held while it commits: whoever finds other signs finds what the program
or another process has done.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from logging import Logger, getLogger
from weakref import WeakKeyDictionary, WeakSet

from attrs import field

from statesync.classes import define
from statesync.errors import StoreError
from statesync.store.file.database import Database
from statesync.store.news import taps
from statesync.store.news.signs import Missed, Rows, Signs, missed_between, read_signs, reshaped
from statesync.store.news.taps import Noted
from statesync.store.outbox.signs import keys_logged
from statesync.store.parts import StoreParts

logger: Logger = getLogger(__name__)

_JOINED = ""
"""No object's name: the mark of a transaction of the program's that the library has had a part in."""


_PATIENCE = 1.0
"""Seconds after which what is found is told, also if a transaction of the program's may tell of it better."""


class _OfThread(threading.local):
    is_in = False
    """Whether the thread is in a transaction of the library's own."""


@define(eq=False)
class _Joined:
    """A transaction of the program's that the library has had a part in, or several."""

    reached: dict[str, Signs] = field(factory=dict)
    """The signs at the end of each part, by the part's mark, which is undone with it."""
    seen: float | None = None
    """Since when its commit may have been seen."""


class StoreWitness:
    """The witness of one store. ``tell`` gets what was written, after its commit, in the writer's thread."""

    def __init__(self, parts: StoreParts, tell: Callable[[Noted], object]) -> None:
        self._parts, self._tell = parts, tell
        self._database: Database = parts.database
        self._committing = threading.RLock()  # a signal handler may write amid a commit
        self._known: Signs | None = None
        self._tapped: WeakSet[sqlite3.Connection] = WeakSet()
        self._joined: WeakKeyDictionary[sqlite3.Connection, _Joined] = WeakKeyDictionary()
        self._marks = itertools.count(1)
        self._by_hand: WeakSet[sqlite3.Connection] = WeakSet()
        """Connections whose transaction has a part of the library's, and is committed in SQL."""
        self._here = _OfThread()
        self._process = os.getpid()

    # -- for the desk ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """See whatever is committed from now on; the calling thread is in no transaction."""
        with self._committing:
            with self._database.snapshot() as connection:
                self._known = self._signs(connection)
            self._database.witness = self
        self._database.peewee.commits.watch(self._committed_by_hand)

    def end(self) -> None:
        """See nothing any more; each connection that has taps loses them when it is used next."""
        self._database.peewee.commits.unwatch(self._committed_by_hand)
        with self._committing:
            self._known = None

    def look(self) -> Noted | None:
        """Return what was committed past the library in this process since the last look.

        None where that may be a transaction that tells of its commit in a moment, with all its keys.
        """
        with self._committing:
            if self._known is None:
                return {}
            with self._database.snapshot() as connection:
                now = self._signs(connection)
                if now.others != self._known.others and self._may_be_told_better():
                    return None
                found = missed_between(self._known, now)
                noted = {name: self._keys(connection, name, rows) for name, rows in found.items()}
            self._known = now
        return noted

    # -- for the database ------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one write transaction, and tell what it has written once it is committed."""
        noted: Noted = {}
        with ExitStack() as stack:
            with self._database.peewee.atomic():
                connection = self._database.raw()
                is_observed = self._prepare(connection)
                self._here.is_in = True
                try:
                    yield connection
                finally:
                    self._here.is_in = False
                self._database.peewee.check_in_place()
                if is_observed:
                    now = self._signs(connection)
                    noted = taps.take(connection)
                    self._add_reshaped(noted, now)
                    stack.enter_context(self._committing)
            if is_observed:
                self._move(now)
        self._pass_on(noted)

    @contextmanager
    def part(self) -> Iterator[sqlite3.Connection]:
        """Run the block in the transaction that is open; the program's is told of when it has committed."""
        connection = self._database.raw()
        joined = None if self._here.is_in else self._join(connection)
        if joined is None:
            yield connection
            return
        mark = f"{next(self._marks)}"
        taps.note(connection, _JOINED, [mark])
        yield connection
        joined.reached[mark] = self._signs(connection)

    def _join(self, connection: sqlite3.Connection) -> _Joined | None:
        """Prepare a part of the program's transaction; None where nobody observes, or it commits in SQL.

        What is done in one that commits in SQL is seen by its signs, as what another process does, and what
        shows in none of them is told after its commit. Of one with several parts is told once: after the
        first of two, a look would find what came after it.
        """
        if not self._prepare(connection):
            return None
        before = self._joined.get(connection)
        if before is not None and taps.has_noted(connection, _JOINED):
            return before
        # One that was rolled back is still there: nobody hears of that.
        joined = _Joined(seen=None if before is None else before.seen)
        try:
            self._database.peewee.after_commit(partial(self._committed, connection, joined))
        except ValueError:  # Peewee's, in ``manual_commit``
            self._by_hand.add(connection)
            return None
        with self._committing:
            self._joined[connection] = joined
        return joined

    def _committed(self, connection: sqlite3.Connection, joined: _Joined) -> None:
        """Tell what a transaction of the program's has written. Raises nothing: it is committed."""
        try:
            with self._committing:
                reached = self._joined.pop(connection, joined).reached
                noted = taps.take(connection)
                marks = noted.get(_JOINED) or ()
                there = [signs for mark, signs in reached.items() if mark in marks]
                if there:
                    self._add_reshaped(noted, there[-1])
                    self._move(there[-1])
        except sqlite3.Error:
            logger.exception("what was written cannot be told by its records")
            noted = dict.fromkeys(self._parts.registry.known)
        self._pass_on(noted)

    def _may_be_told_better(self) -> bool:
        """Tell whether a transaction of the program's may be what was committed: it tells of it right after.

        Of one that was rolled back nobody hears. So this is so for a second at most.
        """
        now = time.monotonic()
        for connection, joined in [*self._joined.items()]:
            if joined.seen is None:
                joined.seen = now
            elif now - joined.seen > _PATIENCE:
                del self._joined[connection]
        return bool(self._joined)

    def _committed_by_hand(self) -> None:
        """Tell what was noted in a transaction that is committed in SQL. In its thread; raises nothing."""
        if not self._by_hand:
            return
        try:
            connection = self._database.raw()
            if connection in self._joined or connection not in self._by_hand:
                return
            self._by_hand.discard(connection)
            noted = taps.take(connection)
        except (sqlite3.Error, StoreError):
            logger.exception("what was written cannot be told by its records")
            noted = dict.fromkeys(self._parts.registry.known)
        self._pass_on(noted)

    def _add_reshaped(self, noted: Noted, now: Signs) -> None:
        """Of a table that was made anew nobody has noted all."""
        if self._known is not None:
            noted.update(dict.fromkeys(reshaped(self._known, now)))

    def _move(self, now: Signs) -> None:
        if self._known is not None:
            self._known = now

    def _pass_on(self, noted: Noted) -> None:
        noted.pop(_JOINED, None)
        if noted:
            self._tell(noted)

    # -- on a connection -------------------------------------------------------------------------------

    def _prepare(self, connection: sqlite3.Connection) -> bool:
        """Tap the connection, and note what has come before; False where nobody observes the store."""
        if os.getpid() != self._process:  # a forked one: whoever observes is in its parent
            return False
        known = self._known
        if known is None or not self._parts.registry.is_ready:
            self._leave(connection)
            return False
        self._tap(connection)
        self._note_what_came(connection, known)
        return True

    def _tap(self, connection: sqlite3.Connection) -> None:
        objects = self._parts.registry.refresh(connection)
        there, wanted = taps.found(connection), taps.wanted(objects)
        if there != wanted or connection not in self._tapped:
            taps.remove(connection, there)
            taps.install(connection, objects)
            self._tapped.add(connection)

    def _leave(self, connection: sqlite3.Connection) -> None:
        """Take the taps off a connection, and let the database go once none is left."""
        if connection in self._tapped:
            there = taps.found(connection)
            taps.remove(connection, there)
            if not there:  # not before that is committed
                self._tapped.discard(connection)
        with self._committing:
            if self._known is None and not self._tapped:
                self._database.witness = None

    def _note_what_came(self, connection: sqlite3.Connection, known: Signs) -> None:
        """Note what was committed, or written in this transaction, past the library: a fold may follow.

        In a transaction of the program's of which the library has had a part before, that is all in the logs.
        """
        now = self._signs(connection)
        found: Missed
        if taps.has_noted(connection, _JOINED):
            found = {name: Rows(0, rows) for name, rows in now.logs.items()}
        else:
            found = missed_between(known, now)
        for name, rows in found.items():
            taps.note(connection, name, self._keys(connection, name, rows))

    def _keys(self, connection: sqlite3.Connection, name: str, rows: Rows | None) -> set[str] | None:
        if rows is None or rows.up_to - rows.after > 10 * taps.MOST:
            return None
        tracked = self._parts.registry.known[name]
        return taps.as_keys(keys_logged(connection, tracked, rows.after, rows.up_to))

    def _signs(self, connection: sqlite3.Connection) -> Signs:
        self._parts.registry.refresh(connection)
        return read_signs(connection, self._parts.registry.known)
