"""The modelled hub's pages of feeds: records in the order of their versions."""

from __future__ import annotations

from collections.abc import Sequence

from statesync.verify.modelled.records import Record, as_many_as_fit, matches
from statesync.verify.modelled.wire import Entry, Feed, Pull


def read(
    records: Sequence[Record], request: Pull, last: int, most: int, carries: int
) -> tuple[tuple[Entry, ...], int | None]:
    """Return what follows the cursors, and up to which version that is looked at; None: up to the head.

    ``last`` is the number of the client's receipt, ``most`` how many records the page may look at, and
    ``carries`` after how many bytes none begins.
    """
    feeds = {feed.object: feed for feed in request.feeds}
    there = sorted((each for each in records if _follows(each, feeds)), key=lambda each: each.version)
    seen = there[:most]
    rows = [each for each in seen if _is_wanted(each, request, feeds, last)]
    taken = as_many_as_fit(rows, request.limit or len(rows), carries)
    reached: int | None = None
    if taken < len(rows):
        rows = rows[:taken]
        reached = rows[-1].version
    elif len(seen) == most:
        reached = seen[-1].version
    entries = (_entry(each, feeds[each.object], last) for each in rows)
    return tuple(entry for entry in entries if entry is not None), reached


def _follows(record: Record, feeds: dict[str, Feed]) -> bool:
    return record.object in feeds and record.version > feeds[record.object].cursor


def _is_wanted(record: Record, request: Pull, feeds: dict[str, Feed], last: int) -> bool:
    feed = feeds[record.object]
    if record.writer == request.client and not feed.own:
        return False
    return record.data is not None or not _has_nothing(feed, last)


def _has_nothing(feed: Feed, last: int) -> bool:
    """Tell whether the device has no record of this object, so that there is nothing to delete on it."""
    return feed.cursor == 0 and not feed.own and last == 0


def _entry(record: Record, feed: Feed, last: int) -> Entry | None:
    if record.data is not None and not matches(record.data, feed.filter):
        gone = Entry(record.object, record.key, record.version, None)
        return None if _has_nothing(feed, last) else gone
    return Entry(record.object, record.key, record.version, record.data)
