"""Pages of the modelled device: what to ask for, and storing what came."""

from __future__ import annotations

from functools import partial

from attrs import frozen

from statesync.values import Direction
from statesync.verify.evolving import evolve
from statesync.verify.modelled.device import (
    LOST_BY_HUB,
    OBJECT,
    Device,
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
    feed = Feed(OBJECT, device.cursor, own=device.rereading is not None)
    return Pull(device.client, device.number, device.hub, device.epoch, (feed,), PAGE_SIZE, device.head)


def request_ahead(fetched: Fetched) -> Pull:
    """Return what ``request`` will return once the page that has come is stored."""
    asked, page = fetched.request, fetched.page
    reached = dict(page.cursors)
    feeds = tuple(evolve(feed, cursor=reached[feed.object]) for feed in asked.feeds)
    head = max(asked.head, page.head)
    return evolve(asked, hub=page.hub, epoch=page.epoch, feeds=feeds, head=head)


def store(device: Device, page: Page) -> tuple[Device, int]:
    """Store a page with its cursor in one transaction; return how many records it brought.

    A record with a pending change is never overwritten.
    """
    device = fold(learn(device, page.hub, page.epoch, page.head))
    rereads, seen_until = device.rereading is not None, device.reread_from
    stored = 0
    for entry in page.entries:
        is_pending = device.pending(entry.key) is not None
        if rereads:
            device = evolve(device, seen=tuple(sorted({*device.seen, entry.key})))
        if not is_pending and device.rereading == LOST_BY_HUB and entry.version <= seen_until:
            device, is_pending = _offer_newer(device, entry)
        if is_pending:
            device = with_change(device, entry.key, partial(evolve, shared=True))
        else:
            device, stored = put(device, entry.key, entry.data), stored + 1
    if rereads and not page.more:
        device = _finish_reread(device)
    got = tuple((entry.key, entry.version) for entry in page.entries)
    device = evolve(
        _pass_over(device, dict(page.cursors)[OBJECT]),
        cursor=dict(page.cursors)[OBJECT],
        received=(*device.received, *got),
        committed=(*device.committed, (Direction.DOWNLOAD, stored)),
    )
    return device, stored


def _pass_over(device: Device, cursor: int) -> Device:
    """Forget which versions are ahead of the cursor, as far as it passes them now."""
    left = tuple(each for each in device.ahead if not device.cursor < each[1] <= cursor)
    return evolve(device, ahead=left)


def _offer_newer(device: Device, entry: Entry) -> tuple[Device, bool]:
    """Offer again what this device has of a newer kind than a restored hub; tell whether it did."""
    ours = device.row(entry.key)
    if ours is None or ours == entry.data:
        return device, False
    operation = "insert" if entry.data is None else "update"
    return add_change(device, entry.key, operation, entry.data, entry.version), True


def _finish_reread(device: Device) -> Device:
    """Answer for the records that the hub did not show: it lost them, or they were deleted there."""
    waiting = {each.key for each in device.outbox}
    unseen = [key for key, _ in device.rows if key not in device.seen and key not in waiting]
    for key in unseen:
        if device.rereading == LOST_BY_HUB:
            device = add_change(device, key, "insert", None, device.reread_from, shared=True)
        else:
            device = put(device, key, None)
    return evolve(device, rereading=None, reread_from=0, seen=())
