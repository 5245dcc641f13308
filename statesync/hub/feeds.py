"""The records that a page takes from the feeds, and how far the feeds are looked at for them.

A page looks at so many records and at no more. So a device that is told of none of them, because it wrote
them itself or never had what was deleted, does not make the hub walk over all that there are: its page ends
there, perhaps empty, and it asks on.
"""

from __future__ import annotations

from attrs import frozen

from statesync.hub.db.database import Database, FeedRow, Statement
from statesync.hub.spaces import ClientState
from statesync.wire import Feed, Pull

LOOKS = 10
"""Records that a page looks at for each that it may have: to pass over one costs a tenth of sending it."""

FEW = 1000
"""Records that any page may look at."""

_STRETCH = "FROM record WHERE space = ? AND object = ? AND version > ? AND version <= ?"


@frozen
class Read:
    """The rows of a page, and the version up to which the feeds were looked at for them."""

    rows: list[FeedRow]
    reached: int
    records: int = 0
    """What that cost, in records: those that were passed over count a tenth."""


def has_nothing(state: ClientState, feed: Feed) -> bool:
    """Tell whether the device has no record of this feed, so that there is nothing to delete on it.

    A device that has uploaded, or that is re-reading, may already have records.
    """
    return feed.cursor == 0 and not feed.own and state.number == 0


def feed_query(space: str, client: str, name: str, feed: Feed, state: ClientState, through: int) -> Statement:
    """Return the query of one feed up to the version ``through``: a stretch of its own in the index."""
    sql = f"SELECT object, key, version, deleted, data {_STRETCH}"
    parameters: list[object] = [space, name, feed.cursor, through]
    if has_nothing(state, feed):
        sql += " AND NOT deleted"
    if not feed.own:
        sql += " AND writer <> ?"
        parameters.append(client)
    return sql, parameters


def count_query(space: str, name: str, feed: Feed, state: ClientState) -> Statement:
    """Return the query of all versions of one feed, for whomever they are: the index alone tells them."""
    return f"SELECT version {_STRETCH}", [space, name, feed.cursor, state.head]


@frozen
class Reading:
    """Reads a page of ``request`` in the open transaction, of ``page_bytes`` of records.

    No two records of a space have the same version. So what there is to look at is counted only where a
    stretch of as many versions had too little in it.
    """

    database: Database
    space: str
    state: ClientState
    request: Pull
    page_bytes: int

    def page(self, limit: int) -> Read:
        """Return the next records, up to ``limit``."""
        head = self.state.head
        first = min((feed.cursor for feed in self.request.objects.values()), default=head)
        if first >= head:
            return Read([], head)
        most = max(FEW, LOOKS * limit)
        near = min(first + most, head)
        rows, is_full = self._rows(limit, near)
        looked_at, reached = len(rows), head
        if not is_full and head - first > FEW:
            looked_at, last = self._count(most)
            reached = last if looked_at == most else head
            if near < reached:
                rows, is_full = self._rows(limit, reached)
        if is_full:
            return Read(rows, rows[-1][2], len(rows))
        return Read(rows, reached, len(rows) + (looked_at - len(rows)) // LOOKS)

    def _rows(self, limit: int, through: int) -> tuple[list[FeedRow], bool]:
        """Return the first records up to a version, and whether there are more of them."""
        client, state = self.request.client, self.state
        feeds = [feed_query(self.space, client, name, feed, state, through) for name, feed in self._behind()]
        return self.database.dialect.page(self.database.pool, feeds, limit, self.page_bytes)

    def _count(self, most: int) -> tuple[int, int]:
        """Return how many records there are to look at, up to ``most``, and the version of the last."""
        stretches = [count_query(self.space, name, feed, self.state) for name, feed in self._behind()]
        sql, parameters = self.database.dialect.merged(stretches, most)
        counted = f"SELECT count(*), coalesce(max(version), 0) FROM ({sql}) AS looked_at"
        count, last = self.database.run(counted, *parameters).fetchone()
        return int(count), int(last)

    def _behind(self) -> list[tuple[str, Feed]]:
        return [each for each in self.request.objects.items() if each[1].cursor < self.state.head]
