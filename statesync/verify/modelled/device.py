"""The modelled device database: records, the log of writes, the outbox, and where the device stands.

All of a ``Device`` survives a crash. Every function is one transaction or a part of one; what each does
in SQL stands in ``statesync.store`` (``docs/internals.md``: "Tracking: log, then fold", "Base versions").
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import frozen

from statesync.values import Direction
from statesync.verify.evolving import evolve
from statesync.verify.modelled.table import Rows, Rules
from statesync.verify.modelled.wire import Change, Fields, Filter, Scan

OBJECT = "Note"
"""The object that modelled devices have, and that their users write."""

OTHER_OBJECT = "Tag"
"""Another one that some of them have beside it, and only read."""

LOST_BY_HUB, MISSED_DELETES, EVERYTHING = "epoch", "horizon", "everything"
"""Why an object is read from the start: the hub was restored, deletes were missed, all was cleared."""

UNKNOWN = -1
"""Where a read from the start has begun at that: nobody knows how far the device had read before."""


@frozen(slots=False, cache_hash=True)
class Logged:
    """One tracked write, and the record as it was before; None: there was none."""

    key: str
    before: Fields | None


@frozen(slots=False, cache_hash=True)
class Pending:
    """One net change in the outbox.

    ``image`` is the record before the first change. ``batch`` is the upload batch that it is under way with,
    and ``sent`` the revision that went up. ``failed``: the hub has rejected it, in the revision ``parked``.
    ``shared``: some hub may have the record, whatever image and base say. ``since`` says since when a delete
    of it would be news, where the base does not. ``offered``: a restored hub has lost what this device has
    seen there. ``beside``: a page has brought the hub's record, which is kept beside the change.
    """

    position: int
    key: str
    operation: str
    image: Fields | None
    base: int
    revision: int = 1
    batch: str | None = None
    sent: int | None = None
    failed: bool = False
    parked: int | None = None
    shared: bool = False
    since: int = 0
    offered: bool = False
    beside: bool = False

    @property
    def is_mere_offer(self) -> bool:
        """Whether nobody made it here: it offers again what a restored hub has lost, and no more."""
        return self.offered and self.revision == 1 and not self.beside

    @property
    def is_parked(self) -> bool:
        """Whether what it is now was rejected: it is not offered before it is edited."""
        return self.parked == self.revision


@frozen(slots=False, cache_hash=True)
class Payload:
    """The exact content of an upload batch, kept until its answer is stored."""

    batch: str
    number: int
    changes: tuple[Change, ...]


@frozen(slots=False, cache_hash=True)
class Held:
    """One record in quarantine, in the version that the hub has; ``in_the_way`` is the key of another."""

    key: str
    version: int
    data: Fields | None
    in_the_way: str | None = None
    tries: int = 1


@frozen(slots=False, cache_hash=True)
class Tally:
    """What the journal tells of a batch that was committed: records stored, held, and let go."""

    direction: Direction
    records: int
    held: int = 0
    released: int = 0


@frozen(slots=False, cache_hash=True)
class Overruled:
    """One row of the conflict log: what each side had, and what was kept."""

    key: str
    base: Fields | None
    local: Fields | None
    remote: Fields | None
    kept: Fields | None


@frozen(slots=False, cache_hash=True)
class Device:
    """One device's database.

    ``positions`` is the last position that was given out in the outbox. ``payload`` is the staged upload,
    ``in_doubt`` that the hub may have applied it. ``rereading`` is why the feed is read from the start,
    ``reread_from`` the cursor before that, ``missed_from`` how far deletes of other records than the ``seen``
    ones are known, whose keys were met since, ``begun`` the hub's head when it began, while a read from the
    start, the first one too, goes on. ``ahead`` are the versions of records that are here in another one than
    the cursor says: what came with the answer to an upload, and the old rows of what is in quarantine.
    ``rules`` are those of the table, ``held`` is what does not fit it. ``committed`` has the batches that the
    running session's journal shows as committed. ``looks`` counts how often each object was described.

    ``scan`` is how far a read in the order of keys has come; the cursor is 0 until it is done. With ``part``
    it is of one range of keys, as they were at the cursor, which stays where it is. ``floors`` say
    up to which key an earlier one, which had to begin anew, has read, and up to which version. ``filter``
    narrows what is read, and ``local`` are the records that never were meant for the hub. ``beside`` is what
    the database has of another object: its records, and where it stands. ``index`` is where the table's index
    is (``modelled.ranges``).

    For the promises alone: ``typed`` is what the user entered, ``received`` what came from the feed.
    """

    name: str
    client: str
    number: int = 0
    hub: str | None = None
    epoch: int | None = None
    head: int = 0
    cursor: int = 0
    rereading: str | None = None
    reread_from: int = 0
    missed_from: int = 0
    begun: int = 0
    seen: tuple[str, ...] = ()
    ahead: tuple[tuple[str, int], ...] = ()
    rows: Rows = ()
    log: tuple[Logged, ...] = ()
    outbox: tuple[Pending, ...] = ()
    positions: int = 0
    batches: int = 0
    payload: Payload | None = None
    in_doubt: bool = False
    conflicts: tuple[Overruled, ...] = ()
    committed: tuple[Tally, ...] = ()
    rules: Rules | None = None
    held: tuple[Held, ...] = ()
    looks: tuple[tuple[str, int], ...] = ((OBJECT, 1),)
    scan: Scan | None = None
    part: bool = False
    floors: tuple[tuple[str, int], ...] = ()
    filter: Filter | None = None
    local: tuple[str, ...] = ()
    object: str = OBJECT
    beside: Device | None = None
    index: str = "none"
    typed: tuple[tuple[str, Fields | None], ...] = ()
    received: tuple[tuple[str, int], ...] = ()

    @property
    def objects(self) -> tuple[Device, ...]:
        """What the database has of each of its objects."""
        return (self,) if self.beside is None else (self, self.beside)

    def row(self, key: str) -> Fields | None:
        """Return a record, None where there is none."""
        return dict(self.rows).get(key)

    def pending(self, key: str) -> Pending | None:
        """Return the change of a record that waits, as far as the log is folded."""
        return next((change for change in self.outbox if change.key == key), None)


# -- rows and outbox -------------------------------------------------------------------------------


def put(device: Device, key: str, data: Fields | None) -> Device:
    """Write or delete (None) one record, untracked."""
    rows = {name: record for name, record in device.rows if name != key}
    if data is not None:
        rows[key] = data
    return evolve(device, rows=tuple(sorted(rows.items())))


def write(device: Device, key: str, data: Fields | None) -> Device:
    """Write or delete (None) one record as the user does: the write is logged."""
    log = (*device.log, Logged(key, device.row(key)))
    typed = tuple(each for each in device.typed if each[0] != key)
    return evolve(put(device, key, data), log=log, typed=(*typed, (key, data)))


def with_change(device: Device, key: str, changed: Callable[[Pending], Pending | None]) -> Device:
    """Replace the change of one record by what ``changed`` makes of it; None takes it out."""
    every = (changed(each) if each.key == key else each for each in device.outbox)
    kept = sorted((each for each in every if each is not None), key=lambda each: each.position)
    return evolve(device, outbox=tuple(kept))


def add_change(
    device: Device,
    key: str,
    operation: str,
    image: Fields | None,
    base: int,
    *,
    since: int = 0,
    shared: bool = False,
    offered: bool = False,
) -> Device:
    """Put a new change at the end of the outbox; one that is ``offered`` some hub may have."""
    position = device.positions + 1
    known = shared or offered
    change = Pending(position, key, operation, image, base, since=since, shared=known, offered=offered)
    return evolve(device, outbox=(*device.outbox, change), positions=position)


def fold(device: Device) -> Device:
    """Make net changes of what was logged. A change that is under way is never folded into nothing."""
    if not device.log:
        return device
    for logged in device.log:
        exists = device.row(logged.key) is not None
        if device.pending(logged.key) is not None:
            device = with_change(device, logged.key, partial(_again, exists))
        elif logged.before is None:
            device = add_change(device, logged.key, "insert" if exists else "delete", None, 0)
        else:
            operation = "update" if exists else "delete"
            base, since = _base(device, logged.key)
            device = add_change(device, logged.key, operation, logged.before, base, since=since)
    return drop_empty(evolve(device, log=()))


def _base(device: Device, key: str) -> tuple[int, int]:
    """Return the version that a change of a known record is based on, and since when its delete is news.

    Mostly it is how far the device has read; a read of what it missed leaves records as they were. What a
    read from the start has not met may have been deleted meanwhile.
    """
    known = dict(device.ahead)
    if key in known:
        return known[key], 0
    if is_scanned(device, key):
        return max(1, read_until(device, key)), 0
    before, is_met = read_before(device, key), key in device.seen
    if device.rereading == MISSED_DELETES:
        return max(1, max(device.cursor, device.reread_from) if is_met else before), 0
    if device.rereading == LOST_BY_HUB and not is_met:
        return max(1, min(device.cursor, before)), before
    return max(1, device.cursor), 0


def is_scanned(device: Device, key: str) -> bool:
    """Tell whether a scan that is not done has come past a key."""
    return device.scan is not None and key <= device.scan.after


def read_until(device: Device, key: str) -> int:
    """Return up to which version all that the hub has of a key is read: a scan is somewhere in the keys."""
    if device.scan is not None and is_scanned(device, key):
        return device.scan.since
    return device.cursor


def read_before(device: Device, key: str) -> int:
    """Return up to which version a key was read before the read from the start that has not met it."""
    return max([device.missed_from, *(since for top, since in device.floors if key <= top)])


def _again(exists: bool, change: Pending) -> Pending:
    known = "insert" if change.image is None else "update"
    return evolve(change, revision=change.revision + 1, operation=known if exists else "delete")


def drop_empty(device: Device) -> Device:
    """Forget changes that came to nothing: made and deleted here, and certainly never on any hub."""
    at_hub = {each.key for each in device.held}
    kept = tuple(each for each in device.outbox if each.key in at_hub or not _is_empty(each))
    return evolve(device, outbox=kept)


def _is_empty(change: Pending) -> bool:
    never_left = change.image is None and change.base == 0 and change.batch is None and not change.shared
    return change.operation == "delete" and never_left


def may_be_there(device: Device, change: Pending) -> Pending:
    """Return a change whose record a hub may have taken: others may have read a new one, and deleted it."""
    follows = device.part or (device.rereading is None and device.scan is None)
    is_read = follows or is_scanned(device, change.key)
    known = (read_until if is_read else read_before)(device, change.key)
    since = change.since if change.base else max(change.since, 1, known)
    return evolve(change, shared=True, since=since)


def keep_doubt(device: Device) -> Device:
    """Note that the hub may have the records of the batch that it may have applied, whatever comes of it."""
    if device.payload is None:
        return evolve(device, in_doubt=True)
    batch = device.payload.batch
    noted = (may_be_there(device, each) if each.batch == batch else each for each in device.outbox)
    return evolve(device, in_doubt=True, outbox=tuple(noted))


def fix_limit(device: Device) -> tuple[Device, int]:
    """Fold, and return the upload limit: what is written later waits for the next session."""
    device = fold(device)
    return device, max((each.position for each in device.outbox), default=0)


def release(device: Device, batch: str | None) -> Device:
    """Set the changes of a batch free: they are ordinary pending changes again."""
    if batch is None:
        return device
    freed = (evolve(each, batch=None, sent=None) if each.batch == batch else each for each in device.outbox)
    return evolve(device, outbox=tuple(freed))


def settle(device: Device) -> Device:
    """Take doubt and payload off the batch that is answered, or offered anew."""
    return evolve(device, payload=None, in_doubt=False)


# -- where the device stands -----------------------------------------------------------------------


def learn(device: Device, hub: str, epoch: int, head: int) -> Device:
    """Remember the hub that answered, and how far it has come."""
    return evolve(device, hub=hub, epoch=epoch, head=max(device.head, head))


# -- the end of a session --------------------------------------------------------------------------


def recovered(device: Device, *, has_batch: bool) -> Device:
    """Return the database after the next opening has ended an interrupted session (K8).

    An upload that was under way stays in doubt; everything else that was staged is dropped.
    """
    if device.in_doubt:
        return keep_doubt(device)
    freed = release(device, device.payload.batch) if has_batch and device.payload else device
    return evolve(freed, payload=None)
