"""Records in a SQLite file: how they are looked up, written, and read for a page.

Prepared statements run once a record: in one process they cost no round trip.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, islice
from pathlib import Path

from statesync.hub.db.database import (
    PROBE_BYTES,
    FeedRow,
    Finding,
    Pool,
    Statement,
    Stored,
    Written,
    size_of,
)
from statesync.hub.db.failures import NEARLY_FULL
from statesync.hub.errors import BadDatabase, HubError
from statesync.hub.limits import Allowance, Room

_FIND = """
SELECT object, record.key, version, writer, deleted, {data}, record.rowid FROM json_each(?) AS wanted
CROSS JOIN record ON space = ? AND object = ? AND record.key = wanted.value
"""
_FIND_WHOLE, _FIND_BARE = _FIND.format(data="data"), _FIND.format(data="NULL")
_WRITE = """
INSERT INTO record (space, object, key, version, writer, deleted, data) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (space, object, key) DO UPDATE SET
    version = excluded.version, writer = excluded.writer, deleted = excluded.deleted, data = excluded.data
"""
# By its key each record would be looked for once more: a third of the time, where there are a million.
_WRITE_IN_PLACE = (
    "UPDATE record SET version = ?, writer = ?, deleted = ?, data = ? WHERE rowid = ? AND space = ?"
)

# A device's begin like that.
_OWN_TABLES = "SELECT name FROM sqlite_master WHERE name = 'hub_meta' OR name GLOB 'statesync[_]*'"

_PROBE = """
INSERT INTO hub_meta VALUES ('ready', randomblob(?)) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_FORGET_PROBE = "DELETE FROM hub_meta WHERE name = 'ready'"

LEAST_FREE = 1 << 20
"""Bytes of a disk without which a hub is not ready: one push of a device writes as much."""


class SqliteDialect:
    """What SQLite does in its own way."""

    read_mode: str = "DEFERRED"
    write_mode: str | None = "IMMEDIATE"
    text_type: str = "TEXT"
    row_lock: str = ""  # BEGIN IMMEDIATE already holds the whole file
    key_order: str = "key"
    data_bytes: str = "length(CAST(data AS BLOB))"
    data_for_pages: str = "CAST(data AS BLOB)"

    def check_usable(self, pool: Pool) -> None:
        """Refuse a device's database, and one in UTF-16: SQLite sorts its keys otherwise than devices do."""
        (encoding,) = pool.execute_sql("PRAGMA encoding", ()).fetchone()
        if encoding != "UTF-8":
            raise BadDatabase(
                f"the database's encoding is {encoding}, and records are UTF-8; copy it into another file "
                "with: sqlite3 OLD .dump | sqlite3 NEW"
            )
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
        (_, _, path) = pool.execute_sql("PRAGMA database_list", ()).fetchone()
        whole, _, free = shutil.disk_usage(Path(path).parent)
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
                found |= {(row[0], row[1]): Stored(row[2], row[3], bool(row[4]), *row[5:]) for row in rows}
        return found

    def write(self, pool: Pool, space: str, writer: str, records: Sequence[Written]) -> None:
        """Write the records that were found where they are, and upsert the others.

        Raises ``HubError`` where one was passed over, as a trigger of somebody else's may do.
        """
        cursor = pool.cursor()
        cursor.executemany(
            _WRITE_IN_PLACE,
            (
                (each.version, writer, each.deleted, each.text, each.row, space)
                for each in records
                if each.row is not None
            ),
        )
        written = cursor.rowcount
        cursor.executemany(
            _WRITE,
            (
                (space, each.object, each.key, each.version, writer, each.deleted, each.text)
                for each in records
                if each.row is None
            ),
        )
        passed_over = len(records) - written - cursor.rowcount
        if passed_over:
            told = f"{passed_over} of {len(records)} records were not written"
            raise HubError(f"{told}; look for triggers on the table record")

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


def _find_whole(
    pool: Pool, space: str, name: str, keys: list[str], found: dict[tuple[str, str], Stored], left: int
) -> int:
    """Add records of one object to those ``found`` until none of ``left`` bytes is left; return what is."""
    with closing(pool.cursor()) as cursor:
        rows = cursor.execute(_FIND_WHOLE, (json.dumps(keys), space, name))
        for _, key, version, writer, deleted, data, row in rows:
            found[name, key] = Stored(version, writer, bool(deleted), data, row)
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
