"""The one index of the modelled table that need not be kept while the table is filled."""

from __future__ import annotations

from enum import StrEnum

from statesync.verify.evolving import evolve
from statesync.verify.modelled.device import Device
from statesync.verify.modelled.wire import Scanned


class Index(StrEnum):
    """Where the index is; a table that is read into without one has none."""

    NONE = "none"
    THERE = "there"
    WAITS = "dropped, and marked"
    LOST = "dropped, and nothing says so"


def put_off(device: Device, scanned: Scanned) -> Device:
    """Drop the index with the first page of a scan that fills an empty table, and mark it."""
    begins = device.scan is None and device.cursor == 0 and not device.rows and not scanned.done
    if begins and device.index == Index.THERE:
        return evolve(device, index=Index.WAITS)
    return device


def waits(device: Device) -> bool:
    """Tell whether the index has to be built: a mark says so."""
    return device.index == Index.WAITS


def build(device: Device) -> Device:
    """Build the index, and take its mark away."""
    return evolve(device, index=Index.THERE)
