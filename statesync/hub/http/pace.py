"""How long a body may take to come, and an answer to go."""

from __future__ import annotations

from statesync.hub.limits import HubLimits

LONGEST = 600.0
"""Seconds after which a device has given up, by ``HttpRemote``'s own ``request_timeout``."""


def seconds_for(count: int, limits: HubLimits) -> float:
    """Return the seconds in which ``count`` bytes have to have passed."""
    return min(limits.stall_seconds + count / limits.pace, LONGEST)
