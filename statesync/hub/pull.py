"""A pull: one page of the feeds that a device reads, in the order of their versions.

A page is read together with the space's head in one state of the database, so a cursor never passes
a write that the page could not see. Records travel as their stored texts; they are decoded for a filter only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from attrs import frozen

from statesync.hub.db.database import Database, Read, Statement
from statesync.hub.errors import horizon_passed
from statesync.hub.limits import HubLimits
from statesync.hub.requests import fields_of
from statesync.hub.spaces import Standing, check_beliefs, check_not_forked
from statesync.wire import Entry, Feed, Page, Pull

_Value = str | int | float | bool | None

_FEED = """
SELECT object, key, version, deleted, data FROM record
WHERE space = ? AND object = ? AND version > ? AND version <= ?"""

_FIRST_READS = "SELECT object FROM reader WHERE space = ? AND client = ? AND horizon = ?"
_REMEMBER = """
INSERT INTO reader (space, client, object, horizon) VALUES (?, ?, ?, ?)
ON CONFLICT (space, client, object) DO UPDATE SET horizon = excluded.horizon
"""


def seen_by(standing: Standing, request: Pull) -> int:
    """Return the highest version that the space or the device knows of."""
    cursors = (feed.cursor for feed in request.objects.values())
    return max(standing.head, request.head, *cursors)


def is_ahead(standing: Standing, request: Pull) -> bool:
    """Tell whether the device has seen more of this space than there is: a backup was restored."""
    return request.number > standing.number or seen_by(standing, request) > standing.head


def is_behind(standing: Standing, request: Pull) -> bool:
    """Tell whether there may be something that the device has not seen."""
    return any(feed.cursor < standing.head for feed in request.objects.values())


def check_pull(standing: Standing, request: Pull) -> None:
    """Raise the refusal of a device that is somewhere else than it believes, or behind its receipt."""
    check_beliefs(standing, request)
    check_not_forked(standing, request.number)


def check_horizon(database: Database, space: str, standing: Standing, request: Pull) -> None:
    """Raise the 410 if deletes that follow one of the cursors are no longer kept.

    A first read that is still below the horizon, and that began when it stood there, has missed nothing.
    """
    horizon = standing.horizon
    below = {name for name, feed in request.objects.items() if 0 < feed.cursor < horizon}
    unread = any(feed.cursor == 0 and not feed.own for feed in request.objects.values())
    if horizon and unread and standing.number:  # what it uploaded may have been deleted since
        raise horizon_passed(horizon)
    if below and not below <= _first_reads(database, space, request.client, horizon):
        raise horizon_passed(horizon)


def has_nothing(standing: Standing, feed: Feed) -> bool:
    """Tell whether the device has no record of this feed, so that there is nothing to delete on it.

    Who has uploaded may have records before it has read any, and so has who reads again from the start.
    """
    return feed.cursor == 0 and not feed.own and standing.number == 0


def remember_first_reads(
    database: Database, space: str, client: str, names: Iterable[str], horizon: int
) -> None:
    """Note that the client began to read these objects from the start when the horizon stood there."""
    for name in names:
        database.run(_REMEMBER, space, client, name, horizon)


@frozen
class Reading:
    """A page as JSON, the horizon that it was read at, and the first reads that it leaves below that."""

    page: bytes
    horizon: int
    first_reads: tuple[str, ...]


def read_page(
    database: Database, space: str, standing: Standing, request: Pull, limits: HubLimits
) -> Reading:
    """Return the page that follows the request's cursors, from the open transaction."""
    limit = min(request.limit or limits.default_page, limits.page)
    feeds = [
        feed_query(space, request.client, name, feed, standing)
        for name, feed in request.objects.items()
        if feed.cursor < standing.head
    ]
    rows, more = (
        database.dialect.page(database.pool, feeds, limit, limits.page_bytes) if feeds else ([], False)
    )
    return _reading(standing, request, rows, more=more)


def empty_page(standing: Standing, request: Pull) -> Reading:
    """Return the page of a device that has everything."""
    return _reading(standing, request, [], more=False)


def _reading(standing: Standing, request: Pull, rows: list[Read], *, more: bool) -> Reading:
    reached = rows[-1][2] if more else standing.head
    cursors = {name: max(feed.cursor, reached) for name, feed in request.objects.items()}
    entries = _entries(rows, request, standing)
    page = msgspec.json.encode(Page(standing.hub, standing.epoch, standing.head, entries, cursors, more))
    begun = (name for name, feed in request.objects.items() if feed.cursor == 0)
    first_reads = tuple(name for name in begun if 0 < cursors[name] < standing.horizon)
    return Reading(page, standing.horizon, first_reads)


def _entries(rows: list[Read], request: Pull, standing: Standing) -> list[Entry]:
    if any(feed.filter is not None for feed in request.objects.values()):
        every = (_entry(row, request.objects[row[0]], standing) for row in rows)
        return [entry for entry in every if entry is not None]
    return [
        Entry(name, key, version, deleted=True)
        if deleted or text is None
        else Entry(name, key, version, data=msgspec.Raw(text))
        for name, key, version, deleted, text in rows
    ]


def _first_reads(database: Database, space: str, client: str, horizon: int) -> set[str]:
    rows = database.run(_FIRST_READS, space, client, horizon)
    return {row[0] for row in rows}


def feed_query(space: str, client: str, name: str, feed: Feed, standing: Standing) -> Statement:
    """Return the query of one feed up to the head: a stretch of its own in the index."""
    sql = _FEED
    parameters: list[object] = [space, name, feed.cursor, standing.head]
    if has_nothing(standing, feed):
        sql += " AND NOT deleted"
    if not feed.own:
        sql += " AND writer <> ?"
        parameters.append(client)
    return sql, parameters


def _entry(row: Read, feed: Feed, standing: Standing) -> Entry | None:
    name, key, version, deleted, data = row
    if deleted or data is None:
        return Entry(name, key, version, deleted=True)
    text = data.encode()
    if feed.filter is not None and not matches(text, feed.filter):
        return None if has_nothing(standing, feed) else Entry(name, key, version, deleted=True)
    return Entry(name, key, version, data=msgspec.Raw(text))


def matches(text: bytes, wanted: Mapping[str, list[_Value]]) -> bool:
    """Tell whether each field of ``wanted`` has one of its values; a field that is not there is null."""
    fields = fields_of(text) or {}
    return all(_is_among(fields.get(name), values) for name, values in wanted.items())


def _is_among(field: msgspec.Raw | None, values: list[_Value]) -> bool:
    try:
        value = None if field is None else msgspec.json.decode(field)
    except msgspec.MsgspecError:
        return False  # a number that is out of range equals nothing that can be asked for
    # In Python true equals 1, in JSON it does not.
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)
