"""The rows of a page that fit into it, on a server: asked for piece by piece, as far as more is allowed.

A driver gives what it was asked for at once, and then has it twice. So no record is asked for that does not
fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statesync.hub.db.database import FeedRow, Pool, Statement
from statesync.hub.limits import Room

_TEXTS = 100
"""Records of a page whose texts are there at once."""

# The records that begin before so many bytes of others, and one more, which comes without its text.
FITTING = """
SELECT object, key, version, {bare}, CASE WHEN coalesce(before, 0) < %s THEN data END FROM (
    SELECT feed.*,
        sum(octet_length(data)) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
            AS before,
        sum(octet_length(data)) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING)
            AS before_last
    FROM ({rows} OFFSET %s) AS feed
) AS summed WHERE coalesce(before_last, 0) < %s ORDER BY {order}
"""
FEEDS = {"order": "version", "bare": "deleted"}
SCAN = {"order": "key", "bare": "stub"}


def page_of(
    pool: Pool, query: Statement, names: Mapping[str, str], limit: int, allowance: Room
) -> tuple[list[FeedRow], bool]:
    """Return as many of a query's rows as fit into a page, and whether it has more.

    ``names`` says in which ``order`` they are, and which of them are ``bare``: without a text.
    """
    feed, parameters = _numbered(query)
    sql, rows, size = FITTING.format(rows=feed, **names), list[FeedRow](), 0
    while True:
        left = allowance.size - size
        some = _fetched(pool.execute_sql(sql, (left, *parameters, len(rows), left)))
        size += sum(len(row[4]) for row in some if row[4] is not None)
        if size < allowance.size or some[-1][4] is not None:
            rows += some
            return rows[:limit], len(rows) > limit
        rows += some[:-1]
        while size >= allowance.size:
            if len(rows) == limit or not allowance.grows():
                return rows, True


def _numbered(query: Statement) -> Statement:
    """Return a query with the driver's own placeholders."""
    return query[0].replace("?", "%s"), query[1]


def _fetched(cursor: Any) -> list[FeedRow]:
    """Return the rows of a page that came, of which few at a time are made texts."""
    rows: list[FeedRow] = []
    while some := cursor.fetchmany(_TEXTS):
        rows += [
            (name, key, version, deleted, None if text is None else text.encode())
            for name, key, version, deleted, text in some
        ]
    return rows
