"""The values that the library takes and gives: options, progress, statistics, results, history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import Factory, field
from attrs.validators import optional

from statesync.checks import as_filters, as_policy, at_least, is_grace, is_timeout
from statesync.classes import frozen
from statesync.conflicts import Policy, Record, merge_fields
from statesync.errors import BadOptions, SyncError
from statesync.filters import Filter
from statesync.lifecycle import AnyPhase, AnyTrigger, BatchPhase, Phase


class Direction(StrEnum):
    """Which way a batch goes."""

    UPLOAD = "upload"
    DOWNLOAD = "download"


class SyncType(StrEnum):
    """Which directions a session goes through; the other is passed without a batch."""

    FULL = "full"
    UPLOAD_ONLY = "upload_only"
    DOWNLOAD_ONLY = "download_only"


class Reason(StrEnum):
    """Why a session was cancelled (K11). A failed session carries its error's ``reason`` instead."""

    USER = "user"
    SHUTDOWN = "shutdown"
    DEADLINE = "deadline"


def _sync_type(value: object) -> SyncType:
    try:
        return SyncType(str(value))
    except ValueError:
        raise BadOptions(f"sync_type must be one of {', '.join(SyncType)}, not {value!r}") from None


@frozen(kw_only=True)
class SyncOptions:
    """How one session runs. Values out of range raise ``BadOptions`` when the options are made.

    ``download_batch_size`` and ``upload_batch_size`` are records a batch. Without the former a page has 500
    to 5000 records: what the device stores in a tenth of a second, as far as it comes within a second and has
    no more than 2 MB. 0 takes pages as the hub gives them. ``filter`` narrows the download:
    ``{"Airport": {"country": ["IS", "NO"]}}``, by up to 100 fields and 10,000 values an object.
    ``remove_after_upload`` deletes a record from the device once the hub has it. ``max_attempts`` is how
    often one batch is sent; ``timeout`` the seconds after which the session cancels itself. ``cancel_grace``
    are the seconds that the batch in flight gets where nobody says how many: when the session's time is over,
    when the store is closed, when the task of ``sync_async`` is cancelled, at Ctrl-C in ``sync``; None: all
    that it needs, which a hub that hangs makes a minute and more.
    """

    download_batch_size: int | None = field(default=None, validator=optional(at_least(0)))
    upload_batch_size: int = field(default=50, validator=at_least(1))
    sync_type: SyncType = field(default=SyncType.FULL, converter=_sync_type)
    get_sync_stats: bool = False
    filter: dict[str, Filter] = field(default=Factory(dict), converter=as_filters)
    remove_after_upload: bool = False
    conflict_policy: Policy = field(default=merge_fields, converter=as_policy)
    max_attempts: int = field(default=5, validator=at_least(1))
    timeout: float | None = field(default=None, validator=is_timeout)
    cancel_grace: float | None = field(default=10.0, validator=is_grace)

    @property
    def uploads(self) -> bool:
        """Whether the session sends changes."""
        return self.sync_type is not SyncType.DOWNLOAD_ONLY

    @property
    def downloads(self) -> bool:
        """Whether the session fetches records."""
        return self.sync_type is not SyncType.UPLOAD_ONLY


@frozen(kw_only=True)
class CancelOptions:
    """How a session is cancelled: ``grace`` bounds the seconds that the batch in flight may take (K7)."""

    grace: float | None = field(default=None, validator=is_grace)


class Part(StrEnum):
    """What a progress event is about."""

    SYNC = "sync"
    UPLOAD = "upload"
    DOWNLOAD = "download"


class State(StrEnum):
    """How far it has come."""

    STARTED = "started"
    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    ENDED = "ended"
    CANCELLING = "cancelling"


@frozen
class BatchStats:
    """One committed batch: ``records`` in it, and seconds spent in each step."""

    number: int
    direction: Direction
    records: int
    request: float
    parsing: float
    storing: float


@frozen
class SyncStats:
    """A fold over the journal: it says what is durable (K4). Times in seconds, counts in records.

    ``batches`` is filled where the options ask for it with ``get_sync_stats``.
    """

    started: datetime
    elapsed: float
    uploaded: int
    downloaded: int
    batches: tuple[BatchStats, ...] = ()


@frozen
class Progress:
    """One step of a session.

    ``batch`` is the number of the batch within the session (None for the session itself), ``records``
    how many records of this direction are committed so far, ``total`` how many there are where that is
    known. ``behind`` is how many versions of the hub's a download has yet to read, as the hub said last, so
    that at most as many records follow; None while it reads from the start. ``attempt`` counts how often
    the batch was sent. One that ``waiting`` says is sent again at ``next_at``, because of ``error``. The last
    event of a session is sync/ended and carries its ``outcome`` and ``stats``.
    """

    part: Part
    state: State
    batch: int | None = None
    records: int = 0
    total: int | None = None
    attempt: int | None = None
    error: SyncError | None = None
    next_at: datetime | None = None
    outcome: Phase | None = None
    stats: SyncStats | None = None
    behind: int | None = None


@frozen
class RecordError:
    """One record that could not be synced, and why; ``field`` is what the hub named, if anything."""

    object: str
    key: str
    code: str
    message: str
    field: str | None = None


@frozen
class ConflictEntry:
    """One conflict: the three sides, and what was kept. None stands for a delete.

    ``waiting`` says that nobody has decided yet: ``kept`` is None then, and ``Store.resolve`` decides.
    """

    id: int
    session: str
    at: datetime
    object: str
    key: str
    base: Record | None
    local: Record | None
    remote: Record | None
    kept: Record | None
    waiting: bool = False


@frozen
class Quarantined:
    """One record that came down and does not fit its table. It is tried again with every download.

    ``record`` is the hub's, as it travels, None for a delete. ``code`` says what kind of rule it breaks:
    not_unique, not_null, check, refused (by a trigger), wrong_type, too_big, does_not_fit. ``in_the_way`` is
    the key of the record that has its unique value. ``since`` is when session ``session`` brought it,
    ``tries`` how often it was tried since.
    """

    object: str
    key: str
    version: int
    record: Record | None
    code: str
    message: str
    in_the_way: str | None
    session: str
    since: datetime
    tries: int


@frozen
class SyncErrors:
    """Records that were left out: rejected uploads, and downloads in quarantine or that ended orphaned.

    ``download`` holds the first 1000 in quarantine. An object of which not one record fits comes first.
    """

    upload: tuple[RecordError, ...] = ()
    download: tuple[RecordError, ...] = ()


@frozen
class SyncResult:
    """What a session did. ``conflicts`` holds the first 1000; the store's conflict log has all.

    ``quarantined`` is how many records of the session's objects wait in quarantine after it.
    """

    session: str
    phase: Phase
    stats: SyncStats
    errors: SyncErrors
    conflicts: tuple[ConflictEntry, ...]
    quarantined: int = 0


@frozen
class JournalEntry:
    """One transition that was taken.

    ``batch`` is the batch's number within the session for transitions of the batch chart and for session
    triggers linked to a batch, else None. ``at`` is the wall clock's time, for people; ``elapsed`` the
    seconds since the session was made, by a monotonic clock. ``detail`` holds figures of the step.
    """

    session: str
    number: int
    chart: str
    batch: int | None
    trigger: AnyTrigger
    source: AnyPhase
    target: AnyPhase
    at: datetime
    elapsed: float
    detail: Mapping[str, Any]


@frozen
class BatchInfo:
    """One batch of a recorded session."""

    number: int
    direction: Direction
    phase: BatchPhase
    records: int
    attempts: int
    in_doubt: bool


@frozen
class SessionInfo:
    """One session of the history. ``reason`` and ``error`` say why it did not end in ``done``."""

    id: str
    space: str
    objects: tuple[str, ...]
    phase: Phase
    reason: str | None
    error: str | None
    started: datetime
    stats: SyncStats
    batches: Sequence[BatchInfo] = ()


@frozen
class Parked:
    """What the hub has said of a change that it refused.

    ``field`` is what it named, if anything. ``attempts`` is how often it was refused, for the ``first`` and
    for the ``last`` time, by the device's clock. From ``retry_at`` on it is sent again by itself, where the
    hub said so; None: only after an edit, after ``retry()``, or once the program describes the object
    otherwise.
    """

    code: str
    message: str
    field: str | None
    attempts: int
    first: datetime
    last: datetime
    retry_at: datetime | None


@frozen
class Backlog:
    """How much of a scope is not where it belongs, by why; each change counts once.

    ``waiting`` changes go up with the next session. ``deferred`` ones wait for ``mark_for_upload``,
    ``in_conflict`` for a decision, and ``parked`` ones were refused by the hub. ``quarantined`` records do
    not fit their tables. ``in_doubt`` says that a batch was sent whose answer never came. ``partly_read``
    objects are being read from the start, and are not read to their end.
    """

    waiting: int = 0
    deferred: int = 0
    in_conflict: int = 0
    parked: int = 0
    quarantined: int = 0
    in_doubt: bool = False
    partly_read: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is stuck."""
        return self == Backlog()


@frozen
class PendingChange:
    """One net change that waits in the outbox. ``operation`` is insert, update or delete.

    One ``in_conflict`` is not sent before ``Store.resolve`` has settled it. One that is ``parked`` was
    refused by the hub, and is not sent again as it is before ``retry()``. ``error`` is why a change was not
    sent, or not taken, the last time.
    """

    object: str
    key: str
    operation: str
    base: int
    revision: int
    deferred: bool
    error: str | None
    in_conflict: bool = False
    parked: Parked | None = None
