"""Asking a hub for news over HTTP: a question that the hub answers when it has some."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from statesync.errors import BadAnswer, RemoteError
from statesync.net.transport import Transport
from statesync.wire import Signal


class HttpSignals:
    """The question over HTTP. Made by ``HttpRemote.signals``.

    ``headers``, ``is_renewed`` and ``refused`` are the remote's: what it says of itself, whether it has
    another token than the one that was refused, and how it reads a refusal.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        headers: Callable[[], Mapping[str, str]],
        is_renewed: Callable[[], bool],
        refused: Callable[[int, float | None, bytes], RemoteError],
    ) -> None:
        self._transport, self._path = transport, path
        self._headers, self._is_renewed, self._refused = headers, is_renewed, refused

    def ask(self, since: int, wait: float) -> Signal:
        """Ask, and wait; see ``Signals.ask``."""
        path = f"{self._path}/changes?since={since}&wait={wait:.3f}"
        status, retry_after, body = self._exchange(path)
        if status == 401 and self._is_renewed():
            status, retry_after, body = self._exchange(path)
        if status != 200:
            raise self._refused(status, retry_after, body)
        try:
            return msgspec.json.decode(body, type=Signal)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadAnswer(f"the hub's answer to the question for news is none ({error})") from error

    def _exchange(self, path: str) -> tuple[int, float | None, bytes]:
        headers = {name: value for name, value in self._headers().items() if name != "Content-Type"}
        return self._transport.exchange(path, None, headers, "GET")

    def interrupt(self) -> None:
        """Shut the connection under a question that waits; see ``Signals.interrupt``."""
        self._transport.stop()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()
