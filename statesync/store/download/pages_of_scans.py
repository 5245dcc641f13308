"""Whether a hub could have meant a page of scans: one object's records after the other's, in key order.

Keys are compared as texts: the order of their code points is that of their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter, ge

from statesync.wire import Entry, Feed, Page, Pull, Scanned


def fault(request: Pull, page: Page) -> str | None:
    """Return what is wrong with a page of scans, None if nothing is.

    A page has the scans of its request in their order, up to one that is not done; nothing else moves.
    """
    asked = [name for name, feed in request.objects.items() if feed.scan is not None]
    if not page.scans.keys() <= {*asked}:
        return "a scan that was not asked for"
    entries = {name: list(some) for name, some in groupby(page.changes, attrgetter("object"))}
    if not entries.keys() <= page.scans.keys() or sum(map(len, entries.values())) != len(page.changes):
        return "a page of scans with records of other objects"
    for name, feed in request.objects.items():
        scanned = page.scans.get(name)
        led = feed.cursor if scanned is None or not scanned.done else scanned.since
        if page.cursors[name] != led:
            return "a page of scans that moves another cursor"
        if scanned is not None and (wrong := _fault_of_one(feed, scanned, entries.get(name, []), page)):
            return wrong
    if not page.more and not all(name in page.scans and page.scans[name].done for name in asked):
        return "the last page of a scan that is not done"
    return None


def _fault_of_one(feed: Feed, scanned: Scanned, entries: Sequence[Entry], page: Page) -> str | None:
    scan = feed.scan
    after = scan.after if scan is not None else ""
    keys, stubs = list(map(attrgetter("key"), entries)), scanned.stubs
    if scan is not None and scan.since and (scan.since, scan.until) != (scanned.since, scanned.until):
        return "a scan that began elsewhere than was asked for"
    if scanned.since > page.head:
        return "a scan that began above its own head"
    if not after <= scanned.last <= scanned.until:
        return "a scan that does not come between its position and its end"
    if not scanned.done and scanned.last <= after:
        return "a page of a scan that leads nowhere"
    if any(map(ge, [after, *keys], [*keys, scanned.last + "\0"])):
        return "records of a scan that are not in the order of their keys"
    if any(map(ge, [after, *stubs], [*stubs, scanned.last + "\0"])) or (
        stubs and not {*stubs}.isdisjoint(keys)
    ):
        return "keys of a scan that are not in their order"
    newest = max(map(attrgetter("version"), entries), default=0)
    if newest > scanned.since or any(map(attrgetter("deleted"), entries)):
        return "a record that a scan has not: it is deleted, or newer than its beginning"
    return None
