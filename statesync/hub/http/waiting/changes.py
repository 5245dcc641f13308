"""The question whether a space has news, which waits for its answer: ``GET /v1/spaces/{space}/changes``.

Who waits has a connection of its own, and nothing else: no thread, none of the database's connections, none
of the places of requests under way. So there is a limit for those who wait, of which a space has half and a
token a quarter.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from statesync.hub.access.rights import Right, Rights
from statesync.hub.errors import malformed
from statesync.hub.http.answers import Answer
from statesync.hub.http.asking import check_path, token_of
from statesync.hub.http.waiting.again import ASKED, KNOWN, Known
from statesync.hub.http.waiting.pauses import END, Pause
from statesync.hub.http.waiting.room import NO_STORE, Room, body_of, unavailable
from statesync.hub.http.workers import Workers
from statesync.hub.hub import Hub
from statesync.hub.signals.waiters import Head, Waiter
from statesync.wire import MAX_VERSION

LONGEST = 60.0
"""Seconds that anybody waits at most."""

USUAL = 25.0
"""Seconds that those wait who do not say."""

_NUMBER = re.compile(r"[0-9]{1,19}")
_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")


class Changes:
    """The route. ``threads`` are for what an event loop cannot ask by itself."""

    def __init__(self, hub: Hub, threads: Workers) -> None:
        self._hub, self._threads = hub, threads
        self._room = Room(hub)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question; nobody is answered who has hung up."""
        check_path(scope)
        request = Request(scope)
        _check_empty(request)
        since, seconds = _since(request), _seconds(request)
        space = request.path_params["space"]
        token = token_of(request)
        rights = await self._admitted(space, token)
        pause = Pause()
        scope[END] = pause.end_with_server
        scope[KNOWN] = Known.of(self._room, scope.get(ASKED), space, token, seconds)
        with self._place(space, rights.holder), self._waiting(space, since, pause) as waiter:
            head = await self._awaited(waiter, pause, receive, seconds)
        if head is not None:
            await Answer(body_of(head), headers=dict(NO_STORE))(scope, receive, send)

    async def _admitted(self, space: str, token: str | None) -> Rights:
        rights = await self._hub.admit_at_once(space, token, Right.READ)
        if rights is None:
            admit = self._hub.admit
            rights = await self._threads.run(partial(admit, space, token, Right.READ))
        return rights

    @contextmanager
    def _place(self, space: str, holder: str) -> Iterator[None]:
        self._room.enter(space, holder)
        try:
            yield
        finally:
            self._room.leave(space, holder)

    @contextmanager
    def _waiting(self, space: str, since: int, pause: Pause) -> Iterator[Waiter]:
        waiter = Waiter(space, since, self._room.bell.ring, pause.end)
        self._hub.watch.add(waiter)
        try:
            yield waiter
        finally:
            self._hub.watch.remove(waiter)

    async def _awaited(self, waiter: Waiter, pause: Pause, receive: Receive, seconds: float) -> Head | None:
        """Return the head that is the answer; None if the client has hung up.

        Who has waited long enough takes what was read; where nothing could be read yet, it waits for that.
        """
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(seconds, self._hurry, waiter, pause)]
        timers += [loop.call_later(seconds + self._hub.patience, pause.end)]
        try:
            if not await pause.over(receive):
                return None
        finally:
            for timer in timers:
                timer.cancel()
        if pause.is_server_ending:
            raise self._room.ending()
        if waiter.head is None:
            raise unavailable()
        return waiter.head

    def _hurry(self, waiter: Waiter, pause: Pause) -> None:
        if self._hub.watch.hurry(waiter) is not None:
            pause.end()


def _check_empty(request: Request) -> None:
    """Raise the 400 for a question with a body: what comes of it would be read while it waits."""
    length = request.headers.get("content-length", "0")
    if length != "0" or "transfer-encoding" in request.headers:
        raise malformed("this question has no body")


def _since(request: Request) -> int:
    text = request.query_params.get("since", "0")
    if not _NUMBER.fullmatch(text) or int(text) > MAX_VERSION:
        raise malformed("since has to be the version of a head")
    return int(text)


def _seconds(request: Request) -> float:
    text = request.query_params.get("wait", str(USUAL))
    if not _SECONDS.fullmatch(text) or float(text) > LONGEST:
        raise malformed(f"wait has to be a number of seconds, up to {LONGEST:g}")
    return float(text)
