"""The test kit: what programs that embed statesync use to prove that they lose nothing.

Everything here is imported when it is first asked for, so that only what needs Hypothesis needs the extra
``testing``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statesync.testing.conformance import HubConformance, RemoteConformance
    from statesync.testing.coverage import ChartCoverage, watching
    from statesync.testing.crashes import CrashPoints, Point, ProgramFailed, Watch
    from statesync.testing.faults import Fault, FaultyRemote
    from statesync.testing.lifecycle import LifecycleMachine, lifecycle_machine
    from statesync.testing.rows import record_strategy
    from statesync.testing.world import SyncWorld

_HOMES = {
    "ChartCoverage": "coverage",
    "CrashPoints": "crashes",
    "Fault": "faults",
    "FaultyRemote": "faults",
    "HubConformance": "conformance",
    "LifecycleMachine": "lifecycle",
    "Point": "crashes",
    "ProgramFailed": "crashes",
    "RemoteConformance": "conformance",
    "SyncWorld": "world",
    "Watch": "crashes",
    "lifecycle_machine": "lifecycle",
    "record_strategy": "rows",
    "watching": "coverage",
}

__all__ = [
    "ChartCoverage",
    "CrashPoints",
    "Fault",
    "FaultyRemote",
    "HubConformance",
    "LifecycleMachine",
    "Point",
    "ProgramFailed",
    "RemoteConformance",
    "SyncWorld",
    "Watch",
    "lifecycle_machine",
    "record_strategy",
    "watching",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
