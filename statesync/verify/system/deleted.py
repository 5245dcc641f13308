"""What must hold of deletes: what was deleted stays so, or its return is in a conflict log."""

from __future__ import annotations

from statesync.verify.modelled.device import Device
from statesync.verify.modelled.wire import Change, Push, Request
from statesync.verify.system.world import World

RETURNED = "no record that was deleted comes back without a conflict, but by being made anew"


def broken_by_push(before: World, after: World, request: Request) -> str | None:
    """Return the promise that is broken where a push has brought back what another device had deleted.

    What was deleted before a hub was restored from a backup, nobody remembers.
    """
    asking = next((each for each in before.devices if each.client == request.client), None)
    if not isinstance(request, Push) or asking is None:
        return None
    last = {each.key: each for each in before.written if each.epoch}
    deletes = {key for key, each in last.items() if each.data is None and each.writer != request.client}
    back = (change for change in request.changes if change.key in deletes and _is_back(before, after, change))
    return None if all(_may_be_back(asking, change) for change in back) else RETURNED


def _is_back(before: World, after: World, change: Change) -> bool:
    was, now = (world.hub.find(change.object, change.key) for world in (before, after))
    return now is not None and now.data is not None and now != was


def _may_be_back(device: Device, change: Change) -> bool:
    """Tell whether a record was made anew, or met its delete as a conflict.

    A device that was reset knows of no hub, and offers all that it has.
    """
    was_reset, is_typed = "+" in device.client, change.key in dict(device.typed)
    if change.base == 0 and (was_reset or is_typed):
        return True
    return any(each.key == change.key for each in device.conflicts)
