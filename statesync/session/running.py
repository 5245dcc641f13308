"""What runs in a store: its sessions, and the keepers that begin them by themselves."""

from __future__ import annotations

from typing import Protocol

from statesync.session.handle import Session


class Keeper(Protocol):
    """What begins sessions of a store by itself."""

    def end(self, grace: float | None) -> None:
        """Begin nothing any more, and bring the session that runs to its end; returns at once."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for that; tell whether it has come."""


class Running:
    """The sessions that this store has started, and that somebody may wait for, and its keepers."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self.keepers: set[Keeper] = set()

    def end_keepers(self, grace: float | None) -> list[Keeper]:
        """Let every keeper end, and return them."""
        keepers = list(self.keepers)
        for keeper in keepers:
            keeper.end(grace)
        return keepers

    @property
    def session(self) -> Session | None:
        """The one that was started last."""
        return self._sessions[-1] if self._sessions else None

    def begin(self, session: Session) -> None:
        """Know one more. The caller holds the store's lock; callbacks of earlier ones may still hang."""
        self._sessions = [*self.unfinished(), session]

    def unfinished(self) -> list[Session]:
        """Return those that somebody may wait for."""
        return [session for session in self._sessions if not session.is_over()]
