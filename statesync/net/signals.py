"""What a keeper that listens needs of a hub: a question that is answered when there is news."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from statesync.wire import Signal


class Signals(Protocol):
    """What a keeper that listens needs of a hub. Every method but ``interrupt`` runs in one thread."""

    def ask(self, since: int, wait: float) -> Signal:
        """Return how far the space has come, once that is not ``since``, or after ``wait`` seconds.

        Raises ``RemoteError``: with status 404 where the hub is an older one, which does not tell.
        """

    def interrupt(self) -> None:
        """End the question that is under way, and every later one: it raises ``RemoteError`` soon.

        May be called from any thread, at any time.
        """

    def close(self) -> None:
        """Release the connection."""


@runtime_checkable
class LiveRemote(Protocol):
    """A remote whose hub can be asked for news beside a session."""

    def signals(self) -> Signals:
        """Return who asks for news of the remote's space, on a connection of its own."""
