"""Pages of the modelled device: what to ask for, and storing what came."""

from __future__ import annotations

from functools import partial

from attrs import frozen

from statesync.values import Direction
from statesync.verify.evolving import evolve
from statesync.verify.modelled import quarantine, ranges
from statesync.verify.modelled.adapting import reread
from statesync.verify.modelled.device import (
    LOST_BY_HUB,
    MISSED_DELETES,
    UNKNOWN,
    Device,
    Overruled,
    Tally,
    add_change,
    fold,
    learn,
    put,
    read_before,
    with_change,
)
from statesync.verify.modelled.wire import Entry, Feed, Page, Pull, Scan, Scanned

PAGE_SIZE = 1


@frozen(slots=False, cache_hash=True)
class Fetched:
    """A page that has come in answer to ``request``, checked; not stored yet."""

    request: Pull
    page: Page


def request(device: Device) -> Pull:
    """Return the request for the next page."""
    feeds = tuple(map(_feed, device.objects))
    return Pull(device.client, device.number, device.hub, device.epoch, feeds, PAGE_SIZE, device.head)


def _feed(device: Device) -> Feed:
    scan = device.scan if device.cursor else evolve(device.scan or Scan(), spares=_spares(device))
    own = device.rereading is not None or (scan is not None and scan.since > 0 and not device.part)
    return Feed(device.object, device.cursor, own, device.filter, device.begun, scan)


def _spares(device: Device) -> bool:
    """Tell whether the device has all that it wrote itself: it reads for the first time, without a filter."""
    return device.rereading is None and device.filter is None


def request_ahead(fetched: Fetched) -> Pull:
    """Return what ``request`` will return once the page that has come is stored."""
    asked, page = fetched.request, fetched.page
    feeds = tuple(_followed(feed, page) for feed in asked.feeds)
    head = max(asked.head, page.head)
    return evolve(asked, hub=page.hub, epoch=page.epoch, feeds=feeds, head=head)


def _followed(feed: Feed, page: Page) -> Feed:
    """Return what follows a page of one object; what it has of a scan that goes on says how."""
    scanned, cursor = dict(page.scans).get(feed.object), dict(page.cursors)[feed.object]
    if scanned is None and page.scans:  # the page was full before it came to this object
        return feed
    if scanned is None:
        goes_on = feed.own and page.more
        return evolve(
            feed, cursor=cursor, begun=_begun_after(page, feed.cursor, feed.begun), scan=None, own=goes_on
        )
    spares = feed.scan is not None and feed.scan.spares
    scan = None if scanned.done else evolve(ranges.position_after(scanned), spares=spares)
    return evolve(feed, cursor=cursor, scan=scan, own=scan is not None and not cursor)


def store(device: Device, page: Page, *, holds: bool = True) -> tuple[Device, Tally]:
    """Store a page with its cursor in one transaction.

    A record with a pending change is never overwritten, and one that does not fit its table waits. ``holds``
    says that something may have waited before: it is tried again once the feed is drained.
    """
    after, tally = _object_stored(device, _of(page, device.object), holds)
    if device.beside is not None:
        beside, more = _object_stored(device.beside, _of(page, device.beside.object), holds)
        after = evolve(after, beside=beside)
        held, released = tally.held + more.held, tally.released + more.released
        tally = Tally(Direction.DOWNLOAD, tally.records + more.records, held, released)
    return evolve(after, committed=(*after.committed, tally)), tally


def _of(page: Page, name: str) -> Page:
    """Return a page with the entries of one object alone."""
    return evolve(page, entries=tuple(entry for entry in page.entries if entry.object == name))


def _object_stored(device: Device, page: Page, holds: bool) -> tuple[Device, Tally]:
    device = fold(learn(device, page.hub, page.epoch, page.head))
    if not page.scans and device.part:  # what an older hub tells is another thing than was asked for
        return reread(device, MISSED_DELETES), Tally(Direction.DOWNLOAD, 0)
    scanned, waiting = dict(page.scans).get(device.object), {each.key for each in device.held}
    device = _made_ready(device, page, scanned)
    if device.rereading == LOST_BY_HUB:
        device = quarantine.log_replaced(device, page.entries)
    device, to_store = _left_aside(device, page)
    device, misfits = quarantine.write(device, to_store)
    still = {misfit.key for misfit in misfits}
    device = quarantine.release(device, {entry.key for entry in page.entries} - still)
    known = dict(device.ahead)
    device = quarantine.hold(device, misfits)
    held = len(still - waiting)
    device = _moved(device, page) if scanned is None else ranges.move(device, scanned)
    device = quarantine.keep_bases(device, misfits, known)
    fitted = 0
    if holds and not page.more:
        device, fitted = quarantine.try_again(device)
    released = len(waiting) + held - len(device.held)
    tally = Tally(Direction.DOWNLOAD, len(to_store) - len(misfits) + fitted, held, released)
    got = tuple((entry.key, entry.version) for entry in page.entries)
    return evolve(device, received=(*device.received, *got)), tally


def _made_ready(device: Device, page: Page, scanned: Scanned | None) -> Device:
    """Return a device that may store a page: in an older hub's way, or without what its range lacks.

    What was local only and is at the hub is that no more.
    """
    if not page.scans and device.scan is not None:  # an older hub has taken the place of the one before
        device = reread(device, MISSED_DELETES)
    elif scanned is not None:
        device = ranges.replace(ranges.put_off_index(device, scanned), page, scanned)
    come = {entry.key for entry in page.entries}
    return evolve(device, local=tuple(key for key in device.local if key not in come))


def _moved(device: Device, page: Page) -> Device:
    """Move the cursor of a feed; a read from the start in the order of versions ends with the last page."""
    cursor = dict(page.cursors)[device.object]
    if device.rereading is not None and not page.more:
        device = _finish_reread(device)
    begun = _begun_after(page, device.cursor, device.begun) if cursor != device.cursor else device.begun
    return evolve(_pass_over(device, cursor), cursor=cursor, begun=begun)


def _begun_after(page: Page, cursor: int, begun: int) -> int:
    """Return the head at which the read from the start began that goes on after a page from ``cursor``."""
    if not page.more:
        return 0
    return begun if cursor else page.head


def _left_aside(device: Device, page: Page) -> tuple[Device, list[Entry]]:
    """Return the device without the records of a page that its own changes stand before, and the others."""
    waiting, to_store = {each.key for each in device.held}, []
    knows = device.reread_from != UNKNOWN
    for entry in page.entries:
        device = _withdraw_offer(device, entry)
        is_pending = device.pending(entry.key) is not None
        seen_until = max(device.reread_from, read_before(device, entry.key)) if knows else 0
        if device.rereading is not None and not page.scans:
            device = evolve(device, seen=tuple(sorted({*device.seen, entry.key})))
        is_ours = not is_pending and entry.key not in waiting
        if is_pending:
            device = with_change(device, entry.key, partial(evolve, shared=True, beside=True))
        if is_ours and device.rereading == LOST_BY_HUB and entry.version <= seen_until:
            device, is_pending = _offer_newer(device, entry)
        if is_ours and device.rereading == LOST_BY_HUB and not knows:
            device = _log_overwritten(device, entry)
        if not is_pending:
            to_store.append(entry)
    return device, to_store


def _withdraw_offer(device: Device, entry: Entry) -> Device:
    """Let the hub's record take the place of one that was offered in vain; nobody has edited that here."""
    change = device.pending(entry.key)
    if change is None or not change.is_mere_offer or not change.is_parked:
        return device
    return _log_overwritten(with_change(device, entry.key, lambda _: None), entry)


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
        return add_change(device, entry.key, "insert", None, 1, offered=True), True
    return add_change(device, entry.key, "update", entry.data, entry.version, offered=True), True


def _log_overwritten(device: Device, entry: Entry) -> Device:
    """Keep in the conflict log what the hub's record replaces: ours may be newer."""
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
            base = max(1, read_before(device, key))
            device = add_change(device, key, "insert", None, base, offered=True)
        else:
            device = put(device, key, None)
    gone = {each.key for each in device.held} - set(device.seen)
    if device.rereading == LOST_BY_HUB:
        device = quarantine.log_unseen(device, gone)
    device = quarantine.release(device, gone)
    held = {each.key for each in device.held}
    bases = tuple(each for each in device.ahead if each[0] in held)
    return evolve(device, rereading=None, reread_from=0, missed_from=0, floors=(), seen=(), ahead=bases)
