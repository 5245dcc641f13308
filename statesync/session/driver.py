"""The threaded driver: runs one conversation with a real clock, a real store and a real remote.

It decides nothing. One thread fires: the loop takes events from one mailbox and fires triggers; requests
run beside it. No callback is called while a transaction is open.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from logging import Logger, getLogger

from attrs import evolve, field

from statesync.classes import define
from statesync.errors import (
    InternalError,
    LifecycleError,
    RemoteError,
    StaleRunner,
    Stopped,
    SyncError,
    SyncFailed,
)
from statesync.lifecycle import SESSION, Phase
from statesync.machine import Move, SessionMachine
from statesync.protocol.conversation import Committed, Conversation, Spent
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    Action,
    AskAhead,
    Build,
    Built,
    CancelRequested,
    ComposeAhead,
    Continue,
    Continued,
    Decision,
    Drain,
    EndRequests,
    Event,
    Finish,
    GiveHeadStart,
    Interrupt,
    LocalFailure,
    Meanwhile,
    Prepare,
    RequestFailed,
    Send,
    Wait,
)
from statesync.protocol.page_size import FEWEST
from statesync.remote import Remote
from statesync.session.mailbox import Letter, Mailbox
from statesync.session.progress import Reporter
from statesync.session.requests import Reply, Requests
from statesync.session.storage import Storage
from statesync.session.timers import HEAD_START, Timer, Timers, backoff
from statesync.store.file.tenure import Tenure
from statesync.values import Progress, SyncOptions

logger: Logger = getLogger(__name__)

PATIENCE = 0.5
"""Seconds that the end of a session waits for a request that was interrupted."""

NOTHING_COMMITTED = Committed()


@define(eq=False)
class Driver:
    """Runs one session from ``idle`` to its end, in the calling thread.

    ``tell`` gets every progress event. After ``run`` the outcome is in ``error`` (None: done). Once its
    ``tenure`` is over it does nothing any more: nothing is sent, nothing committed, nothing told.
    """

    storage: Storage
    remote: Remote
    options: SyncOptions
    mailbox: Mailbox
    tell: Callable[[Progress], None]
    tenure: Tenure = field(factory=Tenure)
    clock: Callable[[], float] = time.monotonic
    machine: SessionMachine = field(factory=SessionMachine)
    error: SyncError | None = None
    running_phase: Phase = Phase.IDLE
    """The last phase that was not final."""
    _now: Conversation = field(init=False)
    _requests: Requests = field(init=False)
    _timers: Timers = field(init=False)
    _reporter: Reporter = field(init=False)
    _next: deque[Event] = field(init=False, factory=deque)
    _is_over: bool = field(init=False, default=False)
    _stopped: Stopped | None = field(init=False, default=None)
    _failure: RemoteError | None = field(init=False, default=None)
    """Why a request has failed the last time."""

    def __attrs_post_init__(self) -> None:
        """Begin with the conversation that the options ask for."""
        given = self.options.download_batch_size
        self._now = Conversation(
            uploads=self.options.uploads,
            downloads=self.options.downloads,
            max_attempts=self.options.max_attempts,
            page_size=FEWEST if given is None else given,
            page_fits=FEWEST if given is None else None,
        )
        self._timers = Timers(self.clock, self.options.cancel_grace)
        self._requests = Requests(self.remote, self.mailbox.post, self.storage.clear_up_request)
        self._reporter = Reporter(self.tell)
        if self.options.timeout is not None:  # it runs while the session is being begun, too
            self._timers.start(Timer.SESSION, self.options.timeout)

    def run(self) -> None:
        """Converse until the session is over, then release requests and connection. Raises nothing."""
        try:
            self._next.append(self.storage.begin())
            while not self._is_over:
                self._handle(self._next_event())
        except StaleRunner as error:  # somebody else runs the session: nothing may be written any more
            self._finish(error)
        except SyncFailed as error:
            self._end_with(error)
        except Exception as error:  # a defect: the session must end all the same, and say so
            logger.exception("a defect ended a session")
            self._end_with(InternalError.because_of(error))
        except BaseException as error:  # the program's code asks for the end of the thread, as sys.exit does
            logger.exception("code of the program's ended a session")
            self._end_with(Stopped.because_of(error))
        finally:
            self._release()

    def stop(self, cause: BaseException) -> None:
        """End the session before its next step: a callback has raised what asks for the end of its thread."""
        self._stopped = self._stopped or Stopped.because_of(cause)

    def is_asked_by_a_request(self) -> bool:
        """Tell whether the calling thread is the one that makes the session's requests."""
        return self._requests.is_in_this_thread()

    def interrupt_requests(self) -> None:
        """End the request that is under way. From another thread, once the tenure is over."""
        self._requests.stop(PATIENCE)

    def _end_with(self, error: SyncFailed) -> None:
        """End the session after a transaction was rolled back; if not even that can be written, just end.

        What the journal shows as running then is ended as interrupted by whoever opens the store next. One
        that could not be recorded has never begun.
        """
        if self.tenure.is_over or not self.storage.is_recorded:
            self._finish(error)
            return
        self._requests.stop(PATIENCE)
        try:
            self._handle(LocalFailure(error))
        except (SyncFailed, LifecycleError):
            logger.warning("the end of a session could not be written down", exc_info=True)
        if not self._is_over:
            self._finish(error)

    def _release(self) -> None:
        if self.tenure.is_over:  # the remote may be another session's by now
            self._requests.end()
            return
        if not self._requests.stop(PATIENCE):
            logger.warning("a request did not end when it was interrupted; its thread is left behind")
        if self.machine.phase is not Phase.DONE:
            self.remote.close()

    # -- events --------------------------------------------------------------------------------------

    def _next_event(self) -> Event:
        """Return what happens next: a cancel before everything else, then our own, then what comes."""
        self.tenure.check()
        if self._stopped is not None:
            raise self._stopped
        cancel = self.mailbox.take_cancel()
        if cancel is not None:
            return cancel
        if self._next:
            return self._next.popleft()
        letter = self.mailbox.take(self._timers.seconds_left())
        if letter is None:
            return self._timers.take_due() or self._next_event()
        return self._event_of(letter)

    def _event_of(self, letter: Letter) -> Event:
        if isinstance(letter, CancelRequested):
            return letter
        if not self._requests.accept(letter):
            return self._next_event()
        # It is checked and staged, not stored yet: a cancel that came meanwhile goes first.
        self._next.appendleft(self._read(letter))
        return self._next_event()

    def _read(self, reply: Reply) -> Event:
        outcome = reply.outcome
        if isinstance(outcome, InternalError | Stopped):
            return LocalFailure(outcome)
        if isinstance(outcome, RemoteError):
            return RequestFailed(outcome, reply.seconds)
        if self._now.batch is not None:
            self._reporter.answered(self._now.batch)
        began = self.clock()
        try:
            answered = self.storage.take(reply.request, outcome)
        except RemoteError as error:
            return RequestFailed(error, reply.seconds)
        self._reporter.expect(answered)
        return evolve(answered, spent=Spent(reply.seconds, self.clock() - began))

    # -- decisions -----------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        decision = decide(self._now, event)
        if isinstance(event, RequestFailed):
            self._failure = event.error
        for beside in decision.meanwhile:
            self._do_meanwhile(beside)
        for action in decision.actions:  # known before it is committed: the session may be left behind then
            if isinstance(action, Finish):
                self.error = action.error
        moves, committed = self._fire(decision) if decision.triggers else ((), NOTHING_COMMITTED)
        phase = self.machine.phase
        self._now = decision.conversation.after(committed, phase, self.machine.batch)
        if not SESSION.is_final(phase):
            self.running_phase = phase
        for action in decision.actions:
            self._do(action)
        self._reporter.moved(moves, decision.conversation.batch, committed)

    def _fire(self, decision: Decision) -> tuple[tuple[Move, ...], Committed]:
        committed: list[Committed] = []

        def commit(moves: tuple[Move, ...]) -> None:
            began = self.clock()
            done = self.storage.commit(moves, decision.effects)
            committed.append(evolve(done, seconds=self.clock() - began))

        moves = self.machine.fire(*decision.triggers, facts=decision.facts, commit=commit)
        return moves, committed[0]

    def _do_meanwhile(self, action: Meanwhile) -> None:
        match action:
            case AskAhead():
                wanted = self.storage.request_ahead(action.page_size)
                with self.tenure.held():
                    self._requests.ask_ahead(wanted)
            case EndRequests():
                self._requests.end()

    def _do(self, action: Action) -> None:
        match action:
            case Prepare():
                self._next.append(self.storage.prepare(action))
            case Send():
                self._send(action)
            case GiveHeadStart():
                self._timers.start(Timer.HEAD_START, HEAD_START)
            case ComposeAhead():
                self.storage.compose_ahead(action)
            case Wait():
                self._wait(action)
            case Drain():
                if action.grace is not None:  # it runs from the cancel on, which may have waited for us
                    left = self.tenure.seconds_left()
                    self._timers.shorten(
                        Timer.GRACE, action.grace if left is None else min(left, action.grace)
                    )
            case Continue():
                self._next.append(Continued())
            case Build():
                if self.storage.build(self._is_called):
                    self._next.append(Built())
            case Interrupt():
                self.remote.interrupt()
            case Finish():
                self._finish(action.error)

    def _wait(self, action: Wait) -> None:
        seconds = backoff(action.attempt, action.at_least)
        self._timers.start(Timer.BACKOFF, seconds)
        if self._now.batch is not None and self._failure is not None:
            self._reporter.waits(self._now.batch, self._failure, seconds)

    def _send(self, action: Send) -> None:
        size = action.page_size
        wanted = self.storage.push_request() if size is None else self.storage.page_request(size)
        with self.tenure.held():
            self._requests.send(wanted)
        if self._now.batch is not None:
            self._reporter.sent(self._now.batch)

    def _is_called(self) -> bool:
        """Tell whether the session, which is busy, is to end: a cancel waits for it, or its time is over."""
        return self.mailbox.has_cancel() or self._timers.is_due(Timer.SESSION)

    def _finish(self, error: SyncError | None) -> None:
        self.error, self._is_over = error, True
