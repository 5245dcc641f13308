"""Offline-first data sync whose session lifecycle is a formal state machine.

Everything that a public function takes, returns or raises can be imported from here. The other front doors
are ``statesync.hub``, ``statesync.diagram``, ``statesync.verify`` and ``statesync.testing``. Modules below
them may change with every release.

What speaks HTTP to a hub, and what keeps stores in sync by itself, is imported when its name is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from statesync.complaints import (
    Complaint,
    Repair,
)
from statesync.conflicts import (
    LATER,
    Conflict,
    Later,
    Policy,
    Record,
    client_wins,
    decide_later,
    merge_fields,
    server_wins,
)
from statesync.diagnosis.found import (
    Diagnosis,
    Difference,
    ObjectDiagnosis,
    RecordDifference,
    SurveyRemote,
)
from statesync.errors import (
    AllRejected,
    BadAnswer,
    BadOptions,
    ConnectionLost,
    GuardRefused,
    IllegalTransition,
    InDoubt,
    InternalError,
    Interrupted,
    LifecycleError,
    NothingToCancel,
    RemoteError,
    StaleRunner,
    Stopped,
    StoreChanged,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotReady,
    StoreReadOnly,
    StoreTooNew,
    SyncCancelled,
    SyncError,
    SyncFailed,
    SyncInProgress,
    Unauthorized,
    UnknownObject,
    Unreachable,
    UnsupportedModel,
    UsageError,
    WrongHub,
)
from statesync.filters import Filter, Filters, Scalar, WireFilter
from statesync.lifecycle import (
    BATCH,
    KEEPER,
    SESSION,
    AnyPhase,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    BrokenChart,
    Chart,
    Edge,
    Facts,
    Guard,
    KeeperFacts,
    KeeperPhase,
    KeeperTrigger,
    Phase,
    SessionEnd,
    Trigger,
)
from statesync.remote import Remote
from statesync.scope import (
    Scope,
    Store,
)
from statesync.session.handle import (
    OnFailure,
    OnProgress,
    OnSuccess,
    Session,
)
from statesync.store.news.changes import Changes
from statesync.store.news.observation import Observation, OnNews
from statesync.store.news.told import News
from statesync.store.news.verdict import Outcome, RecordVerdict
from statesync.store.tracking.model import (
    Model,
)
from statesync.values import (
    Backlog,
    BatchInfo,
    BatchStats,
    CancelOptions,
    ConflictEntry,
    Direction,
    JournalEntry,
    Parked,
    Part,
    PendingChange,
    Progress,
    Quarantined,
    Reason,
    RecordError,
    SessionInfo,
    State,
    SyncErrors,
    SyncOptions,
    SyncResult,
    SyncStats,
    SyncType,
)
from statesync.wire import (
    Accepted,
    Change,
    Conflicted,
    Entry,
    Feed,
    Finding,
    Page,
    Problem,
    Pull,
    Push,
    PushAnswer,
    Rejected,
    Scan,
    Scanned,
    Signal,
    Survey,
    SurveyAnswer,
    Tally,
    Verdict,
)

if TYPE_CHECKING:
    from statesync.autosync.application import Application
    from statesync.autosync.conditions import Condition
    from statesync.autosync.handle import AutoSync
    from statesync.autosync.round import SessionOutcome
    from statesync.autosync.status import InSync, KeeperStatus, LastSession
    from statesync.net.identity.tokens import TokenSource
    from statesync.net.options import ClientCertificate, Trust
    from statesync.net.remote import HttpRemote
    from statesync.net.signals import Signals

__all__ = [
    "BATCH",
    "KEEPER",
    "LATER",
    "SESSION",
    "Accepted",
    "AllRejected",
    "AnyPhase",
    "AnyTrigger",
    "Application",
    "AutoSync",
    "Backlog",
    "BadAnswer",
    "BadOptions",
    "BatchInfo",
    "BatchPhase",
    "BatchStats",
    "BatchTrigger",
    "BrokenChart",
    "CancelOptions",
    "Change",
    "Changes",
    "Chart",
    "ClientCertificate",
    "Complaint",
    "Condition",
    "Conflict",
    "ConflictEntry",
    "Conflicted",
    "ConnectionLost",
    "Diagnosis",
    "Difference",
    "Direction",
    "Edge",
    "Entry",
    "Facts",
    "Feed",
    "Filter",
    "Filters",
    "Finding",
    "Guard",
    "GuardRefused",
    "HttpRemote",
    "IllegalTransition",
    "InDoubt",
    "InSync",
    "InternalError",
    "Interrupted",
    "JournalEntry",
    "KeeperFacts",
    "KeeperPhase",
    "KeeperStatus",
    "KeeperTrigger",
    "LastSession",
    "Later",
    "LifecycleError",
    "Model",
    "News",
    "NothingToCancel",
    "ObjectDiagnosis",
    "Observation",
    "OnFailure",
    "OnNews",
    "OnProgress",
    "OnSuccess",
    "Outcome",
    "Page",
    "Parked",
    "Part",
    "PendingChange",
    "Phase",
    "Policy",
    "Problem",
    "Progress",
    "Pull",
    "Push",
    "PushAnswer",
    "Quarantined",
    "Reason",
    "Record",
    "RecordDifference",
    "RecordError",
    "RecordVerdict",
    "Rejected",
    "Remote",
    "RemoteError",
    "Repair",
    "Scalar",
    "Scan",
    "Scanned",
    "Scope",
    "Session",
    "SessionEnd",
    "SessionInfo",
    "SessionOutcome",
    "Signal",
    "Signals",
    "StaleRunner",
    "State",
    "Stopped",
    "Store",
    "StoreChanged",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreNotReady",
    "StoreReadOnly",
    "StoreTooNew",
    "Survey",
    "SurveyAnswer",
    "SurveyRemote",
    "SyncCancelled",
    "SyncError",
    "SyncErrors",
    "SyncFailed",
    "SyncInProgress",
    "SyncOptions",
    "SyncResult",
    "SyncStats",
    "SyncType",
    "Tally",
    "TokenSource",
    "Trigger",
    "Trust",
    "Unauthorized",
    "UnknownObject",
    "Unreachable",
    "UnsupportedModel",
    "UsageError",
    "Verdict",
    "WireFilter",
    "WrongHub",
    "client_wins",
    "decide_later",
    "merge_fields",
    "server_wins",
]

_LATER = {
    "Application": "autosync.application",
    "AutoSync": "autosync.handle",
    "ClientCertificate": "net.options",
    "Condition": "autosync.conditions",
    "HttpRemote": "net.remote",
    "InSync": "autosync.status",
    "KeeperStatus": "autosync.status",
    "LastSession": "autosync.status",
    "SessionOutcome": "autosync.round",
    "Signals": "net.signals",
    "TokenSource": "net.identity.tokens",
    "Trust": "net.options",
}


def __getattr__(name: str) -> object:
    """Import what speaks to a hub, and what keeps stores in sync: who does neither never pays for it."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
