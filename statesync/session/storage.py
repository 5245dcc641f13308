"""What a session's loop needs of a store: its only door to the device database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from statesync.machine import Move
from statesync.protocol.conversation import Committed
from statesync.protocol.messages import Answered, Begin, ComposeAhead, Effect, Prepare, Prepared
from statesync.wire import Page, Pull, Push, PushAnswer


class Storage(Protocol):
    """The store as one session's loop sees it. Everything here raises ``SyncFailed`` where it cannot be done.

    What is staged between two calls (a batch that stands ready, a page that has come) need not survive.
    """

    @property
    def is_recorded(self) -> bool:
        """Whether the session is written down. One that is not is recorded by the first ``commit``."""

    def begin(self) -> Begin:
        """Look for what the session may have to do; writes nothing."""

    def prepare(self, wanted: Prepare) -> Prepared:
        """Stage the next upload batch."""

    def compose_ahead(self, wanted: ComposeAhead) -> None:
        """Compose the upload batch that may follow, to have it at hand; writes nothing."""

    def push_request(self) -> Push:
        """Return the request of the open upload."""

    def page_request(self, page_size: int) -> Pull:
        """Return the request of the open download, for up to ``page_size`` records; 0: the hub's choice."""

    def request_ahead(self, page_size: int) -> Pull:
        """Return the request that follows once the staged page is stored."""

    def take(self, request: Push | Pull, answer: PushAnswer | Page) -> Answered:
        """Check an answer and stage it; writes nothing. Raises ``BadAnswer`` for what no hub could mean."""

    def clear_up_request(self) -> None:
        """Close what a remote of the program's own has opened in the calling thread, that of a request."""

    def build(self, is_called: Callable[[], bool]) -> bool:
        """Build the indexes that wait; False if that was broken off, as soon as ``is_called`` said so."""

    def commit(self, moves: tuple[Move, ...], effects: tuple[Effect, ...]) -> Committed:
        """Write effects and journal rows in one transaction; if it raises, nothing was written."""
