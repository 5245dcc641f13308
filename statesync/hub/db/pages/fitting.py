"""The rows of a page that fit into it, on a server: all small ones at once, others when it is known how long.

A driver gives what it was asked for at once, and then has it twice. So no record is asked for that does not
fit, and what is much comes piece by piece.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import psycopg
from psycopg.pq import Format
from psycopg.types.string import ByteaBinaryLoader

from statesync.hub.db.database import FeedRow, Pool, Statement
from statesync.hub.limits import Room

_SMALL = 512
"""Bytes of a text below which so many are not likely to be small."""

_PIECE_BYTES = 2 << 20
"""Bytes of texts, and the text that is too much, that are asked for at once."""

# A text that is longer than the placeholder says stays there. To add all lengths up on the server, and know
# whether they fit, takes as long as half of the page.
SMALL = """
SELECT object, key, version, {bare}, CASE WHEN octet_length(data) <= %s THEN data::varchar END
FROM ({rows} OFFSET 0) AS feed ORDER BY {order}
"""
LENGTHS = "SELECT coalesce(octet_length(data), 0) FROM ({rows} OFFSET 0) AS feed ORDER BY {order}"
PIECE = """
SELECT object, key, version, {bare}, data::varchar FROM ({rows} OFFSET 0) AS feed
ORDER BY {order} OFFSET %s LIMIT %s
"""
FEEDS = {"order": "version", "bare": "deleted"}
SCAN = {"order": "key", "bare": "stub"}


def take_varchars_as_bytes(connection: psycopg.Connection[Any]) -> None:
    """Let a connection give varchars as the bytes that came, where it is asked for those.

    No column of the hub is one. So a page can say which of its texts nobody needs as a text.
    """
    connection.adapters.register_loader("varchar", ByteaBinaryLoader)


def page_of(
    pool: Pool, query: Statement, names: Mapping[str, str], limit: int, allowance: Room
) -> tuple[list[FeedRow], bool]:
    """Return as many of a query's rows as fit into a page, and whether it has more.

    ``names`` says in which ``order`` they are, and which of them are ``bare``: without a text.
    """
    feed = query[0].replace("?", "%s")
    small = allowance.size // (limit + 1)  # as many of them fit, whichever they are
    if small >= _SMALL:
        rows = _fetched(pool, SMALL.format(rows=feed, **names), [small, *query[1]])
        if all(text is not None or bare for _, _, _, bare, text in rows):
            return rows[:limit], len(rows) > limit
    lengths = [length for (length,) in _fetched(pool, LENGTHS.format(rows=feed, **names), query[1])]
    fit = _fitting(lengths, limit, allowance)
    piece, rows = PIECE.format(rows=feed, **names), []
    for count in _pieces(lengths[:fit]):
        rows += _fetched(pool, piece, [*query[1], len(rows), count])
    return rows, len(lengths) > fit


def _fitting(lengths: list[int], limit: int, allowance: Room) -> int:
    """Return how many rows fit, with as much allowed as they need."""
    begins = list(accumulate(lengths, initial=0))
    while True:
        fit = min(limit, bisect_left(begins, allowance.size, hi=len(lengths)))
        if fit in (limit, len(lengths)) or not allowance.grows():
            return fit


def _pieces(lengths: list[int]) -> Iterator[int]:
    """Cut rows into pieces; return how many each of them has."""
    count = size = 0
    for length in lengths:
        count += 1
        size += length
        if size >= _PIECE_BYTES:
            yield count
            count = size = 0
    if count:
        yield count


def _fetched(pool: Pool, sql: str, parameters: Sequence[object]) -> list[Any]:
    """Return the rows of a query, in which varchars are bytes."""
    cursor = pool.cursor()
    cursor.format = Format.BINARY
    return list(cursor.execute(sql, parameters).fetchall())
