"""What a session needs of a hub, however it is spoken to."""

from __future__ import annotations

from typing import Protocol

from statesync.wire import Page, Pull, Push, PushAnswer


class Remote(Protocol):
    """What a session needs of a hub. Every method but ``interrupt`` runs in the session's worker.

    ``push`` and ``pull`` raise ``RemoteError`` and nothing else; its ``retryable`` and ``maybe_applied``
    decide whether the session tries again and whether an upload batch is in doubt.
    """

    @property
    def space(self) -> str:
        """The space on the hub that this remote speaks to."""

    def push(self, request: Push) -> PushAnswer:
        """Offer one upload batch and return a verdict for each of its changes, in order."""

    def pull(self, request: Pull) -> Page:
        """Return the records that follow the request's cursors, in the order of their versions."""

    def interrupt(self) -> None:
        """End the request that is under way, if there is one: it raises ``ConnectionLost`` soon.

        May be called from any thread, at any time.
        """

    def close(self) -> None:
        """Release the connection. The remote may be used again afterwards."""
