"""The test kit: what programs that embed statesync use to prove that they lose nothing.

Everything here is imported when it is first asked for, so that only what needs Hypothesis needs the extra
``testing``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statesync.keeping.options import KeeperOptions
    from statesync.machine import Commit, KeeperMachine, Move, SessionMachine
    from statesync.store.tracking.objects import TrackedObject
    from statesync.testing.conformance.remotes import HubConformance, RemoteConformance
    from statesync.testing.coverage import ChartCoverage, Counts, Outcome, watching
    from statesync.testing.crashes import CrashPoints, Point, Program, ProgramFailed, Watch
    from statesync.testing.faults import Fault, FaultyRemote
    from statesync.testing.keeping.world import KeeperWorld
    from statesync.testing.ledger import Ledger
    from statesync.testing.lifecycle import LifecycleMachine, Machine, lifecycle_machine
    from statesync.testing.peer import Peer
    from statesync.testing.reference import Answer, Reference
    from statesync.testing.rows import Row, record_strategy
    from statesync.testing.sites import Known, WorldDevice, WorldHub
    from statesync.testing.world import SyncWorld, Write

_HOMES = {
    "Answer": "statesync.testing.reference",
    "ChartCoverage": "statesync.testing.coverage",
    "Commit": "statesync.machine",
    "Counts": "statesync.testing.coverage",
    "CrashPoints": "statesync.testing.crashes",
    "Fault": "statesync.testing.faults",
    "FaultyRemote": "statesync.testing.faults",
    "HubConformance": "statesync.testing.conformance.remotes",
    "Known": "statesync.testing.sites",
    "Ledger": "statesync.testing.ledger",
    "LifecycleMachine": "statesync.testing.lifecycle",
    "Machine": "statesync.testing.lifecycle",
    "Move": "statesync.machine",
    "Outcome": "statesync.testing.coverage",
    "Peer": "statesync.testing.peer",
    "Point": "statesync.testing.crashes",
    "Program": "statesync.testing.crashes",
    "ProgramFailed": "statesync.testing.crashes",
    "Reference": "statesync.testing.reference",
    "RemoteConformance": "statesync.testing.conformance.remotes",
    "Row": "statesync.testing.rows",
    "KeeperMachine": "statesync.machine",
    "KeeperOptions": "statesync.keeping.options",
    "KeeperWorld": "statesync.testing.keeping.world",
    "SessionMachine": "statesync.machine",
    "SyncWorld": "statesync.testing.world",
    "TrackedObject": "statesync.store.tracking.objects",
    "Watch": "statesync.testing.crashes",
    "WorldDevice": "statesync.testing.sites",
    "WorldHub": "statesync.testing.sites",
    "Write": "statesync.testing.world",
    "lifecycle_machine": "statesync.testing.lifecycle",
    "record_strategy": "statesync.testing.rows",
    "watching": "statesync.testing.coverage",
}

__all__ = [
    "Answer",
    "ChartCoverage",
    "Commit",
    "Counts",
    "CrashPoints",
    "Fault",
    "FaultyRemote",
    "HubConformance",
    "KeeperMachine",
    "KeeperOptions",
    "KeeperWorld",
    "Known",
    "Ledger",
    "LifecycleMachine",
    "Machine",
    "Move",
    "Outcome",
    "Peer",
    "Point",
    "Program",
    "ProgramFailed",
    "Reference",
    "RemoteConformance",
    "Row",
    "SessionMachine",
    "SyncWorld",
    "TrackedObject",
    "Watch",
    "WorldDevice",
    "WorldHub",
    "Write",
    "lifecycle_machine",
    "record_strategy",
    "watching",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
