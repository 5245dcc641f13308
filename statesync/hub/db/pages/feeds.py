"""The records that a page takes from the feeds, and how far the feeds are looked at for them.

A page looks at so many records and at no more. So a device that is told of none of them, because it wrote
them itself or never had what was deleted, does not make the hub walk over all that there are: its page ends
there, perhaps empty, and it asks on.
"""

from __future__ import annotations

from collections.abc import Sequence

from statesync.classes import frozen
from statesync.hub.db.database import Database, FeedRow, Statement
from statesync.hub.limits import Allowance

LOOKS = 10
"""Records that a page looks at for each that it may have: to pass over one costs a tenth of sending it."""

FEW = 1000
"""Records that any page may look at."""

_STRETCH = "FROM record WHERE space = ? AND object = ? AND version > ? AND version <= ?"


@frozen
class Wanted:
    """What is wanted of one object: what follows the ``cursor``.

    Not the records of the writer ``but_of``, and ``but_deletes``: those that are deleted neither.
    """

    object: str
    cursor: int
    but_of: str | None = None
    but_deletes: bool = False


@frozen
class Read:
    """The rows of a page, and the version up to which the feeds were looked at for them."""

    rows: list[FeedRow]
    reached: int
    records: int = 0
    """What that cost, in records: those that were passed over count a tenth."""


def feed_query(space: str, wanted: Wanted, through: int, data: str = "data") -> Statement:
    """Return the query of one feed up to the version ``through``: a stretch of its own in the index.

    ``data`` is the expression for what is read of a record's JSON.
    """
    sql = f"SELECT object, key, version, deleted, {data} AS data {_STRETCH}"
    parameters: list[object] = [space, wanted.object, wanted.cursor, through]
    if wanted.but_deletes:
        sql += " AND NOT deleted"
    if wanted.but_of is not None:
        sql += " AND writer <> ?"
        parameters.append(wanted.but_of)
    return sql, parameters


def count_query(space: str, wanted: Wanted, through: int) -> Statement:
    """Return the query of all versions of one feed, for whomever they are: the index alone tells them."""
    return f"SELECT version {_STRETCH}", [space, wanted.object, wanted.cursor, through]


@frozen
class Feeds:
    """The feeds that a page is read from, up to the ``head`` of the space, in the open transaction.

    No two records of a space have the same version. So what there is to look at is counted only where a
    stretch of as many versions had too little in it.
    """

    database: Database
    space: str
    head: int
    wanted: Sequence[Wanted]

    def page(self, limit: int, allowance: Allowance) -> Read:
        """Return the next records: up to ``limit``, and none that begins past what is allowed."""
        first = min(each.cursor for each in self.wanted)
        most = max(FEW, LOOKS * limit)
        near = min(first + most, self.head)
        rows, is_full = self._rows(near, limit, allowance)
        looked_at, reached = len(rows), self.head
        if not is_full and self.head - first > FEW:
            looked_at, last = self._count(most)
            reached = last if looked_at == most else self.head
            if near < reached:
                rows = []  # nobody needs them twice
                rows, is_full = self._rows(reached, limit, allowance)
        if is_full:
            return Read(rows, rows[-1][2], len(rows))
        return Read(rows, reached, len(rows) + (looked_at - len(rows)) // LOOKS)

    def _rows(self, through: int, limit: int, allowance: Allowance) -> tuple[list[FeedRow], bool]:
        """Return the first records up to a version, and whether there are more of them."""
        dialect = self.database.dialect
        feeds = [feed_query(self.space, each, through, dialect.data_for_pages) for each in self.wanted]
        return dialect.page(self.database.pool, feeds, limit, allowance)

    def _count(self, most: int) -> tuple[int, int]:
        """Return how many records there are to look at, up to ``most``, and the version of the last."""
        stretches = [count_query(self.space, each, self.head) for each in self.wanted]
        sql, parameters = self.database.dialect.merged(stretches, most)
        counted = f"SELECT count(*), coalesce(max(version), 0) FROM ({sql}) AS looked_at"
        count, last = self.database.run(counted, *parameters).fetchone()
        return int(count), int(last)
