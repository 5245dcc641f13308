"""Records of the modelled device that came down and do not fit its table, and what lets them go.

The same as ``statesync.store.quarantine`` and ``statesync.store.download.retrying``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from statesync.verify.evolving import evolve
from statesync.verify.modelled import table
from statesync.verify.modelled.device import Device, Held, Overruled
from statesync.verify.modelled.wire import Entry


@frozen
class Misfit:
    """One record that does not fit, and the key of the record in its way."""

    key: str
    version: int
    entry: Entry
    in_the_way: str | None


# -- writing -----------------------------------------------------------------------------------------


def write(device: Device, entries: Sequence[Entry]) -> tuple[Device, tuple[Misfit, ...]]:
    """Write records, deletes first, but those that do not fit; these leave their rows as they were."""
    first = [entry for entry in entries if entry.data is None]
    rows, rules = table.written(device.rows, [(entry.key, None) for entry in first]), device.rules
    refused, crowded = dict[str, Entry](), dict[str, Entry]()
    for entry in entries:
        if table.fits(rules, rows, entry.key, entry.data):
            rows = table.written(rows, [(entry.key, entry.data)])
        elif rules is not None and entry.data in rules.refuses:
            refused[entry.key] = entry
        else:
            crowded[entry.key] = entry
    if rules is not None and crowded:
        wanted = {key: entry.data for key, entry in crowded.items() if entry.data is not None}
        rows, left = table.with_room(rules, rows, wanted)
        refused |= {key: entry for key, entry in crowded.items() if key in left}
    misfits = tuple(
        Misfit(each.key, each.version, each, _blocker(device, rows, each))
        for each in entries
        if each.key in refused
    )
    return evolve(device, rows=rows), misfits


def _blocker(device: Device, rows: table.Rows, entry: Entry) -> str | None:
    if device.rules is None or entry.data in device.rules.refuses:
        return None
    return table.in_the_way(device.rules, rows, entry.key, entry.data)


# -- holding and releasing -----------------------------------------------------------------------------


def hold(device: Device, misfits: Iterable[Misfit]) -> Device:
    """Let records wait; one that waits already is replaced, in its place."""
    held = {each.key: each for each in device.held}
    for misfit in misfits:
        known = held.get(misfit.key)
        again = known is not None and known.version == misfit.version
        tries = known.tries + 1 if known is not None and again else 1
        held[misfit.key] = Held(misfit.key, misfit.version, misfit.entry.data, misfit.in_the_way, tries)
    return evolve(device, held=tuple(held.values()))


def keep_bases(device: Device, misfits: Iterable[Misfit], known: dict[str, int]) -> Device:
    """Let edits of the rows that stayed be edits of older versions, once the cursor has passed the page."""
    bases = dict(device.ahead)
    for misfit in misfits:
        below = max(1, misfit.version - 1)
        bases[misfit.key] = min(known.get(misfit.key, below), below)
    return evolve(device, ahead=tuple(sorted(bases.items())))


def release(device: Device, keys: Iterable[str]) -> Device:
    """Let records go that need not wait any more: their rows are what the cursor says."""
    gone = {each.key for each in device.held} & set(keys)
    if not gone:
        return device
    held = tuple(each for each in device.held if each.key not in gone)
    return evolve(device, held=held, ahead=tuple(each for each in device.ahead if each[0] not in gone))


def log_unseen(device: Device, keys: Iterable[str]) -> Device:
    """Keep in the conflict log what only quarantine has: a restored hub has lost it."""
    gone = sorted((each for each in device.held if each.data is not None), key=lambda each: each.key)
    lost = (Overruled(each.key, None, each.data, None, None) for each in gone if each.key in set(keys))
    return evolve(device, conflicts=(*device.conflicts, *lost))


def log_replaced(device: Device, entries: Iterable[Entry]) -> Device:
    """Keep in the conflict log what only quarantine has, and in whose place a restored hub sends another."""
    ours = {each.key: each.data for each in device.held if each.data is not None}
    lost = (
        Overruled(entry.key, None, ours[entry.key], entry.data, entry.data)
        for entry in sorted(entries, key=lambda entry: entry.key)
        if entry.key in ours and ours[entry.key] != entry.data
    )
    return evolve(device, conflicts=(*device.conflicts, *lost))


# -- trying again --------------------------------------------------------------------------------------


def try_again(device: Device) -> tuple[Device, int]:
    """Try what waits once the feed is drained; return how many records fit now.

    First those that nothing here stands before, and behind each that fits those that it stood before. Then
    the others, together. What waits for a verdict on a change is left alone.
    """
    before, failed = len(device.held), set[str]()
    for blocked in (False, True):
        found = _to_try(device, failed, blocked=blocked)
        while found:
            device, fitted = _tried(device, found, failed)
            found = _free(device, [each for each in device.held if each.in_the_way in fitted])
            found.sort(key=lambda each: each.key)
    return device, before - len(device.held)


def _to_try(device: Device, failed: set[str], *, blocked: bool) -> list[Held]:
    keys = {each.key for each in device.held}
    found = [each for each in device.held if each.key not in failed and (each.in_the_way in keys) == blocked]
    return sorted(_free(device, found), key=lambda each: each.tries)


def _free(device: Device, some: list[Held]) -> list[Held]:
    return [each for each in some if device.pending(each.key) is None]


def _tried(device: Device, some: list[Held], failed: set[str]) -> tuple[Device, set[str]]:
    device, misfits = write(device, [Entry("", each.key, each.version, each.data) for each in some])
    still = {misfit.key for misfit in misfits}
    fitted = {each.key for each in some} - still
    failed |= still
    failed -= fitted
    return hold(release(device, fitted), misfits), fitted
