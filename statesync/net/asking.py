"""Asking a hub for news over HTTP: a question that the hub answers when it has some."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from statesync.errors import BadAnswer, RemoteError
from statesync.net.transport import RawAnswer, Transport
from statesync.wire import Signal


class HttpSignals:
    """The question over HTTP. Made by ``HttpRemote.signals``.

    ``get`` asks the remote's space for something over ``transport``, and ``refused`` reads a refusal.
    """

    def __init__(
        self,
        transport: Transport,
        get: Callable[[str], RawAnswer],
        refused: Callable[[int, float | None, bytes], RemoteError],
    ) -> None:
        self._transport, self._get, self._refused = transport, get, refused

    def ask(self, since: int, wait: float) -> Signal:
        """Ask, and wait; see ``Signals.ask``."""
        status, retry_after, body = self._get(f"changes?since={since}&wait={wait:.3f}")
        if status != 200:
            raise self._refused(status, retry_after, body)
        try:
            return msgspec.json.decode(body, type=Signal)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadAnswer(f"the hub's answer to the question for news is none ({error})") from error

    def interrupt(self) -> None:
        """Shut the connection under a question that waits; see ``Signals.interrupt``."""
        self._transport.stop()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()
