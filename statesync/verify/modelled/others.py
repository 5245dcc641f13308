"""What programs do to the modelled device's database besides syncing: set it up, clear it, reset it.

The same as ``statesync.store.evolution.adopting`` and ``statesync.store.selection`` do. Only ``cleared`` and
``reset`` ask for the store's lock; the others may come at any point of a session.
"""

from __future__ import annotations

from statesync.verify.evolving import evolve
from statesync.verify.modelled.adapting import reread
from statesync.verify.modelled.device import (
    EVERYTHING,
    LOST_BY_HUB,
    MISSED_DELETES,
    OBJECT,
    Device,
    Pending,
    add_change,
    fold,
    put,
    release,
)
from statesync.verify.modelled.wire import Filter, Scan


def set_up_otherwise(device: Device) -> Device:
    """Let another version of the program describe the object anew, with a column that nobody has read."""
    return reread(_adopted(device), MISSED_DELETES)


def migrated(device: Device) -> Device:
    """Let another version of the program take the table's rules away: every record fits from then on."""
    return evolve(_adopted(device), rules=None)


def retried(device: Device) -> Device:
    """Let the user have all that the hub has refused sent again."""
    return _let_go(fold(device))


def _adopted(device: Device) -> Device:
    """Describe the object anew: what does not fit and what was refused may be another thing now."""
    device = _let_go(_described(fold(device), OBJECT))
    return evolve(device, held=tuple(evolve(each, tries=0) for each in device.held))


def _let_go(device: Device) -> Device:
    freed = (evolve(each, parked=None) if each.is_parked else each for each in device.outbox)
    return evolve(device, outbox=tuple(freed))


def repaired(device: Device, low: str, high: str) -> Device:
    """Let the records behind one key, up to another, be read again: some of them may be damaged."""
    return evolve(device, scan=Scan(device.cursor, low, high), part=True)


def filtered(device: Device, wanted: Filter | None) -> Device:
    """Let the program read with another filter from now on."""
    return evolve(reread(device, MISSED_DELETES), filter=wanted)


def tracked_anew(device: Device) -> Device:
    """Let another program find the triggers gone, and make them: writes may be missing from the log.

    The object looks as before. It is compared with the hub's; bases still mean what they meant.
    """
    return evolve(reread(device, LOST_BY_HUB), outbox=fold(device).outbox)


def with_one_more(device: Device) -> Device:
    """Let another program track one more object: what the sessions here know does not change."""
    return _described(device, f"Other{len(device.looks)}")


def _described(device: Device, name: str) -> Device:
    known = dict(device.looks)
    return evolve(device, looks=tuple(sorted({**known, name: known.get(name, 0) + 1}.items())))


def waits(device: Device) -> bool:
    """Tell whether any change waits, so that nothing is deleted that only the device has."""
    return bool(fold(device).outbox)


def cleared(device: Device, *, discard_pending: bool) -> Device:
    """Delete all records, and what waits of them; the next sync fetches all. A doubt stays one.

    ``discard_pending`` says that the user lets go of what waits; else nothing should.
    """
    before = fold(device)
    started = reread(_emptied(before), MISSED_DELETES)
    started = evolve(started, rereading=EVERYTHING, floors=(), ahead=(), held=())
    return started if discard_pending else evolve(started, typed=before.typed)


def reset(device: Device, *, keep_records: bool) -> Device:
    """Forget the hub; with ``keep_records`` all records are offered to the next one as new."""
    device = _without_hub(fold(device))
    if not keep_records:
        return _emptied(device)
    kept = (each for each in device.outbox if each.operation == "delete")
    deletes = tuple(map(_offered_anew, kept))  # it may be the same hub again
    waiting = {each.key for each in deletes}
    typed = tuple(each for each in device.typed if device.row(each[0]) is not None or each[0] in waiting)
    device = evolve(device, outbox=deletes, typed=typed)
    for key, _ in device.rows:
        device = add_change(device, key, "insert", None, 0, shared=True)
    return device


def _offered_anew(change: Pending) -> Pending:
    free = evolve(change, batch=None, sent=None, failed=False, parked=None, offered=False, beside=False)
    return evolve(free, base=0, since=0, shared=True)


def _emptied(device: Device) -> Device:
    """Delete records and changes: the user lets go of what waits."""
    waiting = {change.key for change in device.outbox}
    typed = tuple(each for each in device.typed if each[0] not in waiting)
    for key, _ in device.rows:
        device = put(device, key, None)
    return evolve(device, outbox=(), typed=typed)


def _without_hub(device: Device) -> Device:
    freed = release(device, device.payload.batch) if device.payload else device
    return evolve(
        freed,
        client=f"{device.client}+",
        number=0,
        hub=None,
        epoch=None,
        head=0,
        cursor=0,
        rereading=None,
        reread_from=0,
        missed_from=0,
        begun=0,
        scan=None,
        part=False,
        floors=(),
        seen=(),
        received=(),
        ahead=(),
        held=(),
        payload=None,
        in_doubt=False,
    )
