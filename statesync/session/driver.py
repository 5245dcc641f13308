"""The threaded driver: runs one conversation with a real clock, a real store and a real remote.

One thread fires: the loop takes events from one mailbox and fires triggers; requests run beside it. No
callback is called while a transaction is open.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from logging import Logger, getLogger

from attrs import define, field

from statesync.errors import InternalError, RemoteError, StaleRunner, SyncError, SyncFailed
from statesync.lifecycle import SESSION, AnyTrigger, Phase, Trigger
from statesync.machine import Move, SessionMachine
from statesync.net.remote import Remote
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    Action,
    Answered,
    Begin,
    Broke,
    CancelRequested,
    Conversation,
    Decision,
    Drain,
    Event,
    Finish,
    GoOn,
    Interrupt,
    Prepare,
    Prepared,
    Proceed,
    Send,
    Stuck,
    Wait,
)
from statesync.session.mailbox import Cancel, Letter, Mailbox, Reply, Requests, Worker
from statesync.session.timers import Timer, Timers, backoff
from statesync.store.session_store import Work
from statesync.values import Direction, Part, Progress, State, SyncOptions
from statesync.wire import Page, Pull, PushAnswer

logger: Logger = getLogger(__name__)

PATIENCE = 0.5
"""Seconds that the end of a session waits for a request that was interrupted."""

HEAD_START = 0.003
"""Seconds in which an upload's request is left alone to be sent: two busy threads hold each other up."""


@define(eq=False)
class Driver:
    """Runs one session from ``idle`` to its end, in the calling thread.

    ``tell`` gets every progress event. After ``run`` the outcome is in ``error`` (None: done).
    """

    work: Work
    remote: Remote
    options: SyncOptions
    mailbox: Mailbox
    tell: Callable[[Progress], None]
    clock: Callable[[], float] = time.monotonic
    machine: SessionMachine = field(factory=SessionMachine)
    error: SyncError | None = None
    running_phase: Phase = Phase.IDLE
    """The last phase that was not final."""
    _now: Conversation = field(init=False)
    _worker: Worker = field(init=False)
    _requests: Requests = field(init=False)
    _timers: Timers = field(init=False)
    _next: deque[Event] = field(init=False, factory=deque)
    _grace: float | None = field(init=False, default=None)
    _over: bool = field(init=False, default=False)
    _is_stuck: bool = field(init=False, default=False)
    _has_sent_upload: bool = field(init=False, default=False)
    _records: dict[Direction, int] = field(init=False)
    _total: int | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Begin with the conversation that the options ask for."""
        self._now = Conversation(
            uploads=self.options.uploads,
            downloads=self.options.downloads,
            max_attempts=self.options.max_attempts,
        )
        self._timers = Timers(self.clock)
        self._worker = Worker(self.remote, self.mailbox.post)
        self._requests = Requests(self._worker, self.mailbox.post)
        self._records = {Direction.UPLOAD: 0, Direction.DOWNLOAD: 0}

    def run(self) -> None:
        """Converse until the session is over, then release worker and connection. Raises nothing."""
        if self.options.timeout is not None:
            self._timers.start(Timer.SESSION, self.options.timeout)
        try:
            with self.work.errors_mapped():
                self._next.append(Begin(replay=self.work.has_doubt(), waiting=self.work.may_upload()))
                while not self._over:
                    self._handle(self._next_event())
        except StaleRunner as error:  # somebody else runs the session: nothing may be written any more
            self._finish(error)
        except SyncFailed as error:
            self._get_stuck(error)
        except Exception as error:  # a defect: the session must end all the same, and say so
            logger.exception("a defect ended a session")
            failure = InternalError(f"a defect of statesync: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._get_stuck(failure)
        finally:
            self._release()

    def _release(self) -> None:
        if not self._worker.stop(PATIENCE):
            logger.warning("a request did not end when it was interrupted; its thread is left behind")
        if self.machine.phase is not Phase.DONE:
            self.remote.close()

    # -- events --------------------------------------------------------------------------------------

    def _next_event(self) -> Event:
        """Return what happens next: a cancel before everything else, then our own, then what comes."""
        cancel = self.mailbox.take_cancel()
        if cancel is not None:
            return self._read(cancel)
        if self._next:
            return self._next.popleft()
        letter = self._look_ahead() if self._has_sent_upload else None
        if letter is None:
            letter = self.mailbox.take(self._timers.seconds_left())
        if letter is None:
            return self._timers.take_due() or self._next_event()
        return self._read(letter)

    def _look_ahead(self) -> Letter | None:
        """Use the time of an upload's request: compose the batch that follows it."""
        self._has_sent_upload = False
        letter = self.mailbox.take(HEAD_START)
        if letter is None and self._now.phase is Phase.UPLOADING:
            self.work.uploads.look_ahead()
        return letter

    def _read(self, letter: Letter) -> Event:
        if isinstance(letter, Cancel):
            return self._read_cancel(letter)
        return self._read_reply(letter) if self._requests.is_awaited(letter) else self._next_event()

    def _read_cancel(self, cancel: Cancel) -> Event:
        if cancel.grace is not None:
            self._grace = cancel.grace if self._grace is None else min(self._grace, cancel.grace)
            if self._now.phase is Phase.CANCELLING:
                self._start_grace()
        return CancelRequested(cancel.reason)

    def _read_reply(self, reply: Reply) -> Event:
        """Check and stage an answer; nothing is stored yet, so a cancel that came meanwhile goes first."""
        self.work.timing.request += reply.seconds
        if isinstance(reply.error, InternalError):
            return Stuck(reply.error)
        if reply.error is not None:
            return Broke(reply.error)
        self._report(State.IN_PROGRESS)
        began = self.clock()
        try:
            if isinstance(reply.answer, PushAnswer):
                event: Event = self.work.uploads.take(reply.answer)
            elif isinstance(reply.answer, Page) and isinstance(reply.request, Pull):
                event = self.work.downloads.take(reply.request, reply.answer)
        except RemoteError as error:
            return Broke(error)
        except SyncFailed as error:
            return Stuck(error)
        self.work.timing.parsing += self.clock() - began
        self._next.appendleft(event)
        return self._next_event()

    # -- decisions -----------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        decision = decide(self._now, event)
        if isinstance(event, Answered) and event.more and self._now.phase is Phase.DOWNLOADING:
            self._requests.read_ahead(self.work.downloads.request_ahead())
        if any(isinstance(action, Finish) for action in decision.then):
            self._worker.dismiss()  # it ends while the end of the session is written down
        moves: tuple[Move, ...] = ()
        if decision.triggers:
            try:
                moves = self._fire(decision)
            except SyncFailed as error:
                self._get_stuck(error)
                return
        self._now = decision.conversation.at(self.machine.phase, self.machine.batch)
        if not SESSION.is_final(self.machine.phase):
            self.running_phase = self.machine.phase
        self._report_moves(moves, decision)
        for action in decision.then:
            self._do(action)

    def _fire(self, decision: Decision) -> tuple[Move, ...]:
        details = self._details(decision)
        return self.machine.fire(
            *decision.triggers,
            facts=decision.facts,
            commit=lambda moves: self.work.commit(moves, decision.effects, details),
        )

    def _details(self, decision: Decision) -> dict[AnyTrigger, dict[str, str]]:
        reason = decision.conversation.cancelled_by
        return {Trigger.CANCEL: {"reason": reason}} if reason is not None else {}

    def _get_stuck(self, error: SyncFailed) -> None:
        """End the session after a transaction was rolled back; if not even that can be written, just end.

        What the journal shows as running then is ended as interrupted by whoever opens the store next.
        """
        if self._is_stuck:
            self._finish(self.error or error)
            return
        self._is_stuck, self.error = True, error
        self._next.clear()
        self._worker.stop(PATIENCE)
        self._handle(Stuck(error))

    # -- actions -------------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        match action:
            case Prepare():
                self._prepare(action.round)
            case Send():
                self._send(action.direction)
            case Wait():
                self._timers.start(Timer.BACKOFF, backoff(action.attempt, action.at_least))
            case Drain():
                self._start_grace()
            case GoOn():
                self._next.append(Proceed())
            case Interrupt():
                self.remote.interrupt()
            case Finish():
                self._finish(action.error)

    def _prepare(self, round_: int) -> None:
        try:
            self._next.append(Prepared(self.work.uploads.prepare(round_)))
        except SyncFailed as error:
            self._next.append(Stuck(error))

    def _send(self, direction: Direction) -> None:
        """Ask for the open batch's answer, unless a cancel waits: then nobody needs it any more (K5)."""
        if self.mailbox.has_cancel():
            self._next.append(Broke(RemoteError("the session was cancelled before its request was sent")))
            return
        upload = direction is Direction.UPLOAD
        try:
            self._requests.send(self.work.uploads.request() if upload else self.work.downloads.request())
            self._has_sent_upload = upload
            self._report(State.STARTED)
        except SyncFailed as error:
            self._next.append(Stuck(error))

    def _start_grace(self) -> None:
        if self._grace is not None:
            self._timers.start(Timer.GRACE, self._grace)

    def _finish(self, error: SyncError | None) -> None:
        self.error, self._over = error, True

    # -- progress ------------------------------------------------------------------------------------

    def _report_moves(self, moves: tuple[Move, ...], decision: Decision) -> None:
        for move in moves:
            match move.trigger:
                case Trigger.START:
                    self._total = self.work.uploads.waiting() if self.options.uploads else None
                    self.tell(Progress(Part.SYNC, State.STARTED, total=self._total))
                case Trigger.CANCEL if move.target is Phase.CANCELLING:
                    self.tell(Progress(Part.SYNC, State.CANCELLING))
                case Trigger.COMMIT_BATCH:
                    self._report_committed(decision)

    def _report(self, state: State) -> None:
        batch = self._now.batch
        if batch is not None:
            self._tell_batch(state, batch.direction, batch.number)

    def _report_committed(self, decision: Decision) -> None:
        batch = decision.conversation.batch
        if batch is not None:
            self._records[batch.direction] += self.work.committed
            self._tell_batch(State.ENDED, batch.direction, batch.number)

    def _tell_batch(self, state: State, direction: Direction, number: int) -> None:
        upload = direction is Direction.UPLOAD
        part = Part.UPLOAD if upload else Part.DOWNLOAD
        total = self._total if upload else None
        self.tell(Progress(part, state, number, self._records[direction], total))
