"""The test kit: what programs that embed statesync use to prove that they lose nothing.

Everything here is imported when it is first asked for, so that only what needs Hypothesis needs the extra
``testing``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statesync.testing.crashes import CrashPoints, Point, ProgramFailed, Watch
    from statesync.testing.faults import Fault, FaultyRemote
    from statesync.testing.rows import record_strategy
    from statesync.testing.world import SyncWorld

_HOMES = {
    "CrashPoints": "crashes",
    "Fault": "faults",
    "FaultyRemote": "faults",
    "Point": "crashes",
    "ProgramFailed": "crashes",
    "SyncWorld": "world",
    "Watch": "crashes",
    "record_strategy": "rows",
}

__all__ = [
    "CrashPoints",
    "Fault",
    "FaultyRemote",
    "Point",
    "ProgramFailed",
    "SyncWorld",
    "Watch",
    "record_strategy",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
