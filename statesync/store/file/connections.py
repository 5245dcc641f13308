"""Peewee's database as a device uses it: a connection a thread, and one that goes from session to session.

A new connection reads the whole schema and compiles every statement anew: a sixth of the time of a sync
with nothing to do. So a session leaves its connection to the next one.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from peewee import OperationalError, SqliteDatabase

from statesync.sqlite import forks
from statesync.store.file.aside import Aside, roll_back_what_is_open
from statesync.store.file.commits import Commits
from statesync.store.file.held import HeldFiles
from statesync.store.file.log_length import LogLength, lengthen
from statesync.store.file.tenure import Tenure

_SETTINGS = (
    "connect_params",
    "_pragmas",
    "_functions",
    "_aggregates",
    "_collations",
    "_window_functions",
    "_extensions",
    "_attached",
)
"""What Peewee opens a connection with."""

_PATIENCE_MS = 100
"""Milliseconds that a session waits for another writer before it looks whether it may wait any longer."""

_LITTLE = -4000
"""The cache of a session that fills an empty table, as SQLite's pragma says it: KiB."""


class Connection(sqlite3.Connection):
    """A connection that can be held weakly: a thread that ends without closing its own has closed it."""


class DeviceDatabase(SqliteDatabase):
    """Keeps the connection of a session that went well, as long as another thread has one open.

    So a program that has closed its own connections has closed the file, and the file has all the data.
    ``_connect`` and ``_close`` are called under Peewee's lock. A session that was left behind keeps its
    connection until its thread comes back, and the next session has another one.
    """

    connect_params: dict[str, Any]
    _functions: dict[str, Any]
    _timeout: float
    _lock_type: str
    _state: Any

    def __init__(self, path: str, **settings: Any) -> None:
        self.commits: Commits = Commits()
        self._forget_connections()
        super().__init__(path, **{"factory": Connection, **settings})
        forks.holds_file(self)

    def held_file(self) -> Path:
        """Return the path of the file."""
        return _path(str(self.database))

    def held_connections(self) -> Collection[sqlite3.Connection]:
        """Return every connection that is open, of any thread."""
        found = [reference() for reference in self._open.valuerefs()]
        return [connection for connection in found if connection is not None]

    def is_at_rest(self) -> bool:
        """Tell whether no thread but the calling one has a connection."""
        mine = None if self.is_closed() else self.raw_connection()
        return all(connection is mine or connection is self._spare for connection in self.held_connections())

    def begin_anew(self) -> None:
        """Begin without connections in a forked process: what there is belongs to its parent."""
        self._forget_connections()
        self.commits = Commits()
        self._lock = threading.Lock()  # Peewee's, which a thread may have held that is not there
        self.dispose()

    def _forget_connections(self) -> None:
        self._session_thread: int | None = None
        self._session: sqlite3.Connection | None = None
        self._spare: sqlite3.Connection | None = None
        self._open: WeakValueDictionary[int, sqlite3.Connection] = WeakValueDictionary()
        self._tenures: dict[sqlite3.Connection, Tenure] = {}
        self._files = HeldFiles()
        self._aside = Aside(self)
        self._swapping = threading.Lock()
        self._opened_with: tuple[object, ...] = ()
        self._others = 0
        self._is_sound = True
        self._cached: int | None = None
        self._log = LogLength()

    def rollback(self) -> None:
        """Roll back, unless SQLite has done so by itself, as it does where a disk is full."""
        if self.raw_connection().in_transaction:
            super().rollback()

    def raw_connection(self) -> sqlite3.Connection:
        """Return the calling thread's connection, opened if need be."""
        connection: sqlite3.Connection = self.connection()  # type: ignore[no-untyped-call]
        return connection

    def connect_session(self, tenure: Tenure) -> None:
        """Give the calling thread the session's connection; a store runs one session at a time.

        Nothing is committed on it once ``tenure`` is over.
        """
        self._session = None  # one that is still there is that of a session that was left behind
        self._session_thread, self._is_sound = threading.get_ident(), True
        try:
            self.connect()
            self._tenures[self._state.conn] = tenure
        finally:
            if self._session is None:
                self._session_thread = None

    def close_session(self) -> None:
        """Close the calling thread's connection, a session's; what is open on it is rolled back."""
        roll_back_what_is_open(self)
        self.close()

    def interrupt_session(self) -> None:
        """Let the statement fail that runs on the session's connection. From another thread."""
        if self._session is not None:
            self._session.interrupt()

    def aside(self) -> AbstractContextManager[None]:
        """Run code of the program's in a session's thread, on a connection that is not the session's."""
        return self._aside.block(within=False)

    @property
    def is_aside(self) -> bool:
        """Whether the calling thread is a session's, and in such code."""
        return self._aside.is_in

    def leave_aside(self) -> None:
        """Close the connections that such code has opened in the calling thread."""
        self._aside.leave()

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction. A session waits for another writer no longer than its time allows.

        Where the main thread waits, it hears Ctrl-C.
        """
        tenure = self._tenures.get(self._state.conn)
        if lock_type == "DEFERRED":
            super().begin(lock_type)
            return
        if tenure is None:
            with self._short_waits() as until:
                while not self._begins(lock_type, until):
                    pass
            return
        until = time.monotonic() + self._timeout
        while True:
            tenure.check()
            try:
                self._state.conn.execute(f"BEGIN {lock_type or self._lock_type}")
            except sqlite3.OperationalError as error:
                is_over = time.monotonic() >= tenure.may_wait_until(until)
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or is_over:
                    raise
            else:
                return

    @contextmanager
    def _short_waits(self) -> Iterator[float]:
        """Let the main thread wait for other writers for short times only; give when it has waited enough.

        Python hears a signal between two calls of SQLite's, and not within one.
        """
        if threading.current_thread() is not threading.main_thread():
            yield 0.0
            return
        connection = self.raw_connection()
        (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {min(patience, _PATIENCE_MS)}")
        try:
            yield time.monotonic() + patience / 1000
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience}")

    def _begins(self, lock_type: str | None, until: float) -> bool:
        """Begin a transaction; return False if another writer is in the way, and may be waited for."""
        try:
            super().begin(lock_type)
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= until:
                raise
            return False
        return True

    def commit(self) -> None:
        """Commit; what a session has written only while it still is its thread's."""
        tenure = self._tenures.get(self._state.conn)
        if tenure is None:
            super().commit()
        else:
            with tenure.held():
                super().commit()
        self.commits.note(self._state.conn)

    def execute_sql(self, sql: str, params: Any = None) -> sqlite3.Cursor:
        """Execute a statement; outside of a transaction it is committed."""
        peewees: Any = super()
        cursor: sqlite3.Cursor = peewees.execute_sql(sql, params)
        self.commits.note(cursor.connection)
        return cursor

    def check_in_place(self) -> None:
        """Raise ``StoreError`` if the path does not lead to the file that the thread's connection is of."""
        self._files.check(self.database, (self._state.conn,))

    def distrust(self) -> None:
        """Close the connection of the session that runs now when it ends: SQLite has raised an error."""
        self._is_sound = False

    def put_off_checkpoint(self) -> None:
        """Let the session that runs now end before SQLite's log is written back into the file."""
        if self._session is not None:
            self._log.put_off(self._session)

    def spare_memory(self) -> None:
        """Let the session that runs now keep little of the file in memory: it reads none of it again.

        The next one has as much as ever.
        """
        if self._session is not None and self._cached is None:
            (self._cached,) = self._session.execute("PRAGMA main.cache_size").fetchone()
            self._session.execute(f"PRAGMA main.cache_size = {_LITTLE}")

    def drop_spare(self) -> None:
        """Close the connection that is kept for the next session, when the last one's log is written back."""
        self._log.wait()
        spare = self._swap_spare(None)
        if spare is not None:
            self._shut(spare)

    def _shut(self, connection: sqlite3.Connection) -> None:
        self._open.pop(id(connection), None)
        super()._close(connection)  # type: ignore[misc]
        self._files.let_go(self.held_file(), connection, is_last=not self._open)

    def _swap_spare(self, new: sqlite3.Connection | None) -> sqlite3.Connection | None:
        with self._swapping:
            old, self._spare = self._spare, new
        return old

    def _connect(self) -> sqlite3.Connection:
        forks.check_not_inherited(self.held_file())
        if threading.get_ident() != self._session_thread or self._session is not None:
            connection = self._connect_anew()
            self._others += 1
            if self._aside.is_within:  # the session that it would wait for waits for it
                connection.execute("PRAGMA busy_timeout = 0")
            return connection
        now = self._settings()
        if self._opened_with != now:
            self.drop_spare()
            self._opened_with = tuple(map(copy, now))
        self._session = self._swap_spare(None) or self._connect_for_any_thread()
        return self._session

    def _settings(self) -> tuple[object, ...]:
        """Return what the program may have changed since a connection was opened."""
        return tuple(vars(self)[name] for name in _SETTINGS)

    def _set_pragmas(self, connection: sqlite3.Connection) -> None:
        """Set what every connection is opened with.

        The first one switches a fresh file to its log, for which SQLite does not wait. So where several open
        it at once, each waits for the one that writes, and tries again.
        """
        until, is_set = time.monotonic() + self._timeout, False
        while not is_set:
            try:
                super()._set_pragmas(connection)  # type: ignore[misc]
                is_set = True
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")

    def _connect_for_any_thread(self) -> sqlite3.Connection:
        params, functions = self.connect_params, self._functions
        self.connect_params = {**params, "check_same_thread": False}
        self._functions = {
            name: (self._aside.calling(one), *more) for name, (one, *more) in functions.items()
        }
        try:
            connection = self._connect_anew()
        finally:
            self.connect_params, self._functions = params, functions
        lengthen(connection)
        patience = min(_PATIENCE_MS, int(1000 * self._timeout))
        connection.execute(f"PRAGMA busy_timeout = {patience}")
        # Once: setting a flag of SQLite's, even to what it is, compiles every statement anew.
        connection.execute("PRAGMA foreign_keys = OFF")
        return connection

    def _connect_anew(self) -> sqlite3.Connection:
        self._files.check(self.database, self.held_connections())
        connection: sqlite3.Connection = super()._connect()  # type: ignore[misc]
        self._open[id(connection)] = connection
        self._files.hold(self.held_file(), connection)
        return connection

    def _close(self, connection: sqlite3.Connection) -> None:
        is_of_session = self._tenures.pop(connection, None) is not None
        if connection is self._session:
            self._session = self._session_thread = None
            cached, self._cached = self._cached, None
            self._write_back(connection)
            if self._others and self._is_sound:
                if cached is not None:
                    connection.execute(f"PRAGMA main.cache_size = {cached}")
                connection.execute("PRAGMA shrink_memory")
                self._swap_spare(connection)
                return
        elif not is_of_session:
            self._others -= 1
            if not self._others:
                self.drop_spare()
        self._shut(connection)

    def _write_back(self, connection: sqlite3.Connection) -> None:
        """Begin what was put off. Without another connection, closing this one does it."""
        is_put_off = self._log.is_put_off() and self._others
        if is_put_off and self._files.is_in_place(self.held_file(), connection):
            self._log.begin(connection, Path(self.database))
        else:
            self._log.forget()


@lru_cache(maxsize=64)
def _path(name: str) -> Path:
    return Path(name)
