"""The hub over HTTP: an ASGI application. Every answer that is no success is a ``wire.Refusal``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from weakref import WeakValueDictionary

import anyio
import msgspec
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from statesync.hub.access.rights import Right, Rights
from statesync.hub.errors import Refused, refused
from statesync.hub.http.bodies import is_short, read_body
from statesync.hub.http.compression import pack, unpack
from statesync.hub.http.openapi import document
from statesync.hub.hub import Hub
from statesync.wire import Refusal

_log = logging.getLogger(__name__)

_READY_WITHIN = 3.0
"""Seconds that whoever asks for readiness waits for an answer."""

_Work = Callable[[str, bytes, Rights], bytes]


def application(hub: Hub) -> Starlette:
    """Return the ASGI application that serves ``hub``."""
    routes = _Routes(hub)
    return Starlette(
        routes=[
            Route("/v1/spaces/{space}/push", routes.push, methods=["POST"]),
            Route("/v1/spaces/{space}/pull", routes.pull, methods=["POST"]),
            Route("/v1/spaces/{space}/survey", routes.survey, methods=["POST"]),
            Route("/healthz", routes.health, methods=["GET"]),
            Route("/readyz", routes.ready, methods=["GET"]),
            Route("/openapi.json", routes.openapi, methods=["GET"]),
        ],
        exception_handlers={
            Refused: _answer_refused,
            HTTPException: _answer_http_error,
            Exception: _answer_defect,
        },
    )


class _Routes:
    """The routes. Slow work runs in threads, no more of them than there are connections."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._threads = anyio.CapacityLimiter(hub.connections)
        self._probes = anyio.CapacityLimiter(1)
        self._probe: asyncio.Future[None] | None = None
        self._push_locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._under_way = 0

    async def push(self, request: Request) -> Response:
        return await self._serve(request, Right.WRITE, self._hub.push)

    async def pull(self, request: Request) -> Response:
        return await self._serve(request, Right.READ, self._hub.pull)

    async def survey(self, request: Request) -> Response:
        return await self._serve(request, Right.READ, self._hub.survey)

    async def health(self, _request: Request) -> Response:
        """Answer that the process runs; it says nothing about the database."""
        return _json(b'{"status":"ok"}')

    async def ready(self, _request: Request) -> Response:
        """Answer whether requests can be served now, and soon, however long the database takes.

        Whoever asks while the database is being asked shares the answer: many who ask cost no more than one.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(run_sync(self._hub.check_ready, limiter=self._probes))
            self._probe.add_done_callback(asyncio.Future.exception)  # perhaps nobody waits for it any more
        done, _ = await asyncio.wait({self._probe}, timeout=_READY_WITHIN)
        if not done:
            raise refused(503, "database_unavailable", "the hub's database does not answer", 1)
        self._probe.result()
        return _json(b'{"status":"ready"}')

    async def openapi(self, _request: Request) -> Response:
        return _json(document())

    async def _serve(self, request: Request, right: Right, work: _Work) -> Response:
        with self._slot():
            rights = None
            if not is_short(request):  # nobody without rights gets to send much
                rights = await run_sync(self._admit, request, right, limiter=self._threads)
            body = await read_body(request, self._hub.limits)
            async with self._push_lock(request, right):
                return await run_sync(self._answer, request, body, right, rights, work, limiter=self._threads)

    def _push_lock(self, request: Request, right: Right) -> AbstractAsyncContextManager[None]:
        """Return what lets in one push of a space at a time; reads do not wait.

        Otherwise waiting pushes would each hold a thread and a connection, which other requests need.
        """
        if right is Right.READ:
            return nullcontext()
        return self._push_locks.setdefault(request.path_params["space"], anyio.Lock())

    def _admit(self, request: Request, right: Right) -> Rights:
        return self._hub.admit(request.path_params["space"], _token(request), right)

    def _answer(
        self, request: Request, body: bytes, right: Right, rights: Rights | None, work: _Work
    ) -> Response:
        rights = rights or self._admit(request, right)
        coding = request.headers.get("content-encoding", "").strip().lower()
        plain = unpack(body, coding, self._hub.limits)
        answer = work(request.path_params["space"], plain, rights)
        packed, coding = pack(answer, request.headers.get("accept-encoding", ""))
        headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": coding} if coding else {})
        return _json(packed, headers=headers)

    @contextmanager
    def _slot(self) -> Generator[None]:
        """Count the request as under way; raise the 503 if there are too many."""
        most = self._hub.limits.under_way
        if self._under_way >= most:
            raise refused(503, "busy", f"the hub has {most} requests under way, which is its limit", 1)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")


def _refusal(error: Refused, headers: dict[str, str] | None = None) -> Response:
    headers = dict(headers or {})
    if error.retry_after is not None:
        headers["Retry-After"] = f"{error.retry_after:g}"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _json(msgspec.json.encode(Refusal(error.problem)), error.status, headers)


async def _answer_refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):
        raise error
    return _refusal(error)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = f"{request.method} {request.url.path}: {error.detail}"
    answer = refused(error.status_code, codes.get(error.status_code, "refused"), message)
    return _refusal(answer, dict(error.headers or {}))


async def _answer_defect(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _refusal(refused(500, "internal_error", "the hub failed; nothing was applied"))
