"""The words of the charts: where a session, a batch and a keeper can stand, and what moves them."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a session stands."""

    IDLE = "idle"
    UPLOADING = "uploading"
    DOWNLOADING = "downloading"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"


class BatchPhase(StrEnum):
    """Where a batch stands."""

    OPEN = "open"
    WAITING = "waiting"
    IN_FLIGHT = "in_flight"
    RECEIVED = "received"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Trigger(StrEnum):
    """What moves a session."""

    START = "start"
    OPEN_BATCH = "open_batch"
    COMMIT_BATCH = "commit_batch"
    ABORT_BATCH = "abort_batch"
    FINISH_UPLOAD = "finish_upload"
    FINISH_DOWNLOAD = "finish_download"
    CANCEL = "cancel"
    SETTLE = "settle"
    FAIL = "fail"


class BatchTrigger(StrEnum):
    """What moves a batch."""

    SEND = "send"
    RECEIVE = "receive"
    RETRY = "retry"
    COMMIT = "commit"
    ABORT = "abort"


class KeeperPhase(StrEnum):
    """Where a keeper stands: what starts sessions by itself."""

    RESTING = "resting"
    LISTENING = "listening"
    SYNCING = "syncing"
    BACKING_OFF = "backing_off"
    HELD = "held"
    NEEDS_TOKEN = "needs_token"  # noqa: S105 - a phase, no password
    STOPPING = "stopping"
    STOPPED = "stopped"


class KeeperTrigger(StrEnum):
    """What moves a keeper."""

    INTERVAL = "interval"
    LOCAL_CHANGE = "local_change"
    SIGNAL = "signal"
    NUDGE = "nudge"
    BACK_OFF_OVER = "back_off_over"
    CONDITIONS_CHANGED = "conditions_changed"
    TOKEN_RENEWED = "token_renewed"  # noqa: S105 - a trigger, no password
    SESSION_ENDED = "session_ended"
    STOP = "stop"


AnyPhase = Phase | BatchPhase | KeeperPhase
AnyTrigger = Trigger | BatchTrigger | KeeperTrigger
