"""A page of scans: records in the order of their keys, one object after the other. See ``docs/scan.md``.

What is newer than its scan is told by its key alone, as the feed that follows brings it, and so is what a
client has written itself, where it asks for that. What a filter hides is not told at all, unless it is newer.
"""

from __future__ import annotations

import msgspec
from attrs import field

from statesync.classes import define
from statesync.filters import Filter
from statesync.hub.db.database import Database
from statesync.hub.db.pages import feeds
from statesync.hub.db.pages.scans import Keys, Stretch
from statesync.hub.limits import Allowance
from statesync.hub.pages.matching import passes
from statesync.hub.spaces import ClientState
from statesync.wire import Entry, Feed, Pull, Scan, Scanned

_SCAN = 10
"""Records that it costs as much to read as to look for where a scan begins, and whether it has ended."""


@define
class Page:
    """What a page has so far, and what it has room for: records, bytes of them, keys to look at."""

    records: int
    keys: int
    allowance: Allowance
    size: int = 0
    """Bytes of the records that it has."""
    entries: list[Entry] = field(factory=list)
    scans: dict[str, Scanned] = field(factory=dict)
    cost: int = 0
    """What was read for it, in records."""

    @property
    def goes_on(self) -> bool:
        """Whether there is room for another scan, behind those that are done."""
        is_left = min(self.records, self.keys) > 0 and all(scanned.done for scanned in self.scans.values())
        return is_left and self._has_room()

    def _has_room(self) -> bool:
        while self.size >= self.allowance.size:
            if not self.allowance.grows():
                return False
        return True

    def take(self, name: str, feed: Feed, scan: Scan, stretch: Stretch, count: int | None) -> None:
        """Add what was found in one object, which has ``count`` records if its scan begins."""
        rows = stretch.rows
        stubs = [key for _, key, _, is_stub, _ in rows if is_stub]
        self.entries += _entries(stretch, feed)
        self.scans[name] = Scanned(scan.since, scan.until, stretch.last, stretch.done, stubs, count)
        self.records -= len(rows)
        self.size += stretch.size
        self.keys -= stretch.looked_at
        self.cost += _SCAN + len(rows) + (stretch.looked_at - len(rows)) // feeds.LOOKS


def read(
    database: Database, space: str, state: ClientState, request: Pull, limit: int, allowance: Allowance
) -> Page:
    """Return what follows the positions of the request's scans, in the order of its objects.

    Up to ``limit`` records, and none that begins past what is allowed of others; at least one object is
    answered.
    """
    page = Page(limit, max(feeds.FEW, feeds.LOOKS * limit), allowance)
    for name, feed in request.objects.items():
        if feed.scan is not None and page.goes_on:
            keys = Keys(database, space, name)
            scan, count = (feed.scan, None) if feed.scan.since else _begun(keys, state.head)
            spared = request.client if feed.scan.spares else ""
            stretch = keys.stretch(scan, spared, page.records, allowance.behind(page.size), page.keys)
            page.take(name, feed, scan, stretch, count)
    return page


def cursor_after(feed: Feed, scanned: Scanned | None) -> int:
    """Return the cursor of an object after a page of scans: a scan that is done is followed from its S."""
    return scanned.since if scanned is not None and scanned.done else feed.cursor


def _begun(keys: Keys, head: int) -> tuple[Scan, int]:
    end, count = keys.end()
    return Scan(head, until=end), count


def _entries(stretch: Stretch, feed: Feed) -> list[Entry]:
    wanted = Filter.from_wire(feed.filter)
    return [
        Entry(name, key, version, data=msgspec.Raw(text))
        for name, key, version, _, text in stretch.rows
        if text is not None and (wanted.is_open or passes(key, text, wanted))
    ]
