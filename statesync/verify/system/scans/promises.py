"""What must hold of reading from the start: of a scan in the order of keys, and of the feed after it."""

from __future__ import annotations

from statesync.verify.modelled.device import OBJECT, Device
from statesync.verify.modelled.downloads import Fetched
from statesync.verify.modelled.hub import Hub
from statesync.verify.modelled.ranges import Index
from statesync.verify.modelled.records import Record, matches
from statesync.verify.modelled.wire import Answer, Conflict, Page, Pull, Push, PushAnswer, Request, Scanned
from statesync.verify.system.world import Talk, World

KEPT = "no page of a scan takes a record away that the hub had when it answered, that waits, or is local only"
PASSED = "what a scan has passed is in its table as the hub has it, waits, or comes with the feed"
FOLLOWED = "no page of a scan is answered whose feed the hub has forgotten"
BOUNDED = "a scan tells of nothing behind the last record that there was when it began"
FOUNDED = "no change is in conflict with a version that it was made on"
ONWARD = "no page of a scan leads another one back, or lets it begin anew"
GIVEN_BACK = "what a device has written last is what the hub has, also after it was restored from a backup"

BUILT = "who has read all has every index, and one that was dropped before can be built"

STATEMENTS = (KEPT, PASSED, FOLLOWED, BOUNDED, FOUNDED, ONWARD, GIVEN_BACK, BUILT)


# -- answers -----------------------------------------------------------------------------------------


def broken_by_answer(hub: Hub, device: Device, request: Request, answer: Answer) -> str | None:
    """Return the promise that an answer breaks, or None; ``hub`` and ``device`` are as it was asked for."""
    match request, answer:
        case Push(), PushAnswer() if hub.epochs == 1:
            met = _conflicts(request, answer)
            return None if all(_is_founded(hub, device, key) for key in met) else FOUNDED
        case Pull(), Page():
            return _broken_by_page(hub, request, answer)
    return None


def _conflicts(request: Push, answer: PushAnswer) -> list[str]:
    pairs = zip(request.changes, answer.verdicts, strict=True)
    return [change.key for change, verdict in pairs if isinstance(verdict, Conflict)]


def _is_founded(hub: Hub, device: Device, key: str) -> bool:
    """Tell whether a change was made on another record than the hub has, as far as what is in them tells.

    A device that was reset knows of no hub, and offers what it has as new.
    """
    found, change = hub.find(OBJECT, key), device.pending(key)
    if found is None or found.data is None or change is None or "+" in device.client:
        return True
    return change.image != found.data


def _broken_by_page(hub: Hub, request: Pull, page: Page) -> str | None:
    """Return the promise that a page of scans breaks, or None."""
    asked = {feed.object: feed.scan for feed in request.feeds}
    for name, scanned in page.scans:
        scan = asked[name]
        if scanned.since < hub.purged_through:
            return FOLLOWED
        ends = scan.until if scan is not None and scan.since else _last(hub, name)
        told = {*scanned.stubs} | {entry.key for entry in page.entries if entry.object == name}
        if scanned.until != ends or any(key > ends for key in told):
            return BOUNDED
    return None


def _last(hub: Hub, name: str) -> str:
    return max(
        (each.key for each in hub.records if each.object == name and each.data is not None), default=""
    )


# -- the index -----------------------------------------------------------------------------------------


def broken_by_index(device: Device, *, has_read_all: bool) -> str | None:
    """Return the promise that is broken where an index is not there, or None."""
    missing = (Index.WAITS, Index.LOST) if has_read_all else (Index.LOST,)
    return BUILT if device.index in missing else None


# -- transactions --------------------------------------------------------------------------------------


def broken_by_commit(hub: Hub, before: Device, after: Device, talk: Talk) -> str | None:
    """Return the promise that is broken where a page of a scan was stored, or None."""
    page = talk.taken.page if isinstance(talk.taken, Fetched) else None
    if page is None or page.epoch != hub.epoch or page.head > hub.head:  # the hub was restored since
        return None
    if page.scans and not all(map(_goes_on, before.objects, after.objects)):
        return ONWARD
    for was, now in zip(before.objects, after.objects, strict=True):
        scanned = dict(page.scans).get(was.object)
        if scanned is None:
            continue
        if any(_is_taken_away(hub, was, now, key, page, scanned) for key, _ in was.rows):
            return KEPT
        if not has_passed_all(hub, now):
            return PASSED
    return None


def _goes_on(before: Device, after: Device) -> bool:
    """Tell whether a scan is where it was, or further, or done."""
    if before.scan is None:
        return True
    if after.scan is None:
        return after.cursor >= before.scan.since
    return after.scan.since == before.scan.since and after.scan.after >= before.scan.after


def _is_taken_away(hub: Hub, before: Device, after: Device, key: str, page: Page, scanned: Scanned) -> bool:
    if after.row(key) is not None:
        return False
    found = hub.find(before.object, key)
    is_there = found is not None and found.data is not None and found.version <= page.head
    if key in before.local or after.pending(key) is not None:
        return True
    return is_there and is_wanted(before, found) and key <= scanned.until


def has_passed_all(hub: Hub, device: Device) -> bool:
    """Tell whether all up to the position of a scan is as it should be, but for what was changed here."""
    scan = device.scan
    if scan is None:
        return True
    changed = {each.key for each in device.outbox} | {each.key for each in device.log}
    here = {**dict(device.rows), **{each.key: each.data for each in device.held}}
    records = (each for each in hub.records if each.object == device.object)
    there = {each.key: each for each in records if each.data is not None}
    for key in {*here, *there} - changed - {*device.local}:
        found = there.get(key)
        if key > scan.after or (found is not None and found.version > scan.since):
            continue
        expected = found.data if found is not None and is_wanted(device, found) else None
        if here.get(key) != expected and not _is_gone_since(hub, device.object, key, scan.since):
            return False
    return True


def is_wanted(device: Device, found: Record | None) -> bool:
    """Tell whether a record of the device's is there, and its filter lets it through."""
    if found is None or found.data is None:
        return False
    return found.object == device.object and matches(found.data, device.filter)


def _is_gone_since(hub: Hub, name: str, key: str, since: int) -> bool:
    """Tell whether a record was deleted since a scan began: the feed will tell, or it is forgotten by now."""
    found = hub.find(name, key)
    if found is None:
        return hub.purged_through > since
    return found.data is None and found.version > since


# -- when all is quiet -----------------------------------------------------------------------------------


def broken_at_last(world: World) -> str | None:
    """Return the promise that is broken once everything has come to rest, or None.

    A delete that was made after the backup is forgotten by everybody; what was overruled is in a log.
    """
    last = {each.key: each for each in world.written}
    overruled = {(each.key, each.local) for device in world.devices for each in device.conflicts}
    for key, each in last.items():
        found = world.hub.find(OBJECT, key)
        is_there = found is not None and found.data == each.data
        if each.data is not None and not is_there and (key, each.data) not in overruled:
            return GIVEN_BACK
    return None
