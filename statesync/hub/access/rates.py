"""Rate limits: each token has a bucket that fills by ``rate`` a second, up to ``burst``, and requests cost.

A small request costs 1. A body costs more by its bytes, which is paid before it is read, and so is refused
where the bucket does not hold it. Records that were read or written, and the answer, are charged when they
are known, also where the request is refused in the end, and a bucket may owe. Neither is ever more than a
full bucket.

A process of the hub remembers nothing else between requests, and losing the buckets does no harm.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil

from attrs import field

from statesync.classes import define
from statesync.hub.errors import refused
from statesync.hub.limits import HubLimits

_MOST_BUCKETS = 10_000

_BYTES = 1 << 15
"""Bytes of a body, of an answer, or of records that a push looks at, that cost 1."""

_RECORDS = 100
"""Records that cost 1."""

_COLUMNS = 50
"""Columns that make a record cost twice as much, where its digest is taken."""


def cost_of_body(size: int) -> float:
    """Return what a body of ``size`` bytes costs, besides the 1 of its request."""
    return size / _BYTES


def cost_of_work(records: int, size: int = 0, columns: int = 0) -> float:
    """Return what it costs to read or write ``records``, of a survey with its ``columns``.

    ``size`` is how long the answer is, with the stored records that were looked at for it.
    """
    return max(records / _RECORDS * (1 + columns / _COLUMNS), size / _BYTES)


@define(eq=False)
class Rates:
    """The buckets of one process; ``clock`` is in seconds."""

    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(factory=OrderedDict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def spend(self, holder: str, limits: HubLimits, cost: float = 1, *, paid: float = 0) -> None:
        """Take ``cost`` out of the holder's bucket; raise the 429 if it does not hold that much.

        ``paid`` is what the same request has paid already, and will pay again when it comes again. A full
        bucket pays for both, whatever they are.
        """
        cost = min(cost, limits.burst - paid)
        if not limits.rate:
            return
        with self._lock:
            level, now = self._level(holder, limits)
            enough = level >= cost
            self._put(holder, level - cost if enough else level, now)
        if not enough:
            message = (
                f"the token asks for more than its rate of {limits.rate:g} small requests a second; "
                f"this one costs as much as {paid + cost:g}"
            )
            wait = ceil((paid + cost - level) / limits.rate * 1000) / 1000
            raise refused(429, "too_many_requests", message, wait)

    def charge(self, holder: str, limits: HubLimits, cost: float) -> None:
        """Take ``cost`` for what was done, also out of an empty bucket: the next request waits for it."""
        if not limits.rate:
            return
        with self._lock:
            level, now = self._level(holder, limits)
            self._put(holder, level - min(cost, limits.burst), now)

    def _level(self, holder: str, limits: HubLimits) -> tuple[float, float]:
        """Return how much is in the bucket now, and the time."""
        now = self.clock()
        level, then = self._buckets.pop(holder, (float(limits.burst), now))
        return min(limits.burst, level + (now - then) * limits.rate), now

    def _put(self, holder: str, level: float, now: float) -> None:
        self._buckets[holder] = (level, now)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
