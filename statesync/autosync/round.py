"""One round of sessions: each scope once, whatever becomes of the others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from logging import Logger, getLogger

from attrs import Factory, field

from statesync.autosync.target import Target
from statesync.autosync.turns import Turns
from statesync.classes import define
from statesync.errors import InternalError, SyncCancelled, SyncError
from statesync.scope import Scope
from statesync.session.handle import Session
from statesync.threads import Task, threads
from statesync.values import SyncOptions, SyncResult

logger: Logger = getLogger(__name__)

SessionOutcome = SyncResult | SyncError
"""How one session ended: its result, or its error."""

_Place = tuple[int, Target, SyncOptions]


@define(eq=False)
class _Round:
    """What has become of each, and what runs; once it is cancelled, nothing begins any more."""

    outcomes: dict[int, SessionOutcome] = field(factory=dict)
    running: dict[int, Session] = field(factory=dict)
    cancelled: threading.Event = Factory(threading.Event)

    def run(self, places: Sequence[_Place]) -> None:
        """Run the sessions of one store, one after the other."""
        for number, target, options in places:
            self.outcomes[number] = self._outcome(number, target, options)

    def _outcome(self, number: int, target: Target, options: SyncOptions) -> SessionOutcome:
        if self.cancelled.is_set():
            return SyncCancelled("the round was cancelled before this session began")
        try:
            self.running[number] = session = target.begin(options)
            if self.cancelled.is_set():
                session.cancel_in_time()
            return session.result()
        except SyncError as error:
            return error
        except Exception as error:  # a defect, which must not keep the others from their round
            logger.exception("a defect ended a session of a round")
            return InternalError.because_of(error)

    def cancel(self) -> None:
        """Cancel what runs, and begin nothing any more."""
        self.cancelled.set()
        for session in list(self.running.values()):
            session.cancel_in_time()


def run_round(scopes: Sequence[tuple[Scope, SyncOptions]], *, parallel: bool) -> tuple[SessionOutcome, ...]:
    """Run one session of each scope; ``parallel`` lets those of different stores run beside each other."""
    places = [(number, Target(scope), options) for number, (scope, options) in enumerate(scopes)]
    lines = _by_store(places) if parallel else [places]
    current = _Round()
    tasks = [Task(partial(current.run, line), "statesync-round") for line in lines]
    begun: list[Task] = []
    try:
        for task in tasks:
            threads.start(task)
            begun.append(task)
        for task in begun:
            task.wait()
    except BaseException:  # a Ctrl-C, perhaps, or no thread: the sessions get their drain, and it goes on
        current.cancel()
        for task in begun:
            task.wait()
        raise
    return tuple(current.outcomes[number] for number, _, _ in places)


def _by_store(places: Sequence[_Place]) -> list[list[_Place]]:
    lines: dict[Turns, list[_Place]] = {}
    for place in places:
        lines.setdefault(place[1].turns, []).append(place)
    return list(lines.values())
