"""What can go wrong, by who is to blame, each with a code and with what to do next.

``SyncError`` is the root. Its families:

* the program asked for something that cannot be (``UsageError`` and below), raised at once;
* a session ended without success (``SyncFailed`` and below, ``SyncCancelled``), given to its callbacks
  and raised by ``result()``;
* the lifecycle said no (``IllegalTransition``, ``GuardRefused``): nothing was changed (K10).
"""

from __future__ import annotations

from typing import Any, ClassVar

from statesync.lifecycle import AnyPhase, AnyTrigger, Guard
from statesync.wire import Problem


class SyncError(Exception):
    """The root of all errors of this library.

    ``code`` is a number for programs, ``reason`` a word for the journal, ``phase`` the phase in which
    the session was left (None where there is no session), ``trigger`` the trigger that was refused.
    ``result`` is the ``SyncResult`` of a session that ended with this error, else None.
    """

    code: ClassVar[int] = 2400
    reason: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, phase: AnyPhase | None = None, trigger: AnyTrigger | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.phase = phase
        self.trigger = trigger
        self.result: Any = None

    def __reduce__(self) -> tuple[object, ...]:
        """Let the error cross a process border with everything that it carries."""
        return _rebuild, (type(self), self.__dict__, self.args)


def _rebuild(kind: type[SyncError], state: dict[str, object], args: tuple[object, ...]) -> SyncError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class SyncFailed(SyncError):
    """The session ended in ``failed``. What was committed before stays; the next session goes on."""

    code = 2401
    reason = "failed"


class Interrupted(SyncFailed):
    """The program or the machine ended while the session ran; it is never resumed (K8)."""

    code = 2402
    reason = "interrupted"


class InDoubt(SyncFailed):
    """An upload was sent and its answer never came. The next session settles it first (K7)."""

    code = 2403
    reason = "in_doubt"


class Stopped(SyncFailed):
    """Code of the program's that a session called has asked for the end of its thread, as ``sys.exit`` does.

    The session ended there; what it raised is chained. What was committed before stays.
    """

    code = 2405
    reason = "stopped"

    @classmethod
    def because_of(cls, cause: BaseException) -> Stopped:
        """Return the failure of a session whose callback, policy or remote raised ``cause``."""
        said = f"{type(cause).__name__}: {cause}".removesuffix(": ")
        error = cls(
            f"code of the program's that the session called raised {said}: the session ended there, and what "
            "was committed stays; sync again to go on"
        )
        error.__cause__ = cause
        return error


class AllRejected(SyncFailed):
    """The hub rejected every record of the session. All of them still wait; ``pending()`` shows why."""

    code = 2404
    reason = "all_rejected"


class RemoteError(SyncFailed):
    """The hub refused a request or did not answer as a hub does.

    ``status`` is the HTTP status (None without an answer), ``problem`` what the hub said. ``retryable``:
    it may go away by itself, after ``retry_after`` seconds where the hub named a time. ``maybe_applied``:
    the hub may have applied the request all the same, so an upload is in doubt.
    """

    code = 2410
    reason = "remote_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        problem: Problem | None = None,
        retryable: bool = False,
        maybe_applied: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.retryable = retryable
        self.maybe_applied = maybe_applied
        self.retry_after = retry_after


class Unreachable(RemoteError):
    """No connection to the hub could be made: nothing was applied, and what waited still waits."""

    code = 2411
    reason = "unreachable"


class ConnectionLost(RemoteError):
    """The connection broke, or no answer came in time, after the request may have been sent.

    An upload may have been applied all the same: the session then ends as ``InDoubt``.
    """

    code = 2412
    reason = "connection_lost"


class BadAnswer(RemoteError):
    """The other side answered something that is not the hub's protocol: nothing of it was stored."""

    code = 2413
    reason = "bad_answer"


class Unauthorized(RemoteError):
    """The hub does not accept the token, or not for this space: it applied and gave nothing."""

    code = 2414
    reason = "unauthorized"


class WrongHub(RemoteError):
    """The address belongs to another hub than the one that this store's records came from.

    Nothing was applied or stored. ``reset(keep_records=True)`` lets go of the first hub, and keeps all
    records.
    """

    code = 2415
    reason = "wrong_hub"


class StoreError(SyncFailed):
    """The device database could not be read or written; the transaction was rolled back."""

    code = 2420
    reason = "store_error"


class StoreFull(StoreError):
    """The disk, or the database's own limit, is full; the transaction was rolled back."""

    code = 2421
    reason = "store_full"


class StoreLocked(StoreError):
    """Another program held the database for longer than the busy time-out: nothing was changed."""

    code = 2422
    reason = "store_locked"


class StoreReadOnly(StoreError):
    """The database or its folder cannot be written: nothing was changed."""

    code = 2423
    reason = "store_read_only"


class StoreCorrupt(StoreError):
    """The file is damaged, or it is no SQLite database. It was left as it is; ``repair()`` may mend it."""

    code = 2424
    reason = "store_corrupt"


class StoreTooNew(StoreError):
    """A newer version of this library wrote the database: nothing was changed."""

    code = 2425
    reason = "store_too_new"


class StoreChanged(StoreError):
    """The store was changed under the session, such as by a new version of the program that set it up.

    Nothing was stored that was made for the store as it was; the next session goes on with what it is now.
    """

    code = 2426
    reason = "store_changed"


class InternalError(SyncFailed):
    """A defect, of this library or of a remote: its cause is chained.

    The session ended where it was. What was committed before stays, the step that failed stored nothing.
    """

    code = 2499
    reason = "internal_error"

    @classmethod
    def because_of(cls, cause: Exception) -> InternalError:
        """Return the failure of a session that met what ought not to happen. A refusal speaks for itself."""
        said = f"{cause}" if isinstance(cause, LifecycleError) else f"{type(cause).__name__}: {cause}"
        error = cls(
            f"{said}. That ought not to happen: the session ended there, and what was committed stays. Sync "
            "again to go on, and please report it with what `statesync session` shows of it"
        )
        error.__cause__ = cause
        return error


class SyncCancelled(SyncError):
    """The session was cancelled: what was committed stays, nothing more was begun, nothing is in doubt."""

    code = 2478
    reason = "cancelled"


class UsageError(SyncError):
    """The program asked for something that cannot be: nothing was begun, nothing was changed."""

    code = 2440
    reason = "usage"


class NothingToCancel(UsageError):
    """No session was running, or it had ended before the cancel could take effect (K6)."""

    code = 2479
    reason = "nothing_to_cancel"


class SyncInProgress(UsageError):
    """Another session, here or in another process, is using the store: it goes on, no second one begins."""

    code = 2461
    reason = "sync_in_progress"


class BadOptions(UsageError):
    """An option has a value outside what it allows: no session begins."""

    code = 2441
    reason = "bad_options"


class UnsupportedModel(UsageError):
    """The model cannot be tracked, and is not; the message says what to use instead."""

    code = 2442
    reason = "unsupported_model"


class UnknownObject(UsageError):
    """The object, record or session is not one that this store knows: nothing was changed."""

    code = 2443
    reason = "unknown_object"


class StoreNotReady(UsageError):
    """``setup()`` has not run, or the store was closed: nothing was read or written."""

    code = 2444
    reason = "store_not_ready"


class LifecycleError(SyncError):
    """The lifecycle said no; nothing was changed (K10)."""

    code = 2450
    reason = "lifecycle"


class IllegalTransition(LifecycleError):
    """The chart has no edge for this trigger in this phase; ``legal`` are those that have one."""

    code = 2451
    reason = "illegal_transition"

    def __init__(self, phase: AnyPhase, trigger: AnyTrigger, legal: tuple[AnyTrigger, ...]) -> None:
        allowed = ", ".join(legal) if legal else "nothing: the phase is final"
        message = f"{trigger} is illegal in {phase}; legal is: {allowed}"
        super().__init__(message, phase=phase, trigger=trigger)
        self.legal = legal


class GuardRefused(LifecycleError):
    """The chart has an edge for this trigger, but one of its guards, ``guard``, does not hold."""

    code = 2452
    reason = "guard_refused"

    def __init__(self, phase: AnyPhase, trigger: AnyTrigger, guard: Guard) -> None:
        super().__init__(
            f"{trigger} is refused in {phase}: it requires that {guard.meaning}",
            phase=phase,
            trigger=trigger,
        )
        self.guard = guard


class StaleRunner(LifecycleError):
    """The journal says another phase than this runner: a second one took over the session.

    This one writes nothing any more; the second one goes on.
    """

    code = 2453
    reason = "stale_runner"
