"""The hub, as pure functions: one space with its head, tombstones, receipts and epochs.

This is the only model of the hub. The system model explores it, and ``tests/hub/test_model.py`` holds the
real hub against it, on SQLite and on PostgreSQL. What it has and why: sections 4, 6 and 7 of the design, and
"Base versions" in ``docs/internals.md``.
"""

from __future__ import annotations

from attrs import frozen

from statesync.verify.evolving import evolve
from statesync.verify.modelled import feeds, scans
from statesync.verify.modelled.answers import as_told, repeated, size, without_record
from statesync.verify.modelled.records import Record
from statesync.verify.modelled.wire import (
    Accepted,
    Change,
    Conflict,
    Feed,
    Page,
    Pull,
    Push,
    PushAnswer,
    Refusal,
    Rejected,
    Request,
    Verdict,
    fields,
)
from statesync.wire import (
    CLIENT_FORKED,
    EPOCH_AWAITED,
    EPOCH_CHANGED,
    FORBIDDEN,
    HORIZON_PASSED,
    VERSIONS_USED_UP,
    WRONG_HUB,
)

ANSWER_TOO_LARGE = "answer_too_large"
"""The refusal of a batch that meets more in conflict than an answer carries, where all of it is needed."""

EPOCH_LEAP = 1 << 32
"""How far past all that is known to have been given out a new epoch begins, at least; at most it is twice as
far. It is at random, which is of no account here: a test that needs it says so."""

MOST_LOST = 32 << 32
"""How many versions a restored backup may be behind a device."""

MOST_BATCHES_LOST = 1 << 32
"""How many of a client's batches may be lost with it."""

LAST_VERSION = (1 << 63) - 1
"""Where the versions of a space end."""


@frozen(slots=False, cache_hash=True)
class Receipt:
    """What the hub keeps of a client's last batch."""

    client: str
    number: int
    batch: str
    answer: PushAnswer


@frozen(slots=False, cache_hash=True)
class Hub:
    """One space. ``purged_through`` is the version of the newest tombstone that was forgotten.

    ``epochs`` counts the epochs that were ever begun: a restored backup does not know of the later ones, but
    gives out no epoch twice. ``takes`` are the objects that records may belong to (None: any), ``most`` the
    bytes of a record's JSON, ``carries`` the bytes of records after which an answer carries no more of them:
    a page, or verdicts. ``paces`` says that there is a pause between two epochs, ``pauses`` that it is not
    over. ``few`` is how many records any page may look at, and ``looks`` for each that it may have. A hub of
    an older version does not know scans (``scans``): it passes over what is said of them.
    """

    id: str = "hub"
    epoch: int = 1
    epochs: int = 1
    head: int = 0
    purged_through: int = 0
    records: tuple[Record, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    takes: tuple[str, ...] | None = None
    most: int = 1 << 20
    paces: bool = False
    pauses: bool = False
    carries: int = 8 << 20
    few: int = 1000
    looks: int = 10
    scans: bool = False

    def find(self, name: str, key: str) -> Record | None:
        """Return a record or its tombstone."""
        return next((each for each in self.records if (each.object, each.key) == (name, key)), None)

    def receipt(self, client: str) -> Receipt | None:
        """Return the receipt of a client's last batch."""
        return next((each for each in self.receipts if each.client == client), None)


def restored(hub: Hub, backup: Hub) -> Hub:
    """Return ``backup`` in the place of ``hub``, which gives out no epoch of ``hub`` again."""
    return evolve(backup, epochs=hub.epochs, scans=hub.scans)


def purge(hub: Hub, through: int) -> tuple[Hub, int]:
    """Forget the tombstones up to a version; return how many there were."""
    gone = [each for each in hub.records if each.data is None and each.version <= through]
    kept = tuple(each for each in hub.records if each not in gone)
    newest = max([hub.purged_through, *(each.version for each in gone)])
    return evolve(hub, records=kept, purged_through=newest), len(gone)


# -- what is refused as a whole ----------------------------------------------------------------------


def _disbelieved(
    hub: Hub, request: Request, last: int, acknowledged: int, seen: int, *, may_write: bool = True
) -> tuple[Hub, Refusal | None]:
    """Refuse a device that believes in another hub or epoch, is behind its receipt, or ahead of the hub.

    ``last`` is the number of its receipt. It says that ``acknowledged`` batches were, and that it has
    ``seen`` this version.
    """
    if request.hub not in (None, hub.id):
        return hub, Refusal(WRONG_HUB)
    is_of_epoch = request.epoch in (None, hub.epoch)
    if is_of_epoch and acknowledged < last:
        return hub, Refusal(CLIENT_FORKED, number=last)
    is_ahead = seen > hub.head or (is_of_epoch and acknowledged > last)
    if not is_ahead:
        return hub, None if is_of_epoch else Refusal(EPOCH_CHANGED, hub.epoch, last)
    lost, batches = seen - hub.head, acknowledged - last
    is_explained = lost <= MOST_LOST and batches <= MOST_BATCHES_LOST
    if not may_write or not is_explained or max(hub.head, seen) > LAST_VERSION - 3 * EPOCH_LEAP:
        return hub, Refusal(EPOCH_CHANGED, hub.epoch, last, hub.head)
    return (hub, Refusal(EPOCH_AWAITED)) if hub.pauses else _begin_epoch(hub, seen, last)


def _begin_epoch(hub: Hub, seen: int, last: int) -> tuple[Hub, Refusal]:
    """Answer a device that has seen more than there is: the hub was restored from a backup."""
    begun, head = hub.epochs + 1, max(hub.head, seen) + EPOCH_LEAP
    renewed = evolve(hub, epoch=begun, epochs=begun, head=head, pauses=hub.paces)
    return renewed, Refusal(EPOCH_CHANGED, begun, last)


def with_epoch(hub: Hub) -> Hub:
    """Return the hub in a new epoch, which whoever runs it has begun."""
    return _begin_epoch(hub, 0, 0)[0]


# -- push --------------------------------------------------------------------------------------------


def push(hub: Hub, request: Push, *, may_write: bool = True) -> tuple[Hub, PushAnswer | Refusal]:
    """Apply one upload batch whole, answer its repeat from the receipt, or refuse it.

    Whoever may not write, and may read, hears no more than what became of its last batch.
    """
    receipt = hub.receipt(request.client)
    last = receipt.number if receipt else 0
    is_here = request.hub in (None, hub.id) and request.epoch in (None, hub.epoch)
    if receipt is not None and is_here and (receipt.number, receipt.batch) == (request.number, request.batch):
        return hub, repeated(receipt.answer, request)
    if not may_write:
        return hub, Refusal(FORBIDDEN)
    hub, refusal = _disbelieved(hub, request, last, request.number - 1, request.head)
    if refusal is not None:
        return hub, refusal
    if len(request.changes) > LAST_VERSION - hub.head:
        return hub, Refusal(VERSIONS_USED_UP)
    before, carried = hub, 0
    verdicts: list[Verdict] = []
    for change in request.changes:
        hub, verdict = _judged(hub, request.client, change, before.head)
        if isinstance(verdict, Conflict) and verdict.data is not None:
            if carried >= hub.carries and not request.offers_again:
                return before, Refusal(ANSWER_TOO_LARGE)
            verdict, carried = as_told(verdict, carried, hub.carries)
        verdicts.append(verdict)
    answer = PushAnswer(hub.id, hub.epoch, hub.head, tuple(verdicts))
    others = tuple(each for each in hub.receipts if each.client != request.client)
    bare = evolve(answer, verdicts=tuple(map(without_record, verdicts)))
    kept = (*others, Receipt(request.client, request.number, request.batch, bare))
    return evolve(hub, receipts=kept), answer


def _judged(hub: Hub, client: str, change: Change, head: int) -> tuple[Hub, Verdict]:
    """Judge one change of a batch, before which the hub stood at ``head``."""
    rejected = _rejected(hub, change)
    if rejected is not None:
        return hub, rejected
    found = hub.find(change.object, change.key)
    if change.data is None and (found is None or found.data is None):
        is_lost = found is None and max(change.base, change.since) > 0  # others may have it
        return _written(hub, client, change, found) if is_lost else (hub, Accepted(hub.head))
    conflict = _conflict(hub, client, change, found, head)
    return (hub, conflict) if conflict is not None else _written(hub, client, change, found)


def _rejected(hub: Hub, change: Change) -> Rejected | None:
    if hub.takes is not None and change.object not in hub.takes:
        return Rejected("unknown_object")
    if change.data is not None and size(change.data) > hub.most:
        return Rejected("record_too_large")
    return None


def _conflict(hub: Hub, client: str, change: Change, found: Record | None, head: int) -> Conflict | None:
    seen, since = (each if each <= head else 0 for each in (change.base, change.since))
    if found is None:
        is_known = max(change.base, change.since) > 0
        missed_delete = is_known and max(seen, since) < hub.purged_through
        return Conflict(hub.purged_through, None) if missed_delete else None
    if found.version <= seen or found.writer == client:
        return None
    if found.data is None and change.base == change.since == 0:
        return None
    return Conflict(found.version, found.data)


def _written(hub: Hub, client: str, change: Change, found: Record | None) -> tuple[Hub, Verdict]:
    version, data = hub.head + 1, change.data
    if data is not None and found is not None and found.data is not None:
        data = fields({**dict(found.data), **dict(data)})
        if size(data) > hub.most:
            return hub, Rejected("record_too_large")
    record = Record(change.object, change.key, version, client, data)
    others = tuple(each for each in hub.records if each is not found)
    return evolve(hub, head=version, records=(*others, record)), Accepted(version)


# -- pull --------------------------------------------------------------------------------------------


def pull(hub: Hub, request: Pull, *, may_write: bool = True) -> tuple[Hub, Page | Refusal]:
    """Return the page that follows the cursors, or refuse it; ``may_write`` says what its sender may
    besides."""
    receipt = hub.receipt(request.client)
    last = receipt.number if receipt else 0
    asked = _asked(hub, request)
    seen = max([request.head, *(max(feed.cursor, _since(feed)) for feed in asked.feeds)])
    hub, refusal = _disbelieved(hub, request, last, request.number, seen, may_write=may_write)
    if refusal is not None:
        return hub, refusal
    if _has_missed_deletes(hub, asked, last):
        return hub, Refusal(HORIZON_PASSED)
    is_scan = any(feed.scan is not None for feed in asked.feeds)
    return hub, _page_of_scans(hub, asked) if is_scan else _page_of_feeds(hub, asked, last)


def _asked(hub: Hub, request: Pull) -> Pull:
    """Return what this hub understands of a request."""
    if hub.scans:
        return request
    return evolve(request, feeds=tuple(evolve(feed, scan=None) for feed in request.feeds))


def _since(feed: Feed) -> int:
    return 0 if feed.scan is None else feed.scan.since


def _has_missed_deletes(hub: Hub, request: Pull, last: int) -> bool:
    """Tell whether a delete may be forgotten of a record that the device has.

    A scan that begins has missed none; one that goes on needs the feed from where it began. Any other read
    from the start has missed none of those that were made before it began. A device that does not say where
    that was has read its own writes, too, and was told a head since. What a device uploaded before it read
    anything may have been deleted since.
    """
    if any(0 < _since(feed) < hub.purged_through for feed in request.feeds):
        return True
    if not hub.purged_through or all(feed.cursor >= hub.head for feed in request.feeds):
        return False
    followed = [feed for feed in request.feeds if feed.scan is None]
    if last and any(feed.cursor == 0 and not feed.own for feed in followed):
        return True
    for feed in followed:
        unsaid = request.head if feed.own else 0
        if feed.cursor and max(feed.cursor, feed.begun or unsaid) < hub.purged_through:
            return True
    return False


def _page_of_feeds(hub: Hub, request: Pull, last: int) -> Page:
    most = max(hub.few, hub.looks * request.limit)
    entries, looked_at = feeds.read(hub.records, request, last, most, hub.carries)
    reached = hub.head if looked_at is None else looked_at
    cursors = tuple((feed.object, max(feed.cursor, reached)) for feed in request.feeds)
    return Page(hub.id, hub.epoch, hub.head, entries, cursors, reached < hub.head)


def _page_of_scans(hub: Hub, request: Pull) -> Page:
    entries, found = scans.read(hub.records, request, hub.head, hub.few, hub.looks, hub.carries)
    known = dict(found)
    cursors = tuple((feed.object, scans.cursor_after(feed, known.get(feed.object))) for feed in request.feeds)
    more = any(cursor < hub.head for _, cursor in cursors) or not all(
        feed.scan is None or (feed.object in known and known[feed.object].done) for feed in request.feeds
    )
    return Page(hub.id, hub.epoch, hub.head, entries, cursors, more, found)
