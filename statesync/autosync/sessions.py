"""The sessions of one keeper: each is begun when its turn has come, and told when it is over."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from logging import Logger, getLogger

from statesync.autosync.status import InSync, LastSession, as_time
from statesync.autosync.target import Target
from statesync.autosync.turns import Turns
from statesync.classes import frozen
from statesync.errors import InternalError, StoreError, SyncCancelled, SyncError
from statesync.keeping.ending import meaning_of
from statesync.keeping.messages import SessionEnded
from statesync.lifecycle import Phase, SessionEnd
from statesync.session.handle import OnProgress, Session
from statesync.values import SyncOptions

logger: Logger = getLogger(__name__)

_LACKING = (RuntimeError, OSError, ImportError, MemoryError)
"""What the process has not got just now (a thread, a descriptor, memory, what a session has inside): another
time it may have it."""


@frozen
class TurnCame:
    """It is this keeper's turn to run a session."""


@frozen
class Over:
    """The session is over, or could not begin because of ``error``; without both its turn never came."""

    session: Session | None = None
    error: SyncError | None = None


class Sessions:
    """Runs one session after the other. All but ``session`` is used in the keeper's thread.

    ``tell`` gets ``TurnCame``, which ``begin`` answers, and ``Over``, which ``end`` reads; from any thread.
    """

    def __init__(
        self,
        target: Target,
        options: SyncOptions,
        on_progress: OnProgress | None,
        tell: Callable[[TurnCame | Over], object],
    ) -> None:
        self._target, self._options, self._tell = target, options, tell
        self._on_progress = on_progress
        self.turns: Turns = target.turns
        self.session: Session | None = None
        self.last: LastSession | None = None
        self.in_sync: InSync | None = None
        self._awaits_turn = False

    @property
    def has_read_all(self) -> bool:
        """Whether the last session has read all that the hub had."""
        return self.last is not None and self.last.error is None

    def ask(self) -> None:
        """Ask for a turn, in which the session begins."""
        self._awaits_turn = True
        self.turns.take(self, lambda: self._tell(TurnCame()))

    def begin(self) -> None:
        """Begin the session, unless it was cancelled while it waited for its turn."""
        if not self._awaits_turn:
            return
        self._awaits_turn = False
        try:
            self._target.lookout.note_offered()
            session = self._target.begin(self._options, self._on_progress)
        except SyncError as error:
            self._tell(Over(error=error))
            return
        except _LACKING as error:
            self._tell(Over(error=InternalError.because_of(error)))
            return
        self.session = session
        session.call_when_over(lambda: self._tell(Over(session)))

    def cancel(self, grace: float | None) -> None:
        """Bring the session to its end; ``grace`` of None: as its options say."""
        if self._awaits_turn:
            self._awaits_turn = False
            self._tell(Over())
        elif self.session is not None and grace is None:
            self.session.cancel_in_time()
        elif self.session is not None:
            self.session.cancel(grace)

    def end(self, over: Over) -> SessionEnded:
        """Give the turn back, remember how the session ended, and return what that means."""
        error = over.error if over.session is None else over.session.exception()
        self.session = None
        self.turns.give_back(self)
        if over.session is None and error is None:
            return SessionEnded(SessionEnd.SETTLED, "it was stopped before its turn came")
        self._remember(over.session, error)
        return meaning_of(error, random.random())  # noqa: S311 - jitter is no secret

    def _remember(self, session: Session | None, error: SyncError | None) -> None:
        at = as_time(time.time())
        if session is None:
            self.last = LastSession(None, Phase.FAILED, at, error)
            return
        self.last = LastSession(session.id, session.phase, at, error)
        if error is None and self._has_left_nothing():
            self.in_sync = InSync(at, session.id)
        if isinstance(error, SyncCancelled):
            self._let_it_rest()

    def _let_it_rest(self) -> None:
        """Begin no session for what the program has just cancelled: the next change brings it along."""
        try:
            self._target.lookout.note_offered()
        except StoreError:
            logger.warning("what waits cannot be read after a cancel", exc_info=True)

    def leave(self) -> None:
        """Let go of the turn, and of a session that a defect has left."""
        if self.session is not None:
            self.session.cancel_in_time()
        self.turns.give_back(self)

    def _has_left_nothing(self) -> bool:
        """Tell whether a session that is done went both ways, and nothing waits or is stuck after it."""
        if not (self._options.uploads and self._options.downloads):
            return False
        try:
            return self._target.lookout.backlog().is_empty
        except StoreError:
            return False  # what cannot be read is no evidence
