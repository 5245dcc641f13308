"""The modelled hub's pages of scans: living records in the order of their keys. See ``docs/scan.md``."""

from __future__ import annotations

from collections.abc import Sequence

from statesync.verify.evolving import evolve
from statesync.verify.modelled.answers import size
from statesync.verify.modelled.records import Record, as_many_as_fit, matches
from statesync.verify.modelled.wire import Entry, Feed, Pull, Scan, Scanned

Found = tuple[tuple[str, Scanned], ...]
"""How far a page leads the scans of some objects."""


def read(
    records: Sequence[Record], request: Pull, head: int, few: int, looks: int, carries: int
) -> tuple[tuple[Entry, ...], Found]:
    """Return what follows the positions of the scans, one object after the other, until the page is full.

    ``head`` is where a scan that begins has its S. ``few``, ``looks`` and ``carries`` are the hub's.
    """
    entries, found = list[Entry](), list[tuple[str, Scanned]]()
    left = request.limit or len(records) + 1
    keys = max(few, looks * request.limit)
    for feed in request.feeds:
        if feed.scan is None or min(left, keys, carries) <= 0:
            continue
        there = _in_order(records, feed.object)
        asked = feed.scan if feed.scan.since else Scan(head, until=_end(there, few))
        spared = request.client if feed.scan.spares else None
        told, scanned = _range(there, asked, spared, left, keys, carries)
        entries += [_entry(each) for each in told if each.data is not None and _is_visible(each, feed)]
        found.append((feed.object, scanned))
        left, carries = left - len(told), carries - _bytes(told)
        keys -= sum(asked.after < each.key <= scanned.last for each in there)
        if not scanned.done:
            break
    return tuple(entries), tuple(found)


def cursor_after(feed: Feed, scanned: Scanned | None) -> int:
    """Return the cursor of an object after a page of scans: a scan that is done is followed from its S."""
    return scanned.since if scanned is not None and scanned.done else feed.cursor


def _in_order(records: Sequence[Record], name: str) -> list[Record]:
    """Return the records of an object in byte order, with those that are deleted."""
    return sorted((each for each in records if each.object == name), key=lambda each: each.key.encode())


def _end(there: Sequence[Record], few: int) -> str:
    """Return where a scan ends that begins: at the last living record, or amid too many deleted ones."""
    last = there[-few:]
    living = [each.key for each in last if each.data is not None]
    if living:
        return living[-1]
    return last[0].key if len(last) == few else ""


def _range(
    there: Sequence[Record], asked: Scan, spared: str | None, left: int, keys: int, carries: int
) -> tuple[list[Record], Scanned]:
    """Return the living records of the next range, and what there is to say of it.

    There is room for ``left`` of them and the bytes that it ``carries``, and to look at so many ``keys``.
    Those of which no more than the key is told have no data: what ``spared`` has written, and what the feed
    brings.
    """
    seen = [each for each in there if asked.after < each.key <= asked.until][:keys]
    living = [_told(each, asked, spared) for each in seen if each.data is not None]
    taken = as_many_as_fit(living, left, carries)
    told, is_cut = living[:taken], taken < len(living)
    done = not is_cut and (len(seen) < keys or seen[-1].key == asked.until)
    last = asked.until if done else (told if is_cut else seen)[-1].key
    stubs = tuple(each.key for each in told if each.data is None)
    return told, Scanned(asked.since, asked.until, last, done, stubs)


def _told(record: Record, asked: Scan, spared: str | None) -> Record:
    is_key = _is_newer(record, asked) or record.writer == spared
    return evolve(record, data=None) if is_key else record


def _entry(record: Record) -> Entry:
    return Entry(record.object, record.key, record.version, record.data)


def _bytes(told: Sequence[Record]) -> int:
    return sum(size(each.data) for each in told if each.data is not None)


def _is_newer(record: Record, asked: Scan) -> bool:
    """Tell whether the feed from S brings a record, so that the scan says no more than that it is there."""
    return record.version > asked.since


def _is_visible(record: Record, feed: Feed) -> bool:
    return record.data is not None and matches(record.data, feed.filter)
