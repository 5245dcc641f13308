"""Peewee's database as a device uses it: a connection a thread, and one that goes from session to session.

Opening a connection reads the whole schema, and every statement is compiled anew on it: a sixth of what a
sync with nothing to do takes. So a session leaves its connection to the next one.
"""

from __future__ import annotations

import sqlite3
import threading
from copy import copy
from typing import Any

from peewee import SqliteDatabase

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


class DeviceDatabase(SqliteDatabase):
    """Keeps the connection of a session that went well, as long as another thread has one open.

    So a program that has closed its own connections has closed the file. ``_connect`` and ``_close`` are
    called under Peewee's lock.
    """

    def __init__(self, path: str, **settings: Any) -> None:
        self._session_thread: int | None = None
        self._session: sqlite3.Connection | None = None
        self._spare: sqlite3.Connection | None = None
        self._swapping = threading.Lock()
        self._opened_with: tuple[object, ...] = ()
        self._others = 0
        self._is_sound = True
        super().__init__(path, **settings)

    def connect_session(self) -> None:
        """Give the calling thread the session's connection; a store runs one session at a time."""
        self._session_thread, self._is_sound = threading.get_ident(), True
        try:
            self.connect()
        finally:
            if self._session is None:
                self._session_thread = None

    def distrust(self) -> None:
        """Leave the connection of the session that runs now to no other: an error has come of one."""
        self._is_sound = False

    def drop_spare(self) -> None:
        """Close the connection that is kept for the next session, if there is one."""
        spare = self._swap_spare(None)
        if spare is not None:
            spare.close()

    def _swap_spare(self, new: sqlite3.Connection | None) -> sqlite3.Connection | None:
        with self._swapping:
            old, self._spare = self._spare, new
        return old

    def _connect(self) -> sqlite3.Connection:
        if threading.get_ident() != self._session_thread:
            connection: sqlite3.Connection = super()._connect()  # type: ignore[misc]
            self._others += 1
            return connection
        now = self._settings()
        if self._opened_with != now:
            self.drop_spare()
        self._session = self._swap_spare(None) or self._connect_for_any_thread()
        self._opened_with = now
        return self._session

    def _settings(self) -> tuple[object, ...]:
        """Return what the program may have changed since a connection was opened."""
        return tuple(copy(vars(self)[name]) for name in _SETTINGS)

    def _connect_for_any_thread(self) -> sqlite3.Connection:
        params = self.connect_params
        self.connect_params = {**params, "check_same_thread": False}
        try:
            connection: sqlite3.Connection = super()._connect()  # type: ignore[misc]
            return connection
        finally:
            self.connect_params = params

    def _close(self, connection: sqlite3.Connection) -> None:
        if connection is self._session:
            self._session = self._session_thread = None
            if self._others and self._is_sound:
                connection.execute("PRAGMA shrink_memory")
                self._swap_spare(connection)
                return
        else:
            self._others -= 1
            if not self._others:
                self.drop_spare()
        super()._close(connection)  # type: ignore[misc]
