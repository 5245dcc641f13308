"""How many records a page is asked for, where the user says no number: what the pages before it have cost.

A cancel waits for the batch in flight: for a page to come and to be stored. So a page is as large as fits
into a tenth of a second of storing and a second of coming, and into what a device has the memory for. Larger
ones cost less a record, on the device and at the hub, but from some thousand on next to nothing less.
"""

from __future__ import annotations

FEWEST = 500
"""Records that any page is asked for, and the first one."""

MOST = 5000
"""Records that no page goes above: twice as many are a tenth faster, and take 17 MB more."""

STORING = 0.1
"""Seconds that storing a page should take, with its commit."""

COMING = 1.0
"""Seconds that a page should take from its request on."""

BYTES = 2 << 20
"""Bytes of JSON that the records of a page should have."""

GROWTH = 4
"""Times the last one that a page may be: the first ones of an empty table are cheap."""


def fitting(records: int, size: int, coming: float, storing: float) -> int:
    """Return how many records to ask for, as a page of ``records`` has cost so much.

    ``size`` is in bytes, ``coming`` and ``storing`` are seconds.
    """
    cost = max(size / BYTES, coming / COMING, storing / STORING, 1 / GROWTH)
    return min(MOST, max(FEWEST, int(records / cost)))
