"""Rate limits: each token has a bucket of requests that fills by ``rate`` a second, up to ``burst``.

A process of the hub remembers nothing else between requests, and losing the buckets does no harm.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from attrs import define, field

from statesync.hub.errors import refused
from statesync.hub.limits import HubLimits

_MOST_BUCKETS = 10_000


@define(eq=False)
class Rates:
    """The buckets of one process; ``clock`` is in seconds."""

    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(factory=OrderedDict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def spend(self, holder: str, limits: HubLimits) -> None:
        """Take one request out of the holder's bucket; raise the 429 if it is empty."""
        if not limits.rate:
            return
        with self._lock:
            level, then = self._buckets.pop(holder, (float(limits.burst), self.clock()))
            now = self.clock()
            level = min(limits.burst, level + (now - then) * limits.rate)
            enough = level >= 1
            self._buckets[holder] = (level - enough, now)
            if len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        if not enough:
            message = f"the token makes more than {limits.rate:g} requests a second"
            raise refused(429, "too_many_requests", message, round((1 - level) / limits.rate, 3))
