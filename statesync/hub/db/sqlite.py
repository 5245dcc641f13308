"""The hub on SQLite: one file, one writer at a time, readers beside it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import peewee
from attrs import define

from statesync.errors import UsageError
from statesync.hub.db.checkpoints import Checkpoints, WriterLock
from statesync.hub.db.database import (
    PROBE_BYTES,
    Database,
    FeedRow,
    Finding,
    Pool,
    Statement,
    Stored,
    Written,
    size_of,
)
from statesync.hub.db.failures import NEARLY_FULL, WrongFile
from statesync.hub.db.groups import Group
from statesync.hub.db.held import Apart, HeldFile
from statesync.hub.db.pool import PooledDatabase, TooManyConnections
from statesync.hub.errors import BadDatabase
from statesync.hub.limits import Allowance, Room
from statesync.sqlite import forks

_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",  # what a device was told is accepted has to survive a power cut
    "cache_size": -8192,  # KiB
    "wal_autocheckpoint": 32_000,  # pages: from here on commits write back what Checkpoints did not
}

_FIND = """
SELECT object, record.key, version, writer, deleted, {data} FROM json_each(?) AS wanted
CROSS JOIN record ON space = ? AND object = ? AND record.key = wanted.value
"""
_FIND_WHOLE, _FIND_BARE = _FIND.format(data="data"), _FIND.format(data="NULL")
_WRITE = """
INSERT INTO record (space, object, key, version, writer, deleted, data) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (space, object, key) DO UPDATE SET
    version = excluded.version, writer = excluded.writer, deleted = excluded.deleted, data = excluded.data
"""


# A device's begin like that.
_OWN_TABLES = "SELECT name FROM sqlite_master WHERE name = 'hub_meta' OR name GLOB 'statesync[_]*'"

_PROBE = """
INSERT INTO hub_meta VALUES ('ready', randomblob(?)) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_FORGET_PROBE = "DELETE FROM hub_meta WHERE name = 'ready'"

LEAST_FREE = 1 << 20
"""Bytes of a disk without which a hub is not ready: one push of a device writes as much."""


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


class SqliteDialect:
    """Prepared statements run once a record: in one process they cost no round trip."""

    read_mode: str = "DEFERRED"
    write_mode: str | None = "IMMEDIATE"
    text_type: str = "TEXT"
    row_lock: str = ""  # BEGIN IMMEDIATE already holds the whole file
    key_order: str = "key"
    data_bytes: str = "length(CAST(data AS BLOB))"
    data_for_pages: str = "CAST(data AS BLOB)"

    def check_usable(self, pool: Pool) -> None:
        """Refuse a device's database; SQLite turns texts into whatever its file is in."""
        found = {name for (name,) in pool.execute_sql(_OWN_TABLES, ()).fetchall()}
        if found and "hub_meta" not in found:
            raise BadDatabase(
                "the database is a device's; check its address, and give the hub a file of its own, which "
                "statesync hub init makes"
            )

    def check_writable(self, pool: Pool) -> None:
        """Write a row that nobody reads, and delete it: SQLite finds out only then that a disk is full.

        In a log that is written anew there may be room for one more row when there is for nothing else.
        """
        folder = Path(str(pool.database)).absolute().parent
        whole, _, free = shutil.disk_usage(folder)
        if whole and free < LEAST_FREE:
            raise NEARLY_FULL.refusal()
        pool.execute_sql(_PROBE, (PROBE_BYTES,))
        pool.execute_sql(_FORGET_PROBE, ())

    def find(self, pool: Pool, space: str, keys: Sequence[tuple[str, str]], max_bytes: int) -> Finding:
        """Look up records when they are wanted: in one process that takes no longer."""
        return partial(self._find, pool, space, keys, max_bytes)

    def _find(
        self, pool: Pool, space: str, keys: Sequence[tuple[str, str]], max_bytes: int
    ) -> Mapping[tuple[str, str], Stored]:
        """Look up all records of an object at once; from ``max_bytes`` on without reading their texts."""
        wanted: dict[str, list[str]] = {}
        for name, key in keys:
            wanted.setdefault(name, []).append(key)
        found: dict[tuple[str, str], Stored] = {}
        left = max_bytes
        for name, some in wanted.items():
            if left > 0:
                left = _find_whole(pool, space, name, some, found, left)
            if left <= 0:
                rest = json.dumps([key for key in some if (name, key) not in found])
                rows = pool.cursor().execute(_FIND_BARE, (rest, space, name))
                found |= {(row[0], row[1]): Stored(row[2], row[3], bool(row[4]), None) for row in rows}
        return found

    def write(self, pool: Pool, space: str, writer: str, records: Sequence[Written]) -> None:
        """Upsert all records with one prepared statement."""
        pool.cursor().executemany(
            _WRITE,
            (
                (space, name, key, version, writer, deleted, None if data is None else data.decode())
                for name, key, version, deleted, data in records
            ),
        )

    def merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        """Leave the merging to SQLite, which reads the feeds side by side."""
        sql = " UNION ALL ".join(sql for sql, _ in feeds)
        return f"{sql} ORDER BY version LIMIT ?", [*chain.from_iterable(some for _, some in feeds), limit]

    def page(
        self, pool: Pool, feeds: Sequence[Statement], limit: int, allowance: Allowance
    ) -> tuple[list[FeedRow], bool]:
        """Step through the feeds until the page is full; rows past it are never read."""
        rows = pool.cursor().execute(*self.merged(feeds, limit + 1))
        return _fill_page(rows, limit, allowance)

    def stretch(
        self, pool: Pool, query: Statement, limit: int, allowance: Room
    ) -> tuple[list[FeedRow], bool]:
        """Step through the rows until the page is full, as for a page of feeds."""
        return _fill_page(pool.cursor().execute(*query), limit, allowance)


def open_sqlite(path: str, connections: int, patience: float) -> Database:
    """Return the hub database in the file at ``path``, which has to be there when it is first used.

    ``connections`` is how many requests read at once; there is one more for who writes, and one for reading
    at once.
    """
    pool = SqlitePool(path, connections=connections + 2, patience=patience)
    checkpoints = Checkpoints(path, pool.is_in_place)
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


def _find_whole(
    pool: Pool, space: str, name: str, keys: list[str], found: dict[tuple[str, str], Stored], left: int
) -> int:
    """Add records of one object to those ``found`` until none of ``left`` bytes is left; return what is."""
    with closing(pool.cursor()) as cursor:
        rows = cursor.execute(_FIND_WHOLE, (json.dumps(keys), space, name))
        for _, key, version, writer, deleted, data in rows:
            found[name, key] = Stored(version, writer, bool(deleted), data)
            left -= size_of(data)
            if left <= 0:
                break
    return left


def _fill_page(rows: Iterator[FeedRow], limit: int, allowance: Room) -> tuple[list[FeedRow], bool]:
    """Take the rows that fit into a page, reading no further; tell whether more follow."""
    taken: list[FeedRow] = []
    take, size, allowed = taken.append, 0, allowance.size
    # Whatever is done for each of a thousand rows is felt.
    for row in islice(rows, limit):
        while size >= allowed:
            if not allowance.grows():
                return taken, True
            allowed = allowance.size
        take(row)
        data = row[4]
        if data:
            size += len(data)
    return taken, next(rows, None) is not None
