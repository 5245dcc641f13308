"""The hub on PostgreSQL: many writers, each of which holds its own space's row alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from playhouse.pool import PooledPostgresqlDatabase  # type: ignore[import-untyped]
from psycopg.conninfo import conninfo_to_dict

from statesync.hub.database import Database, Pool, Read, Statement, Stored, Written

# Every statement of the hub is a walk along an index in its order. Before a table has statistics the planner
# may see no harm in another index and a sort, and reads a whole object for each key; so it gets no choice.
_ALWAYS_BY_INDEX = " ".join(
    f"-c enable_{way}=off" for way in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin")
)

# "The first key from here on" can only be read in the order of the primary key.
FIND = """
SELECT found.object, found.key, found.version, found.writer, found.deleted, found.data
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
# How many records there are up to the limit, and how many bytes they have.
_SIZE = "SELECT count(*), coalesce(sum(octet_length(data)), 0) FROM ({feeds}) AS feed"

# How many of the records begin within the bytes. The sums run over the records before a row, so a page ends
# with the record that passes the limit. Only lengths are carried through the windows: the records themselves
# would take as long again.
_FITTING = """
SELECT count(*) FILTER (WHERE size < %s) FROM (
    SELECT coalesce(sum(octet_length(data)) OVER (
        ORDER BY version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS size
    FROM ({feeds}) AS feed
) AS page
"""


class PostgresDialect:
    """Whole batches in one statement: each costs a round trip, so arrays travel instead of rows."""

    read_mode: str = "REPEATABLE READ"
    write_mode: str | None = None
    text_type: str = 'TEXT COLLATE "C"'
    row_lock: str = " FOR UPDATE"
    key_order: str = 'key COLLATE "C"'

    def find(
        self, pool: Pool, space: str, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Stored]:
        """Look up all records at once."""
        names, texts = [name for name, _ in keys], [key for _, key in keys]
        rows = pool.execute_sql(FIND, (names, texts, space))
        return {(row[0], row[1]): Stored(*row[2:]) for row in rows}

    def write(self, pool: Pool, space: str, writer: str, records: Sequence[Written]) -> None:
        """Upsert all records at once."""
        columns = [list(column) for column in zip(*records, strict=True)]
        pool.execute_sql(_WRITE, (space, writer, *columns))

    def merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        """Ask for each feed in its order: without a limit of its own a feed is not known to have one."""
        sql = " UNION ALL ".join(
            f"SELECT * FROM ({sql} ORDER BY version LIMIT ?) AS feed" for sql, _ in feeds
        )
        parameters = [*chain.from_iterable((*some, limit) for _, some in feeds), limit]
        return f"{sql} ORDER BY version LIMIT ?", parameters

    def page(
        self, pool: Pool, feeds: Sequence[Statement], limit: int, max_bytes: int
    ) -> tuple[list[Read], bool]:
        """Let the server cut the page, so that no record travels that does not fit."""
        sql, parameters = self.merged(feeds, limit + 1)
        sql = sql.replace("?", "%s")
        found, size = pool.execute_sql(_SIZE.format(feeds=sql), parameters).fetchone()
        taken = min(found, limit)
        if size > max_bytes:  # the running sum takes three times as long, and few pages need it
            query = _FITTING.format(feeds=sql)
            (fitting,) = pool.execute_sql(query, (max_bytes, *parameters)).fetchone()
            taken = min(fitting, limit)
        sql, parameters = self.merged(feeds, taken)
        rows = pool.execute_sql(sql.replace("?", "%s"), parameters).fetchall()
        return rows, found > taken


def open_postgres(url: str, connections: int, patience: float) -> Database:
    """Return the hub database at a ``postgresql://`` address, which libpq reads."""
    given = conninfo_to_dict(url).get("options") or ""
    pool = PooledPostgresqlDatabase(
        url,
        prefer_psycopg3=True,
        max_connections=connections,
        timeout=patience,
        options=f"{_ALWAYS_BY_INDEX} {given}",
    )
    return Database(pool, PostgresDialect())
