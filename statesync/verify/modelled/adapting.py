"""How the modelled device follows a hub that says that it is not where the device believes it is."""

from __future__ import annotations

from statesync.verify.evolving import evolve
from statesync.verify.modelled.device import (
    EVERYTHING,
    LOST_BY_HUB,
    MISSED_DELETES,
    UNKNOWN,
    Device,
    Pending,
    fold,
    keep_doubt,
    may_be_there,
    release,
    settle,
)
from statesync.verify.modelled.wire import Refusal
from statesync.wire import CLIENT_FORKED, EPOCH_CHANGED


def adapt(device: Device, refusal: Refusal) -> Device:
    """Follow a hub that says that our identity, its epoch or its memory of deletes is not what we believe."""
    if device.beside is not None:
        device = evolve(device, beside=adapt(device.beside, refusal))
    if refusal.code == CLIENT_FORKED:
        device = fold(_let_go_of_doubt(device))
        sent = tuple(may_be_there(device, each) for each in device.outbox)  # the other one may have sent it
        device = evolve(device, outbox=sent)
        device = evolve(device, client=f"{device.client}'", number=0)
        is_read = device.cursor or device.scan is not None
        return device if is_read else reread(device, MISSED_DELETES)
    if refusal.code == EPOCH_CHANGED:
        device = _let_go_of_doubt(device)
        device = evolve(device, epoch=refusal.epoch, number=refusal.number or 0, head=0)
        device = reread(device, LOST_BY_HUB)
        return device if refusal.highest is None else _forget_above(device, refusal.highest)
    return reread(device, MISSED_DELETES)


def _let_go_of_doubt(device: Device) -> Device:
    if not device.in_doubt or device.payload is None:
        return device
    return settle(release(keep_doubt(device), device.payload.batch))


def reread(device: Device, why: str) -> Device:
    """Begin to read from the start. Pending changes stay; a restored hub knows nothing of their bases.

    What a scan that was not done has read, it has read.
    """
    device = fold(device)
    device = evolve(
        device,
        seen=(),
        received=(),
        cursor=0,
        begun=0,
        scan=None,
        part=False,
        floors=_floors(device),
        reread_from=max(device.cursor, device.reread_from) if device.cursor else device.reread_from,
        missed_from=device.cursor if device.rereading in (None, EVERYTHING) else device.missed_from,
        rereading=LOST_BY_HUB if device.rereading == LOST_BY_HUB else why,
    )
    if why != LOST_BY_HUB:
        return device
    return evolve(device, ahead=(), outbox=tuple(map(_without_version, device.outbox)))


def _floors(device: Device) -> tuple[tuple[str, int], ...]:
    """Return how far scans had come that were not done; a later one has read more, and hides some."""
    scan = device.scan
    if scan is None or device.part or not scan.after:
        return device.floors
    return (*(floor for floor in device.floors if floor[0] > scan.after), (scan.after, scan.since))


def _forget_above(device: Device, version: int) -> Device:
    """Forget what was seen above a version that the hub has told: it knows nothing of that."""
    based = tuple(
        evolve(
            each,
            base=1 if each.base > version else each.base,
            since=1 if each.since > version else each.since,
        )
        for each in device.outbox
    )
    floors = tuple(floor for floor in device.floors if floor[1] <= version)
    is_unknown = device.reread_from > version or floors != device.floors
    begun = UNKNOWN if is_unknown else device.reread_from
    missed = 0 if device.missed_from > version else device.missed_from
    return evolve(device, outbox=based, reread_from=begun, missed_from=missed, floors=floors)


def _without_version(change: Pending) -> Pending:
    """Say that the base means nothing any more, but for deletes; an offer's is of those alone."""
    is_offer = change.shared and change.operation == "insert" and change.image is None
    if is_offer:
        return change
    since = change.base if change.base > 1 else change.since
    return evolve(change, base=min(change.base, 1), since=since)
