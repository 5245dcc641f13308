"""What must hold of what waits: records that do not fit their table, and changes that the hub has refused."""

from __future__ import annotations

from statesync.verify.modelled import table
from statesync.verify.modelled.device import Device, Held, Pending
from statesync.verify.modelled.downloads import Fetched
from statesync.verify.modelled.hub import Hub
from statesync.verify.modelled.uploads import Verdicts
from statesync.verify.modelled.wire import Push, Rejected, Request
from statesync.verify.system.world import Talk

WAITS = "nothing leaves quarantine or parking without a newer version, a verdict, a fit, or the user (Q2)"
COUNTED = "what a session held, less what it let go, is what waits more than before (Q3)"
HEALED = "once the cause is gone, what waits is in its table after the next session (Q5)"
CONTESTED = "no change overwrites what its device did not have in its table, without a conflict"
EXACT = "only what waits, or is ahead of the cursor, is an exception to it"

STATEMENTS = (WAITS, COUNTED, HEALED, CONTESTED, EXACT)


def broken_by_commit(before: Device, after: Device, talk: Talk) -> str | None:
    """Return the promise that is broken by a transaction of a session, or None."""
    if _is_stale(after):
        return EXACT
    if any(each.is_parked for each in before.outbox) and not _all_parked(before, after, talk):
        return WAITS
    if not before.held and not after.held:
        return None
    now = {each.key: each for each in after.held}
    left = (each for each in before.held if each.key not in now or now[each.key].version != each.version)
    if not all(_may_leave(each, after, talk) for each in left):
        return WAITS
    told = sum(each.held - each.released for each in after.committed)
    return None if len(after.held) == talk.held_before + told else COUNTED


def _is_stale(device: Device) -> bool:
    held = {each.key for each in device.held}
    return any(version <= device.cursor and key not in held for key, version in device.ahead)


def _may_leave(held: Held, after: Device, talk: Talk) -> bool:
    """Tell whether a record fits now, is another one at the hub, or was answered for by it."""
    if after.row(held.key) == held.data:
        return True
    match talk.taken:
        case Fetched(page=page) if page.scans:
            return _is_passed(held.key, talk.taken) or any(entry.key == held.key for entry in page.entries)
        case Fetched(page=page):
            has_read_all = talk.asked is not None and talk.asked.place[1] is not None and not page.more
            return has_read_all or any(entry.key == held.key for entry in page.entries)
        case Verdicts():
            return held.key in _judged(talk)
    return False


def _is_passed(key: str, fetched: Fetched) -> bool:
    """Tell whether a page of a scan has come past a key, and says nothing of a newer version."""
    for feed in fetched.request.feeds:
        scanned = dict(fetched.page.scans).get(feed.object)
        if feed.scan is None or scanned is None or key in scanned.stubs:
            continue
        if feed.scan.after < key and (scanned.done or key <= scanned.last):
            return True
    return False


def _judged(talk: Talk) -> set[str]:
    """Return the records that the hub has accepted, or has another version of."""
    if talk.batch is None or not isinstance(talk.taken, Verdicts):
        return set()
    pairs = zip(talk.batch.payload.changes, talk.taken.answer.verdicts, strict=True)
    return {change.key for change, verdict in pairs if not isinstance(verdict, Rejected)}


def _all_parked(before: Device, after: Device, talk: Talk) -> bool:
    """Tell whether every parked change still is, but what was edited since, and what a verdict was about."""
    edited = {each.key for each in before.log} | _judged(talk)
    parked = (each for each in before.outbox if each.is_parked and each.key not in edited)
    return all(_is_still(each, after) for each in parked)


def _is_still(change: Pending, after: Device) -> bool:
    now = after.pending(change.key)
    return now is not None and now.is_parked


def broken_by_others(before: Device, after: Device) -> str | None:
    """Return the promise that is broken where another program has changed a store, or None."""
    kept = {(each.key, each.version, each.data) for each in after.held}
    return None if all((each.key, each.version, each.data) in kept for each in before.held) else WAITS


def broken_by_push(before: Hub, after: Hub, request: Request, device: Device) -> str | None:
    """Return the promise that is broken where the hub wrote over another device's record, or None.

    A restored hub has older records than were read of it, so that this says nothing of them.
    """
    if not isinstance(request, Push) or after.head == before.head or before.epochs > 1:
        return None
    for change in request.changes:
        found, now = (hub.find(change.object, change.key) for hub in (before, after))
        if found is None or found.data is None or found == now or found.writer == request.client:
            continue
        pending = device.pending(change.key)
        if pending is not None and pending.image != found.data:
            return CONTESTED
    return None


def broken_by_download(device: Device, talk: Talk) -> str | None:
    """Return the promise that is broken where a session has read all, or None.

    If the table had no rule from its beginning on, nothing waits but for a verdict on a change.
    """
    if device.rules is not None or dict(device.looks) != dict(talk.looks):
        return None
    changed = {each.key for each in device.outbox} | {each.key for each in device.log}
    return None if {each.key for each in device.held} <= changed else HEALED


def broken_at_last(device: Device) -> str | None:
    """Return the promise that is broken where records wait that fit, alone or together, or None."""
    free = [each for each in device.held if device.pending(each.key) is None]
    if any(table.fits(device.rules, device.rows, each.key, each.data) for each in free):
        return HEALED
    moved = table.written(device.rows, [(each.key, each.data) for each in free])
    stuck = free and all(table.fits(device.rules, moved, each.key, each.data) for each in free)
    return HEALED if stuck else None
