"""The hub on PostgreSQL: many writers, each of which holds its own space's row alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import psycopg
from playhouse.pool import PooledPostgresqlDatabase  # type: ignore[import-untyped]
from psycopg.conninfo import conninfo_to_dict

from statesync.hub.addresses import has_password, without_password
from statesync.hub.db.database import Database, FeedRow, Pool, Statement, Stored, Written
from statesync.hub.errors import BadDatabase

# Every statement of the hub walks along an index in its order. Before a table has statistics the planner may
# choose another index and a sort instead, and read a whole object for each key. So it gets no choice.
_ALWAYS_BY_INDEX = " ".join(
    f"-c enable_{way}=off" for way in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin")
)

_ANY_LENGTH = 1 << 30
"""Bytes: PostgreSQL holds no longer text."""

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
_WRITE = """
INSERT INTO record (space, object, key, version, writer, deleted, data)
SELECT %s, new.object, new.key, new.version, %s, new.deleted, new.data
FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::boolean[], %b::text[])
    AS new (object, key, version, deleted, data)
ON CONFLICT (space, object, key) DO UPDATE SET
    version = excluded.version, writer = excluded.writer, deleted = excluded.deleted, data = excluded.data
"""
# Records that are so small that a whole page of them fits come at once; of the others comes nothing yet.
_SMALL = """
SELECT object, key, version, deleted, CASE WHEN octet_length(data) <= %s THEN data END
FROM ({feeds}) AS feed ORDER BY version
"""
_LENGTHS = "SELECT coalesce(octet_length(data), 0) FROM ({feeds}) AS feed ORDER BY version"


class PostgresDialect:
    """One statement for a whole batch: each costs a round trip, so arrays travel instead of rows."""

    read_mode: str = "REPEATABLE READ"
    write_mode: str | None = None
    text_type: str = 'TEXT COLLATE "C"'
    row_lock: str = " FOR UPDATE"
    key_order: str = 'key COLLATE "C"'
    data_bytes: str = "octet_length(data)"

    def find(
        self, pool: Pool, space: str, keys: Sequence[tuple[str, str]], max_bytes: int
    ) -> Mapping[tuple[str, str], Stored]:
        """Look up all records at once; those that are large are asked for once more, as far as they fit."""
        rows = _find(pool, space, keys, max_bytes // len(keys))
        left = max_bytes - sum(row[6] for row in rows if row[5] is not None)
        large: list[tuple[str, str]] = []
        for row in rows:
            if row[5] is None and row[6] is not None and left > 0:
                large.append((row[0], row[1]))
                left -= row[6]
        if large:
            rows += _find(pool, space, large, _ANY_LENGTH)
        return {(row[0], row[1]): Stored(*row[2:6]) for row in rows}

    def write(self, pool: Pool, space: str, writer: str, records: Sequence[Written]) -> None:
        """Upsert all records at once."""
        columns = [list(column) for column in zip(*records, strict=True)]
        pool.execute_sql(_WRITE, (space, writer, *columns))

    def merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        """Limit each feed by itself, so that the planner reads it in its order and stops."""
        sql = " UNION ALL ".join(
            f"SELECT * FROM ({sql} ORDER BY version LIMIT ?) AS feed" for sql, _ in feeds
        )
        parameters = [*chain.from_iterable((*some, limit) for _, some in feeds), limit]
        return f"{sql} ORDER BY version LIMIT ?", parameters

    def page(
        self, pool: Pool, feeds: Sequence[Statement], limit: int, max_bytes: int
    ) -> tuple[list[FeedRow], bool]:
        """Ask once if all records are small; otherwise ask for their lengths, then for what fits.

        No record travels that does not fit, and most pages take one round trip.
        """
        feed, parameters = self._merged(feeds, limit + 1)
        small = max_bytes // (limit + 1)
        rows: list[FeedRow] = pool.execute_sql(_SMALL.format(feeds=feed), (small, *parameters)).fetchall()
        if all(data is not None or deleted for _, _, _, deleted, data in rows):
            return rows[:limit], len(rows) > limit
        lengths = pool.execute_sql(_LENGTHS.format(feeds=feed), parameters).fetchall()
        before = accumulate((length for (length,) in lengths), initial=0)
        taken = min(limit, sum(size < max_bytes for size, _ in zip(before, lengths, strict=False)))
        return pool.execute_sql(*self._merged(feeds, taken)).fetchall(), len(rows) > taken

    def _merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        sql, parameters = self.merged(feeds, limit)
        return sql.replace("?", "%s"), parameters


def _find(pool: Pool, space: str, keys: Sequence[tuple[str, str]], longest: int) -> list[tuple[Any, ...]]:
    """Return records with the lengths of their texts; a text that is longer than ``longest`` stays there."""
    names, texts = [name for name, _ in keys], [key for _, key in keys]
    found: list[tuple[Any, ...]] = pool.execute_sql(FIND, (longest, names, texts, space)).fetchall()
    return found


def open_postgres(url: str, connections: int, patience: float) -> Database:
    """Return the hub database at a ``postgresql://`` address, which libpq reads.

    Raises ``BadDatabase`` for an address that libpq cannot read.
    """
    given = _read(url).get("options") or ""
    pool = PooledPostgresqlDatabase(
        url,
        prefer_psycopg3=True,
        max_connections=connections,
        timeout=patience,
        options=f"{_ALWAYS_BY_INDEX} {given}",
    )
    return Database(pool, PostgresDialect())


def _read(url: str) -> dict[str, Any]:
    """Return what libpq reads in an address; raise ``BadDatabase`` where that is not what it says.

    libpq quotes what it does not understand, also later, and a part of the password may be among it.
    """
    address = without_password(url)
    try:
        found = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        why = "" if has_password(url) else f" ({str(error).strip()})"
        raise BadDatabase(f"the address {address!r} cannot be read{why}") from None
    is_misread = "@" in f"{found.get('host')}{found.get('dbname')}"
    if has_password(url) and (is_misread or not (found.get("password") or found.get("sslpassword"))):
        raise BadDatabase(
            f"the address {address!r} cannot be read; in a password, write %2F for /, %40 for @ and %25 for %"
        )
    return found
