"""The connections of a hub to its SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee

from statesync.errors import UsageError
from statesync.hub.db.failures import WrongFile
from statesync.hub.db.file.held import Apart, HeldFile
from statesync.hub.db.pool import PooledDatabase, TooManyConnections
from statesync.sqlite import forks

_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",  # what a device was told is accepted has to survive a power cut
    "cache_size": -8192,  # KiB
    "wal_autocheckpoint": 32_000,  # pages: from here on commits write back what Checkpoints did not
}


class SqlitePool(PooledDatabase[sqlite3.Connection], peewee.SqliteDatabase):
    """The connections to one file, which has to be there: a hub never makes a file by opening it."""

    def __init__(self, address: str, **settings: Any) -> None:
        self._path = Path(address).absolute()  # whoever runs in another folder later means this one
        super().__init__(address, **settings)
        self.apart: Apart = Apart(
            self._path, self.check_in_place, self._open, self._shut, lambda: self._doubts
        )
        forks.holds_file(self.apart)

    def close_all(self) -> None:
        """Close every connection, also the one that is kept apart."""
        self.apart.shut()
        super().close_all()

    def held_file(self) -> Path:
        """Return the path of the file."""
        return self._path

    def held_connections(self) -> Collection[sqlite3.Connection]:
        """Return every connection that is open."""
        return [some[0] for some in (*self._idle, *self._lent.values()) if some is not None]

    def is_at_rest(self) -> bool:
        """Tell whether no thread but the calling one has a connection."""
        return self._lent.keys() <= {threading.get_ident()}

    def rollback(self) -> None:
        """Roll back, unless SQLite has done so by itself, as it does where a disk is full."""
        if self._mine().in_transaction:
            super().rollback()

    @contextmanager
    def at_once(self) -> Generator[sqlite3.Connection | None]:
        """Lend a connection that waits for no other one, and for no lock of another program's.

        Gives None where there is none.
        """
        try:
            self._connect_at_once()
        except (TooManyConnections, WrongFile, peewee.PeeweeException, sqlite3.Error, UsageError):
            yield None
            return
        waits = f"PRAGMA busy_timeout = {round(1000 * self._patience)}"
        connection = self._mine()
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            yield connection
        finally:
            connection.execute(waits)
            self.close()

    def _connect_at_once(self) -> None:
        thread = threading.get_ident()
        self._hurried.add(thread)
        try:
            self.connect()
        finally:
            self._hurried.discard(thread)

    def begin_part(self) -> None:
        """Begin a part of the transaction that is open, which can be undone by itself."""
        self._mine().execute("SAVEPOINT part")

    def end_part(self) -> None:
        """End the part; what it did belongs to the transaction."""
        self._mine().execute("RELEASE part")

    def undo_part(self) -> bool:
        """Undo what the part did; return False if SQLite has undone the whole transaction by itself."""
        if not self._mine().in_transaction:
            return False
        self._mine().execute("ROLLBACK TO part")
        self.end_part()
        return True

    def check_in_place(self) -> None:
        """Raise ``WrongFile`` if the path does not lead to the file that is open."""
        self._held.check()

    def is_in_place(self) -> bool:
        """Tell whether the path leads to the file that is open, if one is."""
        return self._held.is_in_place()

    def _forget_connections(self) -> None:
        super()._forget_connections()
        self._held = HeldFile(self._path)

    def _take_idle(self) -> tuple[sqlite3.Connection, int] | None:
        try:
            self.check_in_place()
        except WrongFile as error:
            if error.failure.is_lasting:
                self.distrust()
            raise
        return super()._take_idle()

    def _open(self) -> sqlite3.Connection:
        connection = self._held.open(self._connected)
        try:
            for name, value in _PRAGMAS.items():
                connection.execute(f"PRAGMA {name} = {value}")
        except BaseException:
            self._shut(connection)
            raise
        self._held.note_log()
        return connection

    def _connected(self) -> sqlite3.Connection:
        path = self.held_file()
        forks.check_not_inherited(path)
        return sqlite3.connect(
            f"{path.as_uri()}?mode=rw",
            uri=True,
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,  # connections go from thread to thread, to one at a time
            **self.connect_params,
        )

    def _shut(self, connection: sqlite3.Connection) -> None:
        self._held.shut(connection)

    def _is_alive(self, _connection: sqlite3.Connection) -> bool:
        return True

    def _is_at_peace(self, connection: sqlite3.Connection) -> bool:
        return not connection.in_transaction
