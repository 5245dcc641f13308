"""A pull: one page of the feeds that a device reads, in the order of their versions, or of its scans.

A page is read together with the space's head in one state of the database, so a cursor never passes
a write that the page could not see. Records travel as their stored texts; only a filter decodes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

import msgspec

from statesync.classes import frozen
from statesync.filters import Filter
from statesync.hub import epochs, spaces
from statesync.hub.db.database import Database, FeedRow
from statesync.hub.db.pages.feeds import Feeds, Read, Wanted
from statesync.hub.epochs import Step
from statesync.hub.errors import Refused, horizon_passed
from statesync.hub.limits import Allowance, Ask, HubLimits, unbounded
from statesync.hub.pages import scans
from statesync.hub.pages.matching import passes
from statesync.hub.spaces import ClientState
from statesync.wire import Entry, Feed, Page, Pull


@frozen
class PageAnswer:
    """A page as JSON."""

    page: bytes
    records: int
    """What was read for it, in records: with those that a filter hides, and a tenth of those passed over."""
    more: bool


def answer(
    database: Database,
    space: str,
    request: Pull,
    limits: HubLimits,
    *,
    may_begin: bool,
    seen: ClientState | None = None,
    is_amid: bool = False,
    ask: Ask = unbounded,
) -> PageAnswer | None:
    """Return the page that follows the request's cursors; None if ``renew`` has to come first.

    ``may_begin`` says that the reader may write, and so begin an epoch. ``seen`` is where the reader stood
    since the request came, if that is known; ``is_amid`` says that there is probably more to read, so that
    nobody looks whether there is. ``ask`` tells how large the page may be made. Raises the refusal of a
    device that is somewhere else than it believes, and ``NoMemory``; whoever only reads takes no lock by
    that.
    """
    if not is_amid:
        state = seen or spaces.ask(database, space, request.client)
        if not _is_readable(state, request, limits, may_begin):
            return None
        if not _is_behind(state, request):
            return _answer(state, request, Read([], state.head))  # the commonest pull is one statement
    allowance = Allowance(limits.page_bytes, ask)
    allowance.begin()
    with database.reading():
        state = spaces.find(database, space, request.client)
        if not _is_readable(state, request, limits, may_begin):
            return None
        _check_deletes_kept(state, request)
        return _read_page(database, space, state, request, limits, allowance)


def nothing_new(request: Pull, limits: HubLimits, state: ClientState, *, may_begin: bool) -> bytes | None:
    """Return the empty page of a reader who stands at the head; None if there is more to do.

    Raises what ``answer`` raises.
    """
    if not _is_readable(state, request, limits, may_begin) or _is_behind(state, request):
        return None
    return _answer(state, request, Read([], state.head)).page


def renew(
    database: Database, space: str, request: Pull, limits: HubLimits, state: ClientState, *, may_begin: bool
) -> Refused | None:
    """Begin a new epoch in the locked space if that is due; return why the reader cannot go on yet, or
    None."""
    claim = epochs.claim_of(request)
    step = epochs.next_step(state, claim, may_begin=may_begin, pause=limits.epoch_pause)
    if step is Step.BEGIN_EPOCH:
        return epochs.begin(database, space, state, claim.seen)
    return step if isinstance(step, Refused) else None


def _is_readable(
    state: ClientState | None, request: Pull, limits: HubLimits, may_begin: bool
) -> TypeGuard[ClientState]:
    """Tell whether there is a page to read; not if the space is new, or has to begin an epoch first."""
    if state is None:
        return False
    claim = epochs.claim_of(request)
    step = epochs.next_step(state, claim, may_begin=may_begin, pause=limits.epoch_pause)
    if isinstance(step, Refused):
        raise step
    return step is Step.GO_ON


def _is_behind(state: ClientState, request: Pull) -> bool:
    """Tell whether there may be something that the device has not seen; a scan is answered in any case."""
    return any(feed.scan is not None or feed.cursor < state.head for feed in request.objects.values())


def _has_nothing(state: ClientState, feed: Feed) -> bool:
    """Tell whether the device has no record of this feed, so that there is nothing to delete on it.

    A device that has uploaded, or that is re-reading, may already have records.
    """
    return feed.cursor == 0 and not feed.own and state.number == 0


def _check_deletes_kept(state: ClientState, request: Pull) -> None:
    """Raise the 410 if the device may have missed a delete that is no longer kept.

    A scan that begins shows no deletes, and has missed none; one that goes on is followed by the feed from
    where it began.
    """
    purged_through = state.purged_through
    scanned = [feed.scan for feed in request.objects.values() if feed.scan is not None]
    if any(0 < scan.since < purged_through for scan in scanned):
        raise horizon_passed(purged_through)
    feeds = [feed for feed in request.objects.values() if feed.scan is None]
    unread = any(feed.cursor == 0 and not feed.own for feed in feeds)
    if purged_through and unread and state.number:  # a record that it uploaded may have been deleted since
        raise horizon_passed(purged_through)
    if any(feed.cursor and _deletes_known(feed, request) < purged_through for feed in feeds):
        raise horizon_passed(purged_through)


def _deletes_known(feed: Feed, request: Pull) -> int:
    """Return up to which version no delete was missed of what the device has of a feed.

    What a read from the start has met was there when that began. A device of an older version does not say
    when: amid such a read it asks for its own writes, and the head that it was told last has to do.
    """
    return max(feed.cursor, feed.begun or (request.head if feed.own else 0))


def _read_page(
    database: Database,
    space: str,
    state: ClientState,
    request: Pull,
    limits: HubLimits,
    allowance: Allowance,
) -> PageAnswer:
    limit = min(request.limit or limits.default_page, limits.page)
    if any(feed.scan is not None for feed in request.objects.values()):
        page = scans.read(database, space, state, request, limit, allowance)
        return _answer_to_scans(state, request, page)
    wanted = [
        Wanted(name, feed.cursor, None if feed.own else request.client, _has_nothing(state, feed))
        for name, feed in request.objects.items()
        if feed.cursor < state.head
    ]
    if not wanted:
        return _answer(state, request, Read([], state.head))
    read = Feeds(database, space, state.head, wanted).page(limit, allowance)
    return _answer(state, request, read)


def _answer(state: ClientState, request: Pull, read: Read) -> PageAnswer:
    cursors = {name: max(feed.cursor, read.reached) for name, feed in request.objects.items()}
    entries, more = _entries(read.rows, request, state), read.reached < state.head
    page = msgspec.json.encode(Page(state.hub, state.epoch, state.head, entries, cursors, more))
    return PageAnswer(page, read.records, more)


def _answer_to_scans(state: ClientState, request: Pull, read: scans.Page) -> PageAnswer:
    """Answer with what was read of the scans; what is asked for of feeds waits until all of them are done."""
    asked, found = request.objects, read.scans
    cursors = {name: scans.cursor_after(feed, found.get(name)) for name, feed in asked.items()}
    is_unread = any(feed.scan and not (name in found and found[name].done) for name, feed in asked.items())
    more = is_unread or any(cursor < state.head for cursor in cursors.values())
    page = Page(state.hub, state.epoch, state.head, read.entries, cursors, more, found)
    return PageAnswer(msgspec.json.encode(page), read.cost, more)


def _entries(rows: Iterable[FeedRow], request: Pull, state: ClientState) -> list[Entry]:
    if any(feed.filter is not None for feed in request.objects.values()):
        filters = {name: Filter.from_wire(feed.filter) for name, feed in request.objects.items()}
        every = (_filtered(row, request.objects[row[0]], filters[row[0]], state) for row in rows)
        return [entry for entry in every if entry is not None]
    return [
        Entry(name, key, version, deleted=True)
        if deleted or text is None
        else Entry(name, key, version, data=msgspec.Raw(text))
        for name, key, version, deleted, text in rows
    ]


def _filtered(row: FeedRow, feed: Feed, wanted: Filter, state: ClientState) -> Entry | None:
    """Return a record that the filter hides as deleted, or as nothing if the device cannot have it."""
    name, key, version, deleted, data = row
    if deleted or data is None:
        return Entry(name, key, version, deleted=True)
    if not wanted.is_open and not passes(key, data, wanted):
        return None if _has_nothing(state, feed) else Entry(name, key, version, deleted=True)
    return Entry(name, key, version, data=msgspec.Raw(data))
