"""The rows of a page that fit into it, on a server: small texts at once, large ones when it is known which.

A driver gives what it was asked for at once, and then has it twice. So no record is asked for that does not
fit, and what is much comes piece by piece.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from operator import itemgetter
from typing import Any

import psycopg
from psycopg.pq import Format
from psycopg.types.string import ByteaBinaryLoader

from statesync.hub.db.database import FeedRow, Pool, Statement
from statesync.hub.limits import Room

_PIECE_BYTES = 2 << 20
"""Bytes of texts, and the text that is too much, that are asked for at once."""

# A text that is longer than the first placeholder says stays there; its length comes instead. To add the
# lengths up on the server, and know whether all fit, takes as long as half of the page.
FITTING = """
SELECT object, key, version, {bare},
    CASE WHEN octet_length(data) <= %s THEN data::varchar END,
    CASE WHEN octet_length(data) > %s THEN octet_length(data) END
FROM ({rows} OFFSET 0) AS feed ORDER BY {order}
"""
LARGE = """
SELECT data::varchar FROM ({rows} OFFSET 0) AS feed WHERE octet_length(data) > %s
ORDER BY {order} OFFSET %s LIMIT %s
"""
FEEDS = {"order": "version", "bare": "deleted"}
SCAN = {"order": "key", "bare": "stub"}

_length = itemgetter(5)


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
    feed, parameters = query[0].replace("?", "%s"), query[1]
    small = allowance.size // (limit + 1)  # as many of them fit, whichever they are
    found = _fetched(pool, FITTING.format(rows=feed, **names), [small, small, *parameters])
    if not any(map(_length, found)):
        return [row[:5] for row in found[:limit]], len(found) > limit
    fit = _fitting(found, limit, allowance)
    rows: list[FeedRow] = [row[:5] for row in found[:fit]]
    large, asked = LARGE.format(rows=feed, **names), 0
    for places in _pieces(found[:fit]):
        texts = _fetched(pool, large, [*parameters, small, asked, len(places)])
        for place, (text,) in zip(places, texts, strict=True):
            rows[place] = (*rows[place][:4], text)
        asked += len(places)
    return rows, len(found) > fit


def _fitting(found: list[Any], limit: int, allowance: Room) -> int:
    """Return how many rows fit, with as much allowed as they need."""
    sizes = (length or len(text or b"") for *_, text, length in found)
    begins = list(accumulate(sizes, initial=0))
    while True:
        fit = min(limit, bisect_left(begins, allowance.size, hi=len(found)))
        if fit in (limit, len(found)) or not allowance.grows():
            return fit


def _pieces(rows: list[Any]) -> Iterator[list[int]]:
    """Return the places of the rows whose texts are large, as many of them as come at once."""
    places, size = list[int](), 0
    for place, length in enumerate(map(_length, rows)):
        if length is not None:
            places.append(place)
            size += length
        if size >= _PIECE_BYTES:
            yield places
            places, size = [], 0
    if places:
        yield places


def _fetched(pool: Pool, sql: str, parameters: list[object]) -> list[Any]:
    """Return the rows of a query, in which varchars are bytes."""
    cursor = pool.cursor()
    cursor.format = Format.BINARY
    return list(cursor.execute(sql, parameters).fetchall())
