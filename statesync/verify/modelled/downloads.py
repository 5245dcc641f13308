"""Pages of the modelled device: what to ask for, and storing what came."""

from __future__ import annotations

from functools import partial

from attrs import frozen

from statesync.values import Direction
from statesync.verify.evolving import evolve
from statesync.verify.modelled import quarantine
from statesync.verify.modelled.device import (
    LOST_BY_HUB,
    OBJECT,
    UNKNOWN,
    Device,
    Overruled,
    Tally,
    add_change,
    fold,
    learn,
    put,
    with_change,
)
from statesync.verify.modelled.wire import Entry, Feed, Page, Pull

PAGE_SIZE = 1


@frozen(slots=False, cache_hash=True)
class Fetched:
    """A page that has come in answer to ``request``, checked; not stored yet."""

    request: Pull
    page: Page


def request(device: Device) -> Pull:
    """Return the request for the next page."""
    feed = Feed(OBJECT, device.cursor, own=device.rereading is not None, begun=device.begun)
    return Pull(device.client, device.number, device.hub, device.epoch, (feed,), PAGE_SIZE, device.head)


def request_ahead(fetched: Fetched) -> Pull:
    """Return what ``request`` will return once the page that has come is stored."""
    asked, page = fetched.request, fetched.page
    reached = dict(page.cursors)
    feeds = tuple(
        evolve(feed, cursor=reached[feed.object], begun=_begun_after(page, feed.cursor, feed.begun))
        for feed in asked.feeds
    )
    head = max(asked.head, page.head)
    return evolve(asked, hub=page.hub, epoch=page.epoch, feeds=feeds, head=head)


def store(device: Device, page: Page, *, holds: bool = True) -> tuple[Device, Tally]:
    """Store a page with its cursor in one transaction.

    A record with a pending change is never overwritten, and one that does not fit its table waits. ``holds``
    says that something may have waited before: it is tried again once the feed is drained.
    """
    device = fold(learn(device, page.hub, page.epoch, page.head))
    rereads, cursor = device.rereading is not None, dict(page.cursors)[OBJECT]
    waiting = {each.key for each in device.held}
    device, to_store = _left_aside(device, page)
    device, misfits = quarantine.write(device, to_store)
    still = {misfit.key for misfit in misfits}
    device = quarantine.release(device, {entry.key for entry in page.entries} - still)
    known = dict(device.ahead)
    device = quarantine.hold(device, misfits)
    held = len(still - waiting)
    if rereads and not page.more:
        device = _finish_reread(device)
    begun = _begun_after(page, device.cursor, device.begun) if cursor != device.cursor else device.begun
    device = evolve(_pass_over(device, cursor), cursor=cursor, begun=begun)
    device = quarantine.keep_bases(device, misfits, known)
    fitted = 0
    if holds and not page.more:
        device, fitted = quarantine.try_again(device)
    released = len(waiting) + held - len(device.held)
    tally = Tally(Direction.DOWNLOAD, len(to_store) - len(misfits) + fitted, held, released)
    got = tuple((entry.key, entry.version) for entry in page.entries)
    device = evolve(device, received=(*device.received, *got), committed=(*device.committed, tally))
    return device, tally


def _begun_after(page: Page, cursor: int, begun: int) -> int:
    """Return the head at which the read from the start began that goes on after a page from ``cursor``."""
    if not page.more:
        return 0
    return begun if cursor else page.head


def _left_aside(device: Device, page: Page) -> tuple[Device, list[Entry]]:
    """Return the device without the records of a page that its own changes stand before, and the others."""
    waiting, to_store = {each.key for each in device.held}, []
    knows = device.reread_from != UNKNOWN
    seen_until = device.reread_from if knows else 0
    for entry in page.entries:
        is_pending = device.pending(entry.key) is not None
        if device.rereading is not None:
            device = evolve(device, seen=tuple(sorted({*device.seen, entry.key})))
        is_ours = not is_pending and entry.key not in waiting
        if is_ours and device.rereading == LOST_BY_HUB and entry.version <= seen_until:
            device, is_pending = _offer_newer(device, entry)
        if is_ours and device.rereading == LOST_BY_HUB and not knows:
            device = _log_overwritten(device, entry)
        if is_pending:
            device = with_change(device, entry.key, partial(evolve, shared=True))
        else:
            to_store.append(entry)
    return device, to_store


def _pass_over(device: Device, cursor: int) -> Device:
    """Forget which versions are ahead of the cursor, as far as it passes them now.

    A read from the start passes also those of old rows, which say nothing of what waits.
    """
    held = {each.key for each in device.held}
    left = tuple(each for each in device.ahead if each[0] in held or not device.cursor < each[1] <= cursor)
    return evolve(device, ahead=left)


def _offer_newer(device: Device, entry: Entry) -> tuple[Device, bool]:
    """Offer again what this device has of a newer kind than a restored hub; tell whether it did."""
    ours = device.row(entry.key)
    if ours is None or ours == entry.data:
        return device, False
    if entry.data is None:  # the delete may as well have been made since the backup took the hub's place
        return add_change(device, entry.key, "insert", None, 1), True
    return add_change(device, entry.key, "update", entry.data, entry.version), True


def _log_overwritten(device: Device, entry: Entry) -> Device:
    """Keep in the conflict log what the hub's record replaces: ours may be newer, nobody knows."""
    ours = device.row(entry.key)
    if ours is None or ours == entry.data:
        return device
    lost = Overruled(entry.key, None, ours, entry.data, entry.data)
    return evolve(device, conflicts=(*device.conflicts, lost))


def _finish_reread(device: Device) -> Device:
    """Answer for the records that the hub did not show: it lost them, or they were deleted there."""
    waiting = {each.key for each in device.outbox}
    unseen = [key for key, _ in device.rows if key not in device.seen and key not in waiting]
    for key in unseen:
        if device.rereading == LOST_BY_HUB:
            device = add_change(device, key, "insert", None, max(1, device.missed_from), shared=True)
        else:
            device = put(device, key, None)
    device = quarantine.release(device, {each.key for each in device.held} - set(device.seen))
    held = {each.key for each in device.held}
    bases = tuple(each for each in device.ahead if each[0] in held)
    return evolve(device, rereading=None, reread_from=0, missed_from=0, seen=(), ahead=bases)
