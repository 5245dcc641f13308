"""A running session as the program holds it: a future whose cancel drains."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from logging import Logger, getLogger

from statesync.checks import as_wait
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
from statesync.remote import Remote
from statesync.session.announcement import Announcement, Ended
from statesync.store.file.tenure import Tenure
from statesync.store.parts import StoreParts
from statesync.store.tracking.model import new_key
from statesync.threads import Task, threads
from statesync.values import CancelOptions, Part, Progress, Reason, State, SyncOptions, SyncResult

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
        from statesync.session import inside  # who begins a session has loaded it (``loading``)

        self.id: str = new_key()
        self.objects = names
        self._core, self._space = core, remote.space
        self._on_success, self._on_failure, self._on_progress = on_success, on_failure, on_progress
        self._mailbox = inside.Mailbox()
        self._announcement = Announcement()
        self._news = self._announcement.news
        self._told, self._pace = inside.Told(self._news), inside.Pace()
        self._cancellers: list[tuple[Callable[[object], object] | None, OnFailure | None]] = []
        self._tenure = Tenure()
        self._options = options
        self._reasons: list[Reason] = []
        self._ended_in_thread = False
        self._store = inside.SessionStore(
            core, self.id, remote.space, names, options, self._tenure, self._note_recorded
        )
        self._driver = inside.Driver(self._store, remote, options, self._mailbox, self._tell, self._tenure)
        self._on_steps = (
            *inside.log_steps(self.id),
            *inside.tracers.begin(inside.Traced(self.id, self._space, names)),
        )
        self._watch = inside.watch
        self._log_end = partial(inside.log_end, self.id, self._space)
        self._callbacks = inside.Callbacks(core.database.peewee, self._driver.stop)
        self._task = Task(self._run, "statesync-session", self._thread_is_free)

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.phase}>"

    def start(self) -> None:
        """Begin in a thread, and run there. The caller holds the store's lock; the session gives it back.

        Raises what keeps a thread from being started: the session is over then.
        """
        timeout, grace = self._options.timeout, self._options.cancel_grace
        if timeout is not None and grace is not None:
            self._tenure.shorten(timeout + grace)
        try:
            self._watch.follow(self)
            self._ring()  # a cancel may have come before the watch knew of the session
            threads.start(self._task)
        except BaseException:
            if self._tenure.end():
                self._leave_unbegun()
            raise

    def _leave_unbegun(self) -> None:
        self._core.lock.release()
        self._watch.leave(self)
        self._announcement.make(Ended(Phase.FAILED, InternalError("the session got no thread to begin in")))
        self._announcement.complete()

    def wait_for_start(self) -> None:
        """Wait until the session is recorded. Raises what kept it from that: nothing is recorded then."""
        never_began = self._announcement.wait_for_start()
        if never_began is not None and never_began.error is not None:
            raise never_began.error

    def _ring(self) -> None:
        """Let the watch end the session when its time is over, if that is known."""
        ends_at = self._tenure.ends_at
        if ends_at is not None:
            self._watch.ring_at(self, ends_at + LATE)

    # -- what the program asks -----------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """The phase that the session is in; a final one shows once everything is released (K3)."""
        ended = self._announcement.ended
        return self._driver.running_phase if ended is None else ended.phase

    def done(self) -> bool:
        """Tell whether the session has ended, however it did."""
        return self._announcement.ended is not None

    def cancelled(self) -> bool:
        """Tell whether the session has ended in ``cancelled``."""
        ended = self._announcement.ended
        return ended is not None and isinstance(ended.error, SyncCancelled)

    def is_over(self) -> bool:
        """Tell whether nobody has to wait any more: it has ended, and the callbacks of the end were called.

        One of them that hangs is waited for as long as the last cancel's grace says.
        """
        return self._announcement.is_complete

    def cancel(self, grace: float | None = None, *, reason: Reason = Reason.USER) -> None:
        """Ask the session to end: nothing new is begun, the batch in flight gets a recorded end (K1, K2).

        Returns at once, and may be called from any thread, any number of times, and from a signal handler.
        ``grace`` bounds the seconds that the batch in flight may take (K7), and with it the whole end:
        whatever hangs then (a hub, another writer, code of the program's), the session has ended a second
        later. A session that has ended, or that commits its last batch first, is not changed by it (K6),
        unless it has indexes to build, which the next one does then; a callback of the end that hangs is
        waited for no longer than the grace and a second, too.
        Raises ``BadOptions`` for a grace that is no number of seconds.
        """
        seconds = CancelOptions(grace=grace).grace
        self._reasons.append(reason)
        self._mailbox.post_cancel(reason, seconds)
        if seconds is not None:
            self._tenure.shorten(seconds)
            self._ring()

    def cancel_in_time(self, reason: Reason = Reason.USER) -> None:
        """Cancel with the grace that the session's options have for it (``cancel_grace``)."""
        self.cancel(self._options.cancel_grace, reason=reason)

    def result(self, timeout: float | None = None) -> SyncResult:
        """Wait for the end and return what was done.

        Raises ``SyncCancelled`` or ``SyncFailed`` for a session that ended so (its ``result`` says what was
        done until then), ``TimeoutError`` after ``timeout`` seconds, and ``BadOptions`` for a ``timeout``
        that is no number. ``UsageError`` is for a callback of this very session, or its function for the
        token, while it runs: it would wait for itself.
        """
        outcome = self._awaited(timeout).outcome
        if isinstance(outcome, SyncError):
            raise outcome
        return outcome

    def exception(self, timeout: float | None = None) -> SyncError | None:
        """Wait for the end and return the error that ``result`` would raise, or None."""
        return self._awaited(timeout).error

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end, up to ``timeout`` seconds; raises ``TimeoutError`` after that.

        The session is ``done()`` then, and the callbacks of its end were called. Raises ``UsageError`` where
        it would wait for ever: in a callback of this session while it runs, and in a process that was forked
        from the one that runs it.
        """
        self._awaited(timeout)

    def _awaited(self, timeout: float | None) -> Ended:
        if not self.done() and (self._task.is_this_thread() or self._driver.is_asked_by_a_request()):
            raise UsageError("a callback cannot wait for the session that called it")
        ended = self._announcement.wait(as_wait(timeout))
        if ended is None:
            raise TimeoutError(f"session {self.id} is still {self.phase} after {timeout} seconds")
        return ended

    def call_when_over(self, wake: Callable[[], object]) -> None:
        """Call ``wake`` when ``is_over``, in any thread; it must return at once."""
        self._announcement.call_when_complete(wake)

    def events(self) -> Iterator[Progress]:
        """Return its progress from the first event to the last, as ``on_progress`` gets it; wait for more."""
        return self._told.each()

    def __aiter__(self) -> AsyncIterator[Progress]:
        """Return its progress from the first event on, as ``on_progress`` gets it."""
        # asyncio is a tenth of what the import of statesync takes, and most programs have threads.
        from statesync.session.telling.aio import events

        return events(self._told)

    def on_cancel(self, on_success: Callable[[object], object] | None, on_failure: OnFailure | None) -> bool:
        """Call one of the two when the session has ended; False if it has ended already."""
        with self._news:
            if self.done():
                return False
            self._cancellers.append((on_success, on_failure))
            return True

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: SyncError | None = None
        result: SyncResult | None = None
        try:
            with self._store.connected():
                self._store.open()
                self._driver.run()
                result = self._read_result()
        except SyncError as error:  # it could not begin: not even the connection could be opened, perhaps
            failure = error
        finally:
            if self._tenure.end():
                self._ended_in_thread = True
                self._end_here(self._driver.error or failure, result)
            self._core.database.leave()  # a callback that uses a model opens a connection
            self._watch.leave(self)

    def _note_recorded(self) -> None:
        with self._tenure.held():  # who ends it without this thread knows whether it had begun
            self._announcement.begin()

    def _read_result(self) -> SyncResult | None:
        """Read what the session did; None where that cannot be read, or another ends the session."""
        if self._store.is_recorded and not self._tenure.is_over:
            try:
                return self._store.result()
            except StoreError:
                if not self._tenure.is_over:  # otherwise whoever ends it has interrupted the reading
                    logger.exception("the history of session %s cannot be read", self.id)
        return None

    def _end_here(self, error: SyncError | None, result: SyncResult | None) -> None:
        phase = self._driver.machine.phase
        if not SESSION.is_final(phase):  # what could not be written down is found interrupted by the next one
            phase = Phase.FAILED
        try:
            self._core.lock.release()
        finally:
            self._announce(self._ended(phase, result, error))

    def _ended(self, phase: Phase, result: SyncResult | None, error: SyncError | None) -> Ended:
        if error is not None and not self._announcement.has_begun:
            return Ended(phase, error)
        return Ended.of(phase, result, error)

    def _thread_is_free(self) -> None:
        """Let go who waits: the next session may have the thread. What is left to another is not our end."""
        if self._ended_in_thread:
            self._announcement.complete()

    # -- the end without the thread --------------------------------------------------------------------

    def give_up(self) -> None:
        """Called by the watch, in a thread of its own: the session's time is over, and it has not ended.

        Programs call ``cancel(grace=…)``.
        """
        if not self._tenure.end():  # it has ended, but a callback that was told so has not come back
            self._announcement.complete()
            return
        where = self._task.whereabouts()
        self._store.interrupt()
        try:
            ended = self._end_left(where)
        except Exception as error:  # a defect: who waits must be let go all the same
            logger.exception("a defect ended a session that was left behind")
            ended = self._ended(Phase.FAILED, None, InternalError.because_of(error))
        threads.try_to_start(Task(self._driver.interrupt_requests, "statesync-interrupt"))
        self._core.lock.release()
        self._watch.ring_at(self, time.monotonic() + LATE / 2)  # what is told now may hang, too
        self._announce(ended)
        self._core.database.leave()
        self._announcement.complete()
        logger.warning("session %s has ended without its thread, which is in %s", self.id, where)

    def _end_left(self, where: str) -> Ended:
        """End the session in its journal, as far as it can be written; return how it ended."""
        left = f"; its thread was late, in {where}, and stores nothing any more"
        if not self._announcement.has_begun:
            error = Interrupted(f"the session's time was over before it had begun{left}")
            return self._ended(Phase.FAILED, None, error)
        try:
            end = self._store.end_left(self._reasons[0] if self._reasons else Reason.DEADLINE)
        except StoreError as error:
            failure = f"the session's time is over, and its end cannot be written down: {error}{left}"
            return self._ended(Phase.FAILED, None, Interrupted(failure))
        if end.error is None:  # its thread had ended it, and was late to say so
            return self._ended(end.result.phase, end.result, self._driver.error)
        end.error.args = (end.error.message + left,)
        end.error.message += left
        return self._ended(end.result.phase, end.result, end.error)

    # -- what is told ----------------------------------------------------------------------------------

    def _announce(self, ended: Ended) -> None:
        """Tell the outcome: everything is released by now (K3)."""
        self._announcement.make(ended)
        # This comes first: a callback of the program's may hang.
        self._callbacks.call(self._log_end, ended)
        stats = ended.result.stats if ended.result else None
        if self._announcement.has_begun:
            self._tell(Progress(Part.SYNC, State.ENDED, outcome=ended.phase, stats=stats))
            if isinstance(ended.outcome, SyncError):
                self._callbacks.call(self._on_failure, ended.outcome)
            else:
                self._callbacks.call(self._on_success, ended.outcome)
        for on_success, on_failure in self._cancellers:
            self._answer_canceller(ended, on_success, on_failure)

    def _answer_canceller(
        self, ended: Ended, on_success: Callable[[object], object] | None, on_failure: OnFailure | None
    ) -> None:
        if isinstance(ended.error, SyncCancelled):
            self._callbacks.call(on_success, ended.result)
        else:
            before = NothingToCancel(f"the session was {ended.phase} before the cancel could take effect")
            self._callbacks.call(on_failure, ended.error or before)

    def _tell(self, event: Progress) -> None:
        if self._tenure.is_over and event.outcome is None:
            return  # of a thread that was late
        for tell in self._on_steps:
            self._callbacks.call(tell, event)
        for each in self._pace.due(event):
            self._told.add(each)
            self._callbacks.call(self._on_progress, each)
