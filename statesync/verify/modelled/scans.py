"""The modelled hub's pages of scans: living records in the order of their keys. See ``docs/scan.md``."""

from __future__ import annotations

from collections.abc import Sequence

from statesync.verify.modelled.records import Record, as_many_as_fit, matches
from statesync.verify.modelled.wire import Entry, Feed, Pull, Scan, Scanned

Found = tuple[tuple[str, Scanned], ...]
"""How far a page leads the scans of some objects."""


def read(
    records: Sequence[Record], request: Pull, head: int, most: int, carries: int
) -> tuple[tuple[Entry, ...], Found]:
    """Return what follows the positions of the scans, one object after the other, until the page is full.

    ``head`` is where a scan that begins has its S. ``most`` and ``carries`` are as for a page of feeds.
    """
    entries, found = list[Entry](), list[tuple[str, Scanned]]()
    left = request.limit or len(records) + 1
    for feed in request.feeds:
        if feed.scan is None or left <= 0:
            continue
        there = _living(records, feed.object, feed.scan.after)
        asked = feed.scan if feed.scan.since else Scan(head, until=there[-1].key if there else "")
        told, scanned = _range(there, feed, asked, left, most, carries)
        entries += (Entry(feed.object, each.key, each.version, each.data) for each in told)
        found.append((feed.object, scanned))
        left -= len(told) + len(scanned.stubs)
        if not scanned.done:
            break
    return tuple(entries), tuple(found)


def cursor_after(feed: Feed, scanned: Scanned | None) -> int:
    """Return the cursor of an object after a page of scans: a scan that is done is followed from its S."""
    return scanned.since if scanned is not None and scanned.done else feed.cursor


def _living(records: Sequence[Record], name: str, after: str) -> list[Record]:
    """Return the living records of an object behind a key, in byte order."""
    there = (each for each in records if each.object == name and each.data is not None and each.key > after)
    return sorted(there, key=lambda each: each.key.encode())


def _range(
    there: Sequence[Record], feed: Feed, asked: Scan, limit: int, most: int, carries: int
) -> tuple[list[Record], Scanned]:
    """Return the entries of the next range, and what else there is to say of it."""
    within = [each for each in there if each.key <= asked.until]
    seen = within[:most]
    told = [each for each in seen if _is_newer(each, asked) or _is_visible(each, feed)]
    taken = as_many_as_fit(told, limit, carries)
    is_cut = taken < len(told)
    last = (told[:taken] if is_cut else seen)[-1:]
    stubs = tuple(each.key for each in told[:taken] if _is_newer(each, asked))
    entries = [each for each in told[:taken] if not _is_newer(each, asked)]
    done = not is_cut and len(seen) == len(within)
    position = last[0].key if last else asked.after
    return entries, Scanned(asked.since, asked.until, position, done, stubs)


def _is_newer(record: Record, asked: Scan) -> bool:
    """Tell whether the feed from S brings a record, so that the scan says no more than that it is there."""
    return record.version > asked.since


def _is_visible(record: Record, feed: Feed) -> bool:
    return record.data is not None and matches(record.data, feed.filter)
