"""The driver of one keeper: a thread that tells the core what happens, and does what it decides.

Everything that happens comes as a letter into one queue, into which any thread and a signal handler may put.
The thread waits for the next one, and for the time that the core has named, and looks for local changes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from logging import Logger, getLogger
from queue import Empty, SimpleQueue

from attrs import evolve

from statesync.autosync.conditions import Condition, Conditions
from statesync.autosync.listening import Heard, Listening
from statesync.autosync.sessions import Over, Sessions, TurnCame
from statesync.autosync.status import KeeperStatus, as_time, what_wakes
from statesync.autosync.target import Target
from statesync.autosync.telling import Telling
from statesync.autosync.turns import Turns
from statesync.checks import as_wait
from statesync.classes import frozen
from statesync.errors import StoreError, UsageError
from statesync.keeping.decide import JUMP, decide
from statesync.keeping.messages import (
    Action,
    AskConditions,
    BeginSession,
    CancelSession,
    Changed,
    Decision,
    Event,
    StopAsked,
    Ticked,
    TokenRenewed,
)
from statesync.keeping.options import KeeperOptions
from statesync.keeping.standing import Moment, Standing
from statesync.lifecycle import KEEPER, KeeperPhase, keeper_chart
from statesync.machine import KeeperMachine
from statesync.session.handle import OnProgress
from statesync.store.file.looks import Looks
from statesync.threads import Task, threads
from statesync.values import CancelOptions, SyncOptions

logger: Logger = getLogger(__name__)


@frozen
class _Watched:
    """Somebody has begun to watch, and wants to be told the present status."""


@frozen
class _Committed:
    """The program has committed something, which is looked at without waiting for the next look."""


_Letter = Event | TurnCame | Over | Heard | _Watched


def now() -> Moment:
    """Return this moment by both clocks."""
    return Moment(time.monotonic(), time.time())


class Driver:
    """One keeper's thread. Made by ``AutoSync``."""

    def __init__(
        self,
        target: Target,
        sync_options: SyncOptions,
        options: KeeperOptions,
        only_if: Mapping[str, Condition],
        on_progress: OnProgress | None = None,
    ) -> None:
        self.machine: KeeperMachine = KeeperMachine(keeper_chart(options.conditions))
        self._target, self._lookout = target, target.lookout
        self._wants_changes = options.on_change and sync_options.uploads
        self._queue: SimpleQueue[_Letter | _Committed] = SimpleQueue()
        self._conditions = Conditions(only_if, self._queue.put, target.clear_up)
        self._sessions = Sessions(target, sync_options, on_progress, self._queue.put)
        self._listening = Listening(target, self._queue.put)
        self._standing = Standing.begun(options, now())
        self.telling: Telling = Telling(self.status, partial(self._queue.put, _Watched()), target.leave)
        self._task = Task(self._run, "statesync-keeper")
        self._beginning = threading.RLock()  # a signal handler may stop it while its thread is starting it
        self._process = os.getpid()
        self.is_begun: bool = False
        self._is_blind = False
        self._looks = Looks(partial(self._queue.put, _Committed()))

    # -- from any thread -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to live, in a thread. Raises ``UsageError`` for one that was started or stopped before."""
        with self._beginning:
            if self.is_begun:
                raise UsageError("a keeper is started once; make another one")
            self.is_begun = True
        self._standing = Standing.begun(self._standing.options, now())
        self._target.enter(self)
        self._target.watch_token(self._tell_of_token)
        if self._wants_changes:
            self._lookout.watch(self._tell_of_commit)
        try:
            threads.start(self._task)
        except BaseException:
            self._fail("it got no thread to live in")
            self._forget()
            self.telling.end()
            raise

    def end(self, grace: float | None) -> None:
        """Stop, as the store asks for that is being closed. Raises ``BadOptions``."""
        self.stop(StopAsked(CancelOptions(grace=grace).grace))

    def stop(self, asked: StopAsked) -> None:
        """Begin nothing any more. From any thread, and from a signal handler."""
        self._queue.put(asked)
        with self._beginning:
            if self.is_begun:
                return
            self.is_begun = True
            self._adopt(decide(self._standing, now(), asked))
        self.telling.end()

    def take_turns(self, turns: Turns) -> None:
        """Begin sessions in turn with others; called before it is started."""
        self._sessions.turns = turns

    def tell(self, event: Event) -> None:
        """Tell of something that has happened. From any thread, and from a signal handler."""
        self._queue.put(event)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped; tell whether it has. Raises ``UsageError`` in its session's callback.

        A process that was forked meanwhile does not wait: the keeper is its parent's.
        """
        if self.is_inherited:
            return self.telling.is_over
        seconds = as_wait(timeout)
        until = None if seconds is None else time.monotonic() + seconds
        session = self._sessions.session
        if session is not None:
            try:
                session.wait(seconds)
            except TimeoutError:
                return False
        return self.telling.wait(None if until is None else max(0.0, until - time.monotonic()))

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that the keeper lives in: nothing is heard of it."""
        return os.getpid() != self._process

    def call_when_stopped(self, wake: Callable[[], object]) -> None:
        """Call ``wake`` when it has stopped, in any thread; it must return at once.

        In a process that was forked meanwhile it is called at once, as ``wait`` does not wait there.
        """
        if self.is_inherited:
            wake()
        else:
            self.telling.call_at_the_end(wake)

    def status(self) -> KeeperStatus:
        """Return what the keeper does, and what is stuck now. Raises ``StoreError``."""
        standing = self._standing
        following, at = what_wakes(standing) if self.is_begun else ("start", None)
        return KeeperStatus(
            phase=standing.phase,
            since=as_time(standing.since.wall),
            why=standing.why if self.is_begun else "it was not started yet",
            next=following,
            next_at=None if at is None else as_time(standing.seen.wall + at - standing.seen.at),
            last=self._sessions.last,
            backlog=self._lookout.backlog(),
            in_sync=self._sessions.in_sync,
            hears=self._listening.hears,
            is_behind=standing.is_due or self._lookout.is_behind(),
        )

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._read(Ticked())
            while not KEEPER.is_final(self.machine.phase):
                self._read(self._next())
        except Exception as error:  # a defect: who waits must be let go, and the status must say so
            logger.exception("a defect ended a keeper")
            self._fail(f"a defect ended it: {error}")
        finally:
            self._listening.close()
            self._sessions.leave()
            self._forget()
            self._target.leave()
            self.telling.end()

    def _tell_of_token(self) -> None:
        self.tell(TokenRenewed())

    def _tell_of_commit(self) -> None:
        """Look at once after a commit; at those that follow at the next look, however many they are."""
        if self._is_looking():
            self._looks.commit()

    def _forget(self) -> None:
        self._lookout.unwatch(self._tell_of_commit)
        self._target.unwatch_token(self._tell_of_token)
        self._target.forget(self)

    def _fail(self, why: str) -> None:
        """Say that it has stopped, although its chart has not."""
        self._standing = evolve(self._standing, phase=KeeperPhase.STOPPED, why=why)
        self.telling.tell_all()

    def _next(self) -> _Letter:
        """Wait for the next letter; time that has passed is one."""
        while True:
            wakes_at = self._standing.wakes_at()
            left = None if wakes_at is None else max(0.0, wakes_at - time.monotonic())
            pause = self._looks.pause if self._is_looking() else None
            looks = pause is not None and (left is None or left > pause)
            try:
                letter: _Letter | _Committed = self._queue.get(timeout=pause if looks else left)
                self._looks.stir()
            except Empty:
                if not looks or self._has_slept():
                    return Ticked()
                letter = _Committed()
            if not isinstance(letter, _Committed):
                return letter
            if self._is_looking() and self._has_news():
                self._looks.stir()
                return Changed()

    def _has_slept(self) -> bool:
        """Tell whether the core is to look at the clock now, and not at its next look: it has jumped."""
        return abs(now().jump_since(self._standing.seen)) > JUMP

    def _is_looking(self) -> bool:
        return self._wants_changes and self.machine.phase in (KeeperPhase.RESTING, KeeperPhase.LISTENING)

    def _has_news(self) -> bool:
        try:
            found = self._lookout.has_news()
        except StoreError:
            if not self._is_blind:
                logger.warning("local changes cannot be looked for; the interval goes on", exc_info=True)
            self._is_blind = True
            return False
        self._is_blind = False
        return found

    def _read(self, letter: _Letter) -> None:
        match letter:
            case TurnCame():
                self._sessions.begin()
            case _Watched():
                self.telling.greet()
            case Heard():
                self.telling.tell_all()
            case Over():
                self._tell_core(self._sessions.end(letter))
            case TokenRenewed():
                self._listening.ask_with_another_token(is_done=self._sessions.has_read_all)
                self._tell_core(letter)
            case _:
                self._tell_core(letter)

    def _tell_core(self, event: Event) -> None:
        before = _as_told(self._standing)
        self._adopt(decide(self._standing, now(), event))
        if before != _as_told(self._standing):
            self.telling.tell_all()

    def _adopt(self, decision: Decision) -> None:
        if decision.trigger is not None:
            move = self.machine.fire(decision.trigger, facts=decision.facts)
            why = decision.standing.why
            logger.debug("keeper: %s, from %s to %s: %s", move.trigger, move.source, move.target, why)
        self._standing = decision.standing.entered(self.machine.phase)
        self._listening.follow(self.machine.phase, is_done=self._sessions.has_read_all)
        for action in decision.actions:
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case AskConditions():
                self._conditions.ask()
            case BeginSession():
                self._sessions.ask()
            case CancelSession(grace):
                self._sessions.cancel(grace)


def _as_told(standing: Standing) -> tuple[KeeperPhase, str, bool]:
    """Return that of which a change is a new status."""
    return standing.phase, standing.why, standing.is_due
