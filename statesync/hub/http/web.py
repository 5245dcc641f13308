"""The hub over HTTP: an ASGI application. Every answer that is no success is a ``wire.Refusal``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from statesync.classes import define, frozen
from statesync.hub.access.rights import Right, Rights
from statesync.hub.errors import Refused, malformed, outcome_unknown, refused
from statesync.hub.http.answers import Answer, retry_headers
from statesync.hub.http.asking import check_path, token_of
from statesync.hub.http.bodies import SHORT, is_short, misframed, read_body
from statesync.hub.http.compression import best_coding, pack, unpack
from statesync.hub.http.openapi import document
from statesync.hub.http.places import Door, Line, Visit
from statesync.hub.http.waiting.changes import Changes
from statesync.hub.http.waiting.pauses import comes_in_time
from statesync.hub.http.workers import Workers
from statesync.hub.hub import Hub
from statesync.hub.limits import NoMemory
from statesync.hub.requests import GROWS, LARGE, sender_of
from statesync.hub.texts.quoting import shortened
from statesync.wire import Refusal

_log = logging.getLogger(__name__)

_READY_WITHIN = 3.0
"""Seconds that whoever asks for readiness waits for an answer."""

_SMALL = 1 << 14
"""Bytes of a pull that can be read without a thread."""

_Outcome = TypeVar("_Outcome")
_Work = Callable[[], bytes]
"""What does the work of a request that was read; it returns the answer, or raises ``Refused``."""
_Taking = Callable[..., _Work]


def application(hub: Hub) -> Starlette:
    """Return the ASGI application that serves ``hub``; it runs on asyncio."""
    threads, together = Workers(hub.connections, hub.patience), hub.database.together
    door = Door(hub.limits, hub.patience, hub.connections, together)
    # Pushes that share a commit wait for it in threads of their own: of two spaces and of those who read.
    pushers = threads if together == 1 else Workers(2 * together, hub.patience)
    verb, reader = partial(_Verb, hub, door), Workers(1, hub.patience)
    push = verb(pushers, reader, Right.WRITE, "push", door.push_lines)
    pull = verb(threads, reader, Right.READ, "pull", door.pull_lines)
    survey = verb(threads, reader, Right.READ, "survey", door.survey_lines)
    open_routes = _OpenRoutes(hub)
    app = Starlette(
        routes=[
            Route("/v1/spaces/{space}/push", push, methods=["POST"]),
            Route("/v1/spaces/{space}/pull", pull, methods=["POST"]),
            Route("/v1/spaces/{space}/survey", survey, methods=["POST"]),
            Route("/v1/spaces/{space}/changes", Changes(hub, threads), methods=["GET"]),
            Route("/healthz", open_routes.health, methods=["GET"]),
            Route("/readyz", open_routes.ready, methods=["GET"]),
            Route("/openapi.json", open_routes.openapi, methods=["GET"]),
        ],
        middleware=[Middleware(_WellFramed)],
        exception_handlers={
            Refused: _answer_refused,
            HTTPException: _answer_http_error,
            Exception: _answer_defect,
        },
    )
    app.state.pace = door.pace
    app.router.redirect_slashes = False  # a redirect would lead to whatever host the request names
    return app


@frozen(eq=False)
class _WellFramed:
    """Refuses what another server may read as two requests, whatever it asks for."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = misframed(scope["headers"]) if scope["type"] == "http" else None
        answer = self.app if error is None else _refusal(error, {"Connection": "close"})
        await answer(scope, receive, send)


@define(eq=False)
class _Asked:
    """A request whose body is here, and how far it has come: what it lacks yet comes with its turn."""

    request: Request
    body: bytes
    visit: Visit
    plain: bytes | None = None
    """The unpacked body."""
    work: _Work | None = None

    @property
    def coding(self) -> str:
        """How the body is packed, the empty text if it is not."""
        return self.request.headers.get("content-encoding", "").strip().lower()

    @property
    def is_large(self) -> bool:
        """Whether one such body is read at a time; that is known once it is unpacked."""
        return self.plain is not None and len(self.plain) > LARGE


@frozen(eq=False)
class _Verb:
    """One of the three requests of devices. Slow work runs in threads.

    To read a large body is slow, too, and others wait for whoever computes: one at a time is read, by the one
    thread of ``reader``.
    """

    hub: Hub
    door: Door
    threads: Workers
    reader: Workers
    right: Right
    name: str
    lines: Callable[[str], tuple[Line, ...]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_path(scope)
        request = Request(scope, receive)
        space = request.path_params["space"]
        with self.door.visit(space, self.lines(space)) as visit:
            answer = await self._answered(request, visit)
            await answer(scope, receive, send)

    async def _answered(self, request: Request, visit: Visit) -> Response:
        if not is_short(request):  # nobody without rights gets to send much
            await self._in_thread(visit, partial(self._introduce, request, visit))
        body = await read_body(request, visit, self.door)
        if visit.is_known:
            await self._in_thread(visit, partial(self._look_again, request, visit))
        at_once = await self._at_once(request, body, visit)
        if at_once is not None:
            return at_once
        asked = _Asked(request, body, visit)
        answer = await self._in_thread(visit, partial(self._work_or_wait, asked))
        answer = answer or await self._later(asked)
        visit.end_turn()
        return answer

    async def _in_thread(
        self, visit: Visit, work: Callable[[], _Outcome], threads: Workers | None = None
    ) -> _Outcome:
        visit.begin_work()
        return await (threads or self.threads).run(work, visit.end_work)

    async def _later(self, asked: _Asked) -> Response:
        """Answer a request when its turn comes, and there is memory for it."""
        visit = asked.visit
        while True:
            if not await comes_in_time(visit.wait_for_turn(), asked.request.receive):
                raise malformed("the connection was closed before its turn came")
            if asked.plain is None:
                await self._in_thread(visit, partial(self._unpack, asked))
            elif asked.is_large and asked.work is None:
                await self._in_thread(visit, partial(self._take, asked), self.reader)
            else:
                answer = await self._in_thread(visit, partial(self._worked, asked))
                if answer is not None:
                    return answer

    def _introduce(self, request: Request, visit: Visit, client: str | None = None) -> None:
        if not visit.is_known:
            visit.introduce(self.hub.admit(visit.space, token_of(request), self.right, client))

    def _look_again(self, request: Request, visit: Visit) -> None:
        """Look at a token once more, for it may have ended while a long body came."""
        visit.introduce(self.hub.admit_again(visit.space, token_of(request), self.right))

    async def _at_once(self, request: Request, body: bytes, visit: Visit) -> Response | None:
        """Answer a small pull that finds nothing new, without a thread."""
        is_small = len(body) <= _SMALL and "content-encoding" not in request.headers
        if self.name != "pull" or visit.is_known or not is_small:
            return None

        def let_in(rights: Rights) -> None:
            visit.introduce(rights)
            visit.let_in()

        page = await self.hub.pull_at_once(visit.space, body, token_of(request), let_in)
        return None if page is None else _packed(page, "", visit)

    def _work_or_wait(self, asked: _Asked) -> Response | None:
        """Answer a request; return None if its turn, or its memory, has yet to come."""
        visit, body = asked.visit, asked.body
        is_seen = self.right is Right.READ and not asked.coding and len(body) <= SHORT
        self._introduce(asked.request, visit, sender_of(body) if is_seen else None)
        visit.let_in()
        if self._unpack(asked) and not asked.is_large and visit.step_up():
            return self._worked(asked)
        return None

    def _unpack(self, asked: _Asked) -> bool:
        """Unpack the body of a request, which stands in line by that; return False if it is to wait.

        Who waits for memory keeps no more than came.
        """
        plain = unpack(asked.body, asked.coding, self.hub.limits)
        if not asked.visit.has_room(_counted(plain)):
            return False
        asked.plain = plain
        if asked.is_large:
            asked.visit.stand_in(self.door.large_lines(asked.visit.space))
        return True

    def _take(self, asked: _Asked) -> bool:
        """Read an unpacked body, if that was not done; return False if it is to wait for the memory."""
        plain, visit = asked.plain or b"", asked.visit
        if asked.work is not None:
            return True
        if len(plain) > SHORT and not visit.has_room(GROWS * len(plain)):
            return False
        take: _Taking = getattr(self.hub, f"take_{self.name}")
        ask = visit.make if self.name == "pull" else visit.look_at
        asked.work = take(visit.space, plain, visit.rights, ask)
        return True

    def _worked(self, asked: _Asked) -> Response | None:
        """Do what is asked for; return None if there is no memory for it yet, and nothing was done.

        A push that fails later than it is refused may have been applied.
        """
        visit, coding = asked.visit, best_coding(asked.request.headers.get("accept-encoding", ""))
        if not self._take(asked) or asked.work is None:
            return None
        is_done = False
        try:
            answer = asked.work()
            is_done = True
            return _packed(answer, coding, visit)
        except NoMemory:
            return None
        except Exception as error:
            is_refused = isinstance(error, Refused)
            if self.right is Right.READ or (is_refused and not is_done):
                raise
            if not is_refused:
                _log.exception("a push to %r failed, and may have been applied", visit.space)
            raise outcome_unknown("the hub failed on this push, and may have applied it") from error


class _OpenRoutes:
    """The routes that ask for no token, and say nothing about any space."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._probes = Workers(1, hub.patience)
        self._probe: asyncio.Future[None] | None = None

    async def health(self, _request: Request) -> Response:
        """Answer that the process runs; it says nothing about the database."""
        return _json(b'{"status":"ok"}')

    async def ready(self, _request: Request) -> Response:
        """Answer whether requests can be served now, and soon, however long the database takes.

        Whoever asks while the database is being asked shares the answer: many who ask cost no more than one.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(self._probes.run(self._hub.check_ready))
            self._probe.add_done_callback(asyncio.Future.exception)  # perhaps nobody waits for it any more
        done, _ = await asyncio.wait({self._probe}, timeout=_READY_WITHIN)
        if not done:
            raise refused(503, "database_unavailable", "the hub's database does not answer", 1)
        self._probe.result()
        return _json(b'{"status":"ready"}')

    async def openapi(self, _request: Request) -> Response:
        return _json(document())


def _packed(answer: bytes, coding: str, visit: Visit) -> Response:
    packed, coding = pack(answer, coding)
    visit.finish(_counted(packed))
    headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": coding} if coding else {})
    return _json(packed, headers=headers)


def _counted(content: bytes) -> int:
    return len(content) if len(content) > SHORT else 0


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Answer(body, status, headers)


def _refusal(error: Refused, headers: dict[str, str] | None = None) -> Response:
    headers = {**(headers or {}), **retry_headers(error)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _json(msgspec.json.encode(Refusal(error.problem)), error.status, headers)


async def _answer_refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):
        raise error
    return _refusal(error, {"Connection": "close"} if error.status == 408 else None)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: "not_found", 405: "method_not_allowed"}
    asked = shortened(f"{request.method} {request.scope['path']}")
    code = codes.get(error.status_code, "refused")
    answer = refused(error.status_code, code, f"{asked}: {error.detail}")
    return _refusal(answer, dict(error.headers or {}))


async def _answer_defect(request: Request, error: Exception) -> Response:
    _log.error("%s %r failed", request.method, request.scope["path"], exc_info=error)
    return _refusal(refused(500, "internal_error", "the hub failed on this request"))
