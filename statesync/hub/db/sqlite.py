"""The hub on SQLite: one file, one writer at a time, readers beside it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain

from attrs import define, field
from playhouse.pool import PooledSqliteDatabase  # type: ignore[import-untyped]

from statesync.hub.db.checkpoints import Checkpoints
from statesync.hub.db.database import Database, FeedRow, Pool, Statement, Stored, Written
from statesync.hub.errors import refused

_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",  # what a device was told is accepted has to survive a power cut
    "cache_size": -65536,  # KiB
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


class SqliteDialect:
    """Prepared statements run once a record: in one process they cost no round trip."""

    read_mode: str = "DEFERRED"
    write_mode: str | None = "IMMEDIATE"
    text_type: str = "TEXT"
    row_lock: str = ""  # BEGIN IMMEDIATE already holds the whole file
    key_order: str = "key"
    data_bytes: str = "length(CAST(data AS BLOB))"

    def find(
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
                (space, record.object, record.key, record.version, writer, record.deleted, record.data)
                for record in records
            ),
        )

    def merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        """Leave the merging to SQLite, which reads the feeds side by side."""
        sql = " UNION ALL ".join(sql for sql, _ in feeds)
        return f"{sql} ORDER BY version LIMIT ?", [*chain.from_iterable(some for _, some in feeds), limit]

    def page(
        self, pool: Pool, feeds: Sequence[Statement], limit: int, max_bytes: int
    ) -> tuple[list[FeedRow], bool]:
        """Step through the feeds until the page is full; rows past it are never read."""
        rows = pool.cursor().execute(*self.merged(feeds, limit + 1))
        return _fill_page(rows, limit, max_bytes)


def make_private(path: str) -> None:
    """Make the file at ``path``, if there is none, so that nobody but its owner reads it.

    SQLite gives the files beside it the same rights. Where it cannot be made, SQLite will say so.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def open_sqlite(path: str, connections: int, patience: float) -> Database:
    """Return the hub database in the file at ``path``, which is made when it is first used."""
    pool = PooledSqliteDatabase(
        path,
        pragmas={"busy_timeout": round(patience * 1000), **_PRAGMAS},
        max_connections=connections,
        timeout=patience,
        check_same_thread=False,  # the pool hands a connection from thread to thread, to one at a time
    )
    checkpoints = Checkpoints(path)
    return Database(pool, SqliteDialect(), _WriterLock(patience, checkpoints), checkpoints.close)


@define(eq=False)
class _WriterLock:
    """Lets in one writer of a process after the other.

    SQLite would let each of them ask again and again, with pauses. Of eight writers the unluckiest waited
    half a second that way; in line it waits 30 ms.
    """

    patience: float
    checkpoints: Checkpoints
    lock: threading.Lock = field(factory=threading.Lock)

    def __enter__(self) -> None:
        if not self.lock.acquire(timeout=self.patience):
            raise refused(503, "busy", "the hub has too many writes under way; try again", 1)

    def __exit__(self, *_error: object) -> None:
        self.checkpoints.note_write()
        self.lock.release()


def _find_whole(
    pool: Pool, space: str, name: str, keys: list[str], found: dict[tuple[str, str], Stored], left: int
) -> int:
    """Add records of one object to those ``found`` until none of ``left`` bytes is left; return what is."""
    with closing(pool.cursor()) as cursor:
        rows = cursor.execute(_FIND_WHOLE, (json.dumps(keys), space, name))
        for _, key, version, writer, deleted, data in rows:
            found[name, key] = Stored(version, writer, bool(deleted), data)
            left -= _size(data)
            if left <= 0:
                break
    return left


def _size(text: str | None) -> int:
    """Return how many bytes a text has; most are ASCII, and Python knows that of a text."""
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _fill_page(rows: Iterator[FeedRow], limit: int, max_bytes: int) -> tuple[list[FeedRow], bool]:
    """Take the rows that fit into a page, reading no further; tell whether more follow."""
    taken: list[FeedRow] = []
    size = 0
    for row in rows:
        if len(taken) == limit or size >= max_bytes:
            return taken, True
        taken.append(row)
        size += _size(row[4])
    return taken, False
