"""Ranges of keys that a page of a scan has looked at, on the modelled device. See ``docs/scan.md``."""

from __future__ import annotations

from enum import StrEnum
from functools import partial

from statesync.verify.evolving import evolve
from statesync.verify.modelled import quarantine
from statesync.verify.modelled.device import (
    LOST_BY_HUB,
    Device,
    add_change,
    put,
    read_before,
    with_change,
)
from statesync.verify.modelled.wire import Page, Scan, Scanned


class Index(StrEnum):
    """Where the index is; a table that is read into without one has none."""

    NONE = "none"
    THERE = "there"
    WAITS = "dropped, and marked"
    LOST = "dropped, and nothing says so"


def position_after(scanned: Scanned) -> Scan:
    """Return where a scan goes on that is not done."""
    return Scan(scanned.since, scanned.last, scanned.until)


def replace(device: Device, page: Page, scanned: Scanned) -> Device:
    """Answer for the records of the range that the page does not show, in its table and in quarantine.

    They were deleted there, so they are here, but for what waits, is local only, or was written since S by
    this device itself. A restored hub may have lost them: they are offered again. It does not tell of
    tombstones, which may have been made since its backup took its place, so the base is unknown.
    """
    shown = {entry.key for entry in page.entries} | {*scanned.stubs}
    for key in scanned.stubs:
        device = with_change(device, key, partial(evolve, shared=True))
    for key, _ in device.rows:
        if key in shown or not _is_in_range(device, scanned, key) or _stays(device, scanned, key):
            continue
        if device.rereading == LOST_BY_HUB:
            since = read_before(device, key)
            device = add_change(device, key, "insert", None, 1, since=since, offered=True)
        else:
            device = put(device, key, None)
    held = {each.key for each in device.held if _is_in_range(device, scanned, each.key)}
    if device.rereading == LOST_BY_HUB:
        device = quarantine.log_unseen(device, held - shown)
    return quarantine.release(device, held - shown)


def _is_in_range(device: Device, scanned: Scanned, key: str) -> bool:
    after = "" if device.scan is None else device.scan.after
    end = scanned.until if scanned.done and device.part else scanned.last
    return after < key and (key <= end or (scanned.done and not device.part))


def _stays(device: Device, scanned: Scanned, key: str) -> bool:
    """Tell whether a record stays that the hub did not have when the scan began."""
    is_newer = dict(device.ahead).get(key, 0) > scanned.since
    return is_newer or key in device.local or device.pending(key) is not None


def move(device: Device, scanned: Scanned) -> Device:
    """Move the position behind the range; a scan that is done is followed by the feed from its S.

    Versions that were noted of records in the range are no exceptions any more, but for newer ones and those
    of old rows, which say nothing of what waits.
    """
    held = {each.key for each in device.held}
    ahead = tuple(
        (key, version)
        for key, version in device.ahead
        if key in held or version > scanned.since or not _is_in_range(device, scanned, key)
    )
    if not scanned.done:
        return evolve(device, ahead=ahead, scan=position_after(scanned))
    if device.part:
        return evolve(device, ahead=ahead, scan=None, part=False)
    return evolve(
        device,
        ahead=ahead,
        cursor=scanned.since,
        scan=None,
        rereading=None,
        reread_from=0,
        missed_from=0,
        floors=(),
        seen=(),
        begun=0,
    )


# -- the one index of the table, which need not be kept while that is filled ---------------------------


def put_off_index(device: Device, scanned: Scanned) -> Device:
    """Drop the index with the first page of a scan that fills an empty table, and mark it."""
    begins = device.scan is None and device.cursor == 0 and not device.rows and not scanned.done
    if begins and device.index == Index.THERE:
        return evolve(device, index=Index.WAITS)
    return device


def index_waits(device: Device) -> bool:
    """Tell whether the index has to be built: a mark says so."""
    return device.index == Index.WAITS


def build_index(device: Device) -> Device:
    """Build the index, and take its mark away."""
    return evolve(device, index=Index.THERE)
