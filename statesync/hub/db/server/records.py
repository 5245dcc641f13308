"""Records on a PostgreSQL server: how they are looked up, written, and read for a page.

One statement for a whole batch: each costs a round trip, so arrays travel instead of rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

from statesync.hub.db.database import (
    PROBE_BYTES,
    FeedRow,
    Finding,
    Pool,
    Statement,
    Stored,
    Written,
)
from statesync.hub.db.failures import READ_ONLY
from statesync.hub.db.pages.fitting import FEEDS, SCAN, page_of
from statesync.hub.errors import BadDatabase
from statesync.hub.limits import Allowance, Room

_ANY_LENGTH = 1 << 30
"""Bytes: PostgreSQL holds no longer text."""

_WRITTEN_AT_ONCE = 4 << 20
"""Bytes of data in one statement; as texts, and on their way to the server, they take many times as much."""

_AHEAD_KEYS, _AHEAD_BYTES = 100, 1 << 20
"""Records that are looked up before it is known that they are wanted, and bytes of them that come then."""

# This asks for the first key from here on, which can only be read in the order of the primary key.
FIND = """
SELECT found.object, found.key, found.version, found.writer, found.deleted,
    CASE WHEN octet_length(found.data) <= %s THEN found.data END, octet_length(found.data)
FROM unnest(%b::text[], %b::text[]) AS wanted (object, key)
CROSS JOIN LATERAL (
    SELECT * FROM record WHERE space = %s AND object = wanted.object AND key >= wanted.key
    ORDER BY key LIMIT 1
) AS found WHERE found.key = wanted.key
"""
# The space comes from its own row, so that a distributed database sees one machine in it, and one commit.
_WRITE = """
INSERT INTO record (space, object, key, version, writer, deleted, data)
SELECT space.space, new.object, new.key, new.version, %s::text, new.deleted, new.data
FROM space CROSS JOIN unnest(%b::text[], %b::text[], %b::bigint[], %b::boolean[], %b::text[])
    AS new (object, key, version, deleted, data)
WHERE space.space = %s
ON CONFLICT (space, object, key) DO UPDATE SET
    version = excluded.version, writer = excluded.writer, deleted = excluded.deleted, data = excluded.data
"""
# What fails here is the division: nothing has to be read from the server, so it costs no round trip.
_CHECK = """
SELECT 1 / (count(*) = %s)::int FROM record
WHERE space = %s AND object = ANY(%b::text[]) AND version BETWEEN %s AND %s
"""
# No space has such a name.
_PROBE = "INSERT INTO receipt (space, client, number, batch, answer) VALUES (' ', %s, 0, ' ', %s)"


class _Undone(Exception):
    """Rolls a transaction back in which nothing has failed."""


class PostgresDialect:
    """What PostgreSQL does in its own way."""

    read_mode: str = "REPEATABLE READ"
    write_mode: str | None = None
    text_type: str = 'TEXT COLLATE "C"'
    row_lock: str = " FOR UPDATE"
    key_order: str = 'key COLLATE "C"'
    data_bytes: str = "octet_length(data)"
    data_for_pages: str = "data"

    def check_usable(self, pool: Pool) -> None:
        """Refuse a database in any encoding but UTF-8."""
        (encoding,) = pool.execute_sql("SHOW server_encoding", ()).fetchone()
        if encoding != "UTF8":
            raise BadDatabase(
                f"the database's encoding is {encoding}, and records are UTF-8; make another database with: "
                "createdb --encoding=UTF8 --locale=C --template=template0 NAME"
            )

    def check_writable(self, pool: Pool) -> None:
        """Ask the server whether it would take a write, and write a row that is rolled back.

        It makes room for the row at once, so that a full disk shows.
        """
        (only_reads,) = pool.execute_sql("SHOW transaction_read_only", ()).fetchone()
        if only_reads == "on":
            pool.distrust()
            raise READ_ONLY.refusal()
        row = secrets.token_hex(8), secrets.token_hex(PROBE_BYTES // 2)  # nothing that can be packed
        with suppress(_Undone), pool.atomic(self.write_mode):
            pool.execute_sql(_PROBE, row)
            raise _Undone

    def find(self, pool: Pool, space: str, keys: Sequence[tuple[str, str]], max_bytes: int) -> Finding:
        """Look up all records at once; those that are large are asked for once more, as far as they fit.

        Of a few the question travels at once. Nobody may want the answer, and then nobody pays for it.
        """
        if len(keys) > _AHEAD_KEYS:
            ask = partial(_find, pool, space, keys, max_bytes // len(keys))
            return lambda: self._found(pool, space, ask().fetchall(), max_bytes)
        cursor = _find(pool, space, keys, min(max_bytes, _AHEAD_BYTES) // len(keys))
        return lambda: self._found(pool, space, cursor.fetchall(), max_bytes)

    def _found(
        self, pool: Pool, space: str, rows: list[tuple[Any, ...]], max_bytes: int
    ) -> Mapping[tuple[str, str], Stored]:
        left = max_bytes - sum(row[6] for row in rows if row[5] is not None)
        large: list[tuple[str, str]] = []
        for row in rows:
            if row[5] is None and row[6] is not None and left > 0:
                large.append((row[0], row[1]))
                left -= row[6]
        if large:
            rows += _find(pool, space, large, _ANY_LENGTH).fetchall()
        return {(row[0], row[1]): Stored(*row[2:6]) for row in rows}

    def write(self, pool: Pool, space: str, writer: str, records: Sequence[Written]) -> None:
        """Upsert all records at once, large ones some at a time.

        Those that are on their way are in memory, so the next ones wait until the server has them. The
        transaction fails where one was passed over, as a trigger of somebody else's may do.
        """
        for place, part in enumerate(_parts(records)):
            if place:
                pool.execute_sql("SELECT 1", ()).fetchone()
            rows = ((each.object, each.key, each.version, each.deleted, each.text) for each in part)
            columns = [list(column) for column in zip(*rows, strict=True)]
            pool.execute_sql(_WRITE, (writer, *columns, space))
        objects, versions = [*{each.object for each in records}], [each.version for each in records]
        pool.execute_sql(_CHECK, (len(records), space, objects, min(versions), max(versions)))

    def merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        """Limit each feed by itself, so that the planner reads it in its order and stops."""
        sql = " UNION ALL ".join(
            f"SELECT * FROM ({sql} ORDER BY version LIMIT ?) AS feed" for sql, _ in feeds
        )
        parameters = [*chain.from_iterable((*some, limit) for _, some in feeds), limit]
        return f"{sql} ORDER BY version LIMIT ?", parameters

    def page(
        self, pool: Pool, feeds: Sequence[Statement], limit: int, allowance: Allowance
    ) -> tuple[list[FeedRow], bool]:
        """Ask for what fits, and for more of it while more is allowed: no record travels that does not fit.

        A driver gives what it was asked for at once, and then has it twice. Most pages take one round trip.
        """
        return page_of(pool, self.merged(feeds, limit + 1), FEEDS, limit, allowance)

    def stretch(
        self, pool: Pool, query: Statement, limit: int, allowance: Room
    ) -> tuple[list[FeedRow], bool]:
        """Ask as for a page of feeds. The planner is told the order, so that it does not sort."""
        sql, parameters = query
        return page_of(
            pool, (f"{sql} ORDER BY key LIMIT ?", [*parameters, limit + 1]), SCAN, limit, allowance
        )


def _find(pool: Pool, space: str, keys: Sequence[tuple[str, str]], longest: int) -> Any:
    """Ask for records with the lengths of their texts; a text that is longer than ``longest`` stays there."""
    names, texts = [name for name, _ in keys], [key for _, key in keys]
    return pool.execute_sql(FIND, (longest, names, texts, space))


def _parts(records: Sequence[Written]) -> Iterator[Sequence[Written]]:
    """Cut ``records`` into statements: each has some bytes of data, and the record that is too much."""
    begin = size = 0
    for end, record in enumerate(records, 1):
        size += len(record.data or b"")
        if size > _WRITTEN_AT_ONCE or end == len(records):
            yield records[begin:end]
            begin, size = end, 0
