"""A running session as the program holds it: a future whose cancel drains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from logging import INFO, Logger, getLogger

from statesync.errors import (
    InternalError,
    Interrupted,
    NothingToCancel,
    StoreError,
    SyncCancelled,
    SyncError,
    UsageError,
)
from statesync.lifecycle import SESSION, Phase
from statesync.net.remote import Remote
from statesync.protocol.messages import CancelRequested
from statesync.session.callbacks import Callbacks
from statesync.session.driver import Driver
from statesync.session.mailbox import Mailbox
from statesync.session.watch import watch
from statesync.store.ending.recovery import recover
from statesync.store.file.tenure import Tenure
from statesync.store.parts import StoreParts
from statesync.store.session_store import SessionStore
from statesync.store.tracking.model import new_key
from statesync.threads import Task, threads
from statesync.values import CancelOptions, Part, Progress, Reason, State, SyncOptions, SyncResult, SyncStats

logger: Logger = getLogger(__name__)

OnSuccess = Callable[[SyncResult], object]
OnFailure = Callable[[SyncError], object]
OnProgress = Callable[[Progress], object]

LATE = 0.6
"""Seconds after the end of its time at which a session is ended without its thread."""


class Session:
    """One run of the lifecycle. Made by ``start_sync``; it runs in a thread of its own.

    Callbacks get one value and are called one after the other in that thread, never while a transaction
    is open, and on a connection that is not the session's; one that raises is logged and hurts nothing. One
    that asks for the end of the thread, as ``sys.exit`` does, ends the session as ``Stopped``. One that never
    comes back keeps no cancel with a grace from ending: the session is ended without its thread then, which
    stores and sends nothing any more.
    """

    def __init__(
        self,
        core: StoreParts,
        remote: Remote,
        names: tuple[str, ...],
        options: SyncOptions,
        on_success: OnSuccess | None,
        on_failure: OnFailure | None,
        on_progress: OnProgress | None,
    ) -> None:
        self.id: str = new_key()
        self.objects = names
        self._core, self._space = core, remote.space
        self._on_success, self._on_failure, self._on_progress = on_success, on_failure, on_progress
        self._mailbox = Mailbox()
        self._events: list[Progress] = []
        self._news = threading.Condition()
        self._cancellers: list[tuple[Callable[[object], object] | None, OnFailure | None]] = []
        self._result: SyncResult | None = None
        self._error: SyncError | None = None
        self._has_outcome = False
        self._tenure = Tenure()
        self._options = options
        self._reasons: list[Reason] = []
        self._phase_at_end: Phase | None = None
        self._store = SessionStore(core, self.id, remote.space, names, options, self._tenure)
        self._driver = Driver(self._store, remote, options, self._mailbox, self._tell, self._tenure)
        self._callbacks = Callbacks(core.database.peewee, self._driver.stop)
        self._task = Task(self._run, "statesync-session")

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.phase}>"

    def start(self) -> None:
        """Record the session and run it. The caller holds the store's lock; the session gives it back."""
        recover(self._core.database)
        self._store.create()
        watch.follow(self)
        timeout, grace = self._options.timeout, self._options.cancel_grace
        if timeout is not None and grace is not None:
            self._limit(timeout + grace)
        threads.start(self._task)

    def _limit(self, seconds: float) -> None:
        """Let the session have ended these seconds from now, with its thread or without it."""
        watch.ring_at(self, self._tenure.shorten(seconds) + LATE)

    # -- what the program asks -----------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """The phase that the session is in; a final one shows once everything is released (K3)."""
        at_end = self._phase_at_end if self._has_outcome else None
        return at_end or self._driver.running_phase

    def done(self) -> bool:
        """Tell whether the session has ended, however it did."""
        return self._has_outcome

    def cancelled(self) -> bool:
        """Tell whether the session has ended in ``cancelled``."""
        return self._has_outcome and isinstance(self._error, SyncCancelled)

    def cancel(self, grace: float | None = None, *, reason: Reason = Reason.USER) -> None:
        """Ask the session to end: nothing new is begun, the batch in flight gets a recorded end (K1, K2).

        Returns at once, and may be called from any thread, any number of times, and from a signal handler.
        ``grace`` bounds the seconds that the batch in flight may take (K7), and with it the whole end:
        whatever hangs then (a hub, another writer, code of the program's), the session has ended a second
        later. A session that has ended, or that commits its last batch first, is not changed by it (K6).
        Raises ``BadOptions`` for a grace that is no number of seconds.
        """
        seconds = CancelOptions(grace=grace).grace
        self._reasons.append(reason)
        self._mailbox.post(CancelRequested(reason, seconds))
        if seconds is not None:
            self._limit(seconds)

    def cancel_in_time(self, reason: Reason = Reason.USER) -> None:
        """Cancel with the grace that the session's options have for it (``cancel_grace``)."""
        self.cancel(self._options.cancel_grace, reason=reason)

    def result(self, timeout: float | None = None) -> SyncResult:
        """Wait for the end and return what was done.

        Raises ``SyncCancelled`` or ``SyncFailed`` for a session that ended so (its ``result`` says what was
        done until then), ``TimeoutError`` after ``timeout`` seconds, and ``UsageError`` in a callback of
        this very session while it runs: it would wait for itself.
        """
        error = self.exception(timeout)
        if error is not None or self._result is None:
            raise error or UsageError("the session has no result yet")
        return self._result

    def exception(self, timeout: float | None = None) -> SyncError | None:
        """Wait for the end and return the error that ``result`` would raise, or None."""
        self.wait(timeout)
        return self._error

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end, up to ``timeout`` seconds; raises ``TimeoutError`` after that."""
        if self._task.is_this_thread():
            if not self._has_outcome:
                raise UsageError("a callback cannot wait for the session that called it")
        elif not self._task.wait(timeout):
            raise TimeoutError(f"session {self.id} is still {self.phase} after {timeout} seconds")

    def events(self) -> Iterator[Progress]:
        """Return every progress event from the first to the last, waiting for those to come."""
        at = 0
        while True:
            with self._news:
                self._news.wait_for(lambda: len(self._events) > at)  # noqa: B023 - called before at moves
                event = self._events[at]
            at += 1
            yield event
            if event.outcome is not None:
                return

    def on_cancel(self, on_success: Callable[[object], object] | None, on_failure: OnFailure | None) -> bool:
        """Call one of the two when the session has ended; False if it has ended already."""
        with self._news:
            if self._has_outcome:
                return False
            self._cancellers.append((on_success, on_failure))
            return True

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: StoreError | None = None
        try:
            with self._store.connected():
                self._driver.run()
                self._read_result()
        except StoreError as error:  # not even the connection could be opened
            failure = error
        finally:
            if self._tenure.end():
                self._core.lock.release()
                phase = self._driver.machine.phase
                # What could not be written down is found interrupted by the next one, and that is failed.
                self._phase_at_end = phase if SESSION.is_final(phase) else Phase.FAILED
                self._announce(self._driver.error or failure or self._fault())
            self._core.database.leave()  # a callback that uses a model opens a connection
            watch.leave(self)

    def _read_result(self) -> None:
        if not self._tenure.is_over:
            try:
                self._result = self._store.result()
            except StoreError:
                logger.exception("the history of session %s cannot be read", self.id)

    def _fault(self) -> SyncError | None:
        """Return what keeps a session without an error from being a success."""
        if self._phase_at_end is not Phase.DONE:
            return InternalError("a defect of statesync ended the session's thread; its log says which")
        if self._result is None:
            return StoreError("the session is done, but its history cannot be read; run: statesync doctor")
        return None

    # -- the end without the thread --------------------------------------------------------------------

    def give_up(self) -> None:
        """Called by the watch, in a thread of its own: the session's time is over, and it has not ended.

        Programs call ``cancel(grace=…)``.
        """
        if not self._tenure.end():  # it has ended, but a callback that was told so has not come back
            with self._news:
                self._news.wait_for(lambda: self._has_outcome)
            self._task.release()
            return
        where = self._task.whereabouts()
        self._store.interrupt()
        error = self._end_left(where)
        threads.start(Task(self._driver.interrupt_requests, "statesync-interrupt"))
        self._core.lock.release()
        watch.ring_at(self, time.monotonic() + LATE / 2)  # what is told now may hang, too
        self._announce(error)
        self._task.release()
        self._core.database.leave()
        logger.warning("session %s has ended without its thread, which is in %s", self.id, where)

    def _end_left(self, where: str) -> SyncError | None:
        """End the session in its journal, as far as it can be written; return how it ended."""
        left = f"; its thread was late, in {where}, and stores nothing any more"
        try:
            end = self._store.end_left(self._reasons[0] if self._reasons else Reason.DEADLINE)
        except StoreError as error:
            self._phase_at_end = Phase.FAILED
            return Interrupted(
                f"the session's time is over, and its end cannot be written down: {error}{left}"
            )
        self._result, self._phase_at_end = end.result, end.result.phase
        if end.error is None:  # its thread had ended it, and was late to say so
            return self._fault() and (self._driver.error or self._fault())
        end.error.args = (end.error.message + left,)
        end.error.message += left
        return end.error

    # -- what is told ----------------------------------------------------------------------------------

    def _announce(self, error: SyncError | None) -> None:
        """Tell the outcome: everything is released by now (K3)."""
        self._error = error
        with self._news:
            self._has_outcome = True
            self._news.notify_all()
        if self._error is not None:
            self._error.phase, self._error.result = self.phase, self._result
        stats = self._result.stats if self._result else None
        self._tell(Progress(Part.SYNC, State.ENDED, outcome=self.phase, stats=stats))
        if self._error is not None:
            self._callbacks.call(self._on_failure, self._error)
        elif self._result is not None:
            self._callbacks.call(self._on_success, self._result)
        for on_success, on_failure in self._cancellers:
            self._answer_canceller(on_success, on_failure)
        self._callbacks.call(self._log, stats)

    def _log(self, stats: SyncStats | None) -> None:
        """Write the one line that a session has in a program's log; nothing of its records is in it."""
        if stats is not None and logger.isEnabledFor(INFO):
            why = "" if self._error is None else f" ({self._error.reason})"
            counts = (stats.uploaded, stats.downloaded, stats.elapsed)
            logger.info(
                "session %s in space %s: %s%s, %d up, %d down, %.1f s",
                self.id,
                self._space,
                self.phase,
                why,
                *counts,
            )

    def _answer_canceller(
        self, on_success: Callable[[object], object] | None, on_failure: OnFailure | None
    ) -> None:
        if isinstance(self._error, SyncCancelled):
            self._callbacks.call(on_success, self._result)
        else:
            ended = NothingToCancel(f"the session was {self.phase} before the cancel could take effect")
            self._callbacks.call(on_failure, self._error or ended)

    def _tell(self, event: Progress) -> None:
        if self._tenure.is_over and event.outcome is None:
            return  # of a thread that was late
        with self._news:
            self._events.append(event)
            self._news.notify_all()
        self._callbacks.call(self._on_progress, event)
