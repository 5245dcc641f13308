"""What happens to a ``SyncWorld`` while a session runs: somebody cancels it, or writes in between."""

from __future__ import annotations

from collections.abc import Callable

from statesync.scope import Scope
from statesync.values import Part, Progress, State


class Follower:
    """Follows a session: cancels it at one of its events, and does something in between."""

    def __init__(
        self, scope: Scope, cancel_at: int | None, meanwhile: Callable[[], object] | None, during: Part
    ) -> None:
        self._scope = scope
        self._left = cancel_at
        self._meanwhile = meanwhile
        self._during = during

    def __call__(self, event: Progress) -> None:
        """Take note of an event; the first batch of ``during`` is the moment for what happens in between."""
        if self._meanwhile and (event.part, event.state) == (self._during, State.STARTED):
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel_sync(on_failure=lambda _: None)
