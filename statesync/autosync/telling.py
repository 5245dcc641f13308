"""Who is told of a keeper: who watches its status, and who waits for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from logging import Logger, getLogger

from statesync.autosync.status import KeeperStatus
from statesync.errors import StoreError

logger: Logger = getLogger(__name__)

Watcher = Callable[[KeeperStatus | StoreError], object]
"""Gets each new status, or why it cannot be read, in the keeper's thread, and returns at once."""


class Telling:
    """Those who are told of one keeper.

    ``status`` reads what they are told. ``knock`` asks the keeper's thread to greet who is new. ``let_go``
    closes what was opened for that in a thread that is not the keeper's, or not any more.
    """

    def __init__(
        self,
        status: Callable[[], KeeperStatus],
        knock: Callable[[], object],
        let_go: Callable[[], object],
    ) -> None:
        self._status, self._knock, self._let_go = status, knock, let_go
        self._changing = threading.RLock()  # a signal handler may stop the keeper amid a change
        self._watchers: list[Watcher] = []
        self._new: list[Watcher] = []
        self._wakes: list[Callable[[], object]] = []
        self._ended = threading.Event()

    # -- from any thread -------------------------------------------------------------------------------

    def watch(self, watcher: Watcher) -> None:
        """Call ``watcher`` with the present status and with each new one; with the last one after the end."""
        with self._changing:
            is_over = self.is_over
            if not is_over:
                self._watchers = [*self._watchers, watcher]
                self._new.append(watcher)
        if is_over:
            self._tell([watcher])
        else:
            self._knock()

    def unwatch(self, watcher: Watcher) -> None:
        """Call it no more."""
        with self._changing:
            self._watchers = [each for each in self._watchers if each is not watcher]

    def call_at_the_end(self, wake: Callable[[], object]) -> None:
        """Call ``wake`` when the keeper has stopped, in any thread; it must return at once."""
        with self._changing:
            if not self.is_over:
                self._wakes.append(wake)
                return
        wake()

    @property
    def is_over(self) -> bool:
        """Whether the keeper has stopped."""
        return self._ended.is_set()

    def wait(self, seconds: float | None) -> bool:
        """Wait until it has stopped; tell whether it has."""
        return self._ended.wait(seconds)

    # -- from the keeper -------------------------------------------------------------------------------

    def greet(self) -> None:
        """Tell the present status to those who are new."""
        self._tell(self._taken_new())

    def tell_all(self) -> None:
        """Tell the present status to all who watch."""
        self._tell(self._watchers)

    def end(self) -> None:
        """Let go who waits for the end, once those are told who have come too late to be greeted."""
        with self._changing:
            self._ended.set()
            wakes, self._wakes = self._wakes, []
        late = self._taken_new()
        if late:
            self._tell(late)
            self._let_go()
        for wake in wakes:
            wake()

    def _taken_new(self) -> list[Watcher]:
        with self._changing:
            new, self._new = self._new, []
        return new

    def _tell(self, watchers: Sequence[Watcher]) -> None:
        if not watchers:
            return
        status: KeeperStatus | StoreError
        try:
            status = self._status()
        except StoreError as error:
            logger.warning("the keeper's status cannot be read", exc_info=True)
            status = error
        for watcher in watchers:
            watcher(status)
