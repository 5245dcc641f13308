"""The client's side of a hub: the ``Remote`` protocol, and ``HttpRemote`` that speaks it over HTTP.

A remote does one request at a time, never retries by itself (the conversation decides that), and turns
everything that can go wrong into a ``RemoteError``: here is the one place where foreign errors become
ours, and where it is decided whether a request that failed may have been applied.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Protocol, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from statesync.errors import (
    BadAnswer,
    BadOptions,
    ConnectionLost,
    RemoteError,
    Unauthorized,
    Unreachable,
    WrongHub,
)
from statesync.wire import (
    OUTCOME_UNKNOWN,
    WRONG_HUB,
    Page,
    Problem,
    Pull,
    Push,
    PushAnswer,
    Refusal,
    Survey,
    SurveyAnswer,
)

_Answer = TypeVar("_Answer", PushAnswer, Page, SurveyAnswer)

_RETRYABLE = frozenset({408, 429})
_CHUNK = 1 << 18
_WORTH_PACKING = 1 << 10


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


def refusal(status: int, problem: Problem, retry_after: float | None = None) -> RemoteError:
    """Return the error for a hub's own refusal.

    What a hub refuses it has not applied, unless it says itself that it does not know.
    """
    kind, advice = RemoteError, ""
    if status in (401, 403):
        kind = Unauthorized
    elif problem.code == WRONG_HUB:
        kind, advice = WrongHub, ", or reset() the store to begin anew with this hub"
    return kind(
        f"the hub refused the request ({status} {problem.code}): {problem.message}{advice}",
        status=status,
        problem=problem,
        retryable=status in _RETRYABLE or status >= 500,
        maybe_applied=status == 500 or problem.code == OUTCOME_UNKNOWN,
        retry_after=retry_after,
    )


class HttpRemote:
    """A hub at ``url``, over HTTP or HTTPS with one connection that is kept alive.

    ``space`` names the set of records, ``token`` is sent as a bearer token. ``connect_timeout``,
    ``read_timeout`` and ``request_timeout`` are seconds: to connect, of silence while an answer is awaited,
    and for the whole request, however slowly its answer drips. An answer of more
    than ``max_answer`` bytes (after decompression) is refused as ``BadAnswer``. ``compress`` packs bodies
    both ways with gzip: worth it where the network is slower than the processor. ``ca_certs`` is a file
    of certificates to trust in place of the system's.

    Raises ``BadOptions`` for an address that is not http:// or https://.
    """

    def __init__(
        self,
        url: str,
        space: str,
        token: str | None = None,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        request_timeout: float = 600.0,
        max_answer: int = 64 << 20,
        compress: bool = False,
        ca_certs: str | None = None,
    ) -> None:
        self._space = space
        self._url = url
        self._request_timeout = request_timeout
        self._max_answer = max_answer
        self._compress = compress
        self._wire = _Wire()
        timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        self._open = partial(_open_pool, url, self._wire, timeout, ca_certs)
        self._pool = self._open()
        self._path = f"{urlsplit(url).path.rstrip('/')}/v1/spaces/{quote(space, safe='')}"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if compress:
            self._headers["Accept-Encoding"] = "gzip"
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    @property
    def space(self) -> str:
        """The space on the hub that this remote speaks to."""
        return self._space

    def push(self, request: Push) -> PushAnswer:
        """Offer one upload batch; see ``Remote.push``."""
        return self._ask("push", request, PushAnswer)

    def pull(self, request: Pull) -> Page:
        """Fetch one page; see ``Remote.pull``."""
        return self._ask("pull", request, Page)

    def survey(self, request: Survey) -> SurveyAnswer:
        """Ask what the hub has of one object; raises ``RemoteError``."""
        return self._ask("survey", request, SurveyAnswer)

    def interrupt(self) -> None:
        """Shut the connection under a waiting request; see ``Remote.interrupt``."""
        self._wire.cut()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._pool.close()
        self._pool = self._open()
        self._wire.forget()

    def _ask(self, verb: str, request: Push | Pull | Survey, kind: type[_Answer]) -> _Answer:
        sent, headers = self._packed(msgspec.json.encode(request))
        status, retry_after, body = self._exchange(f"{self._path}/{verb}", sent, headers)
        if status != 200:
            raise self._refused(status, retry_after, body)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadAnswer(
                f"{self._url} answered something that is no {verb} answer ({error}); is it a statesync hub?",
                status=status,
                maybe_applied=True,
            ) from error

    def _packed(self, body: bytes) -> tuple[bytes, dict[str, str]]:
        if not self._compress or len(body) < _WORTH_PACKING:
            return body, self._headers
        return gzip.compress(body, compresslevel=1, mtime=0), self._headers | {"Content-Encoding": "gzip"}

    def _exchange(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, float | None, bytes]:
        until = time.monotonic() + self._request_timeout
        try:
            with (
                self._wire.cut_after(self._request_timeout),
                contextlib.closing(self._post(path, body, headers)) as answer,
            ):
                content = self._read(answer)
                answer.release_conn()
                return answer.status, _seconds(answer.headers.get("Retry-After")), content
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise Unreachable(
                f"{self._url} cannot be reached ({_plainly(error)}); nothing was sent", retryable=True
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            why = _plainly(error)
            if time.monotonic() >= until:
                why = f"it was not there after {self._request_timeout} seconds, the request's time-out"
            raise ConnectionLost(
                f"the connection to {self._url} broke before the answer was there ({why})",
                retryable=True,
                maybe_applied=True,
            ) from error

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        return self._pool.urlopen(
            "POST", path, body=body, headers=headers, retries=False, redirect=False, preload_content=False
        )

    def _read(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := answer.read(_CHUNK):
            parts.append(part)
            size += len(part)
            if size > self._max_answer:
                raise BadAnswer(
                    f"{self._url} answered more than {self._max_answer} bytes; "
                    "ask for smaller batches, or raise max_answer",
                    status=answer.status,
                    maybe_applied=True,
                )
        return b"".join(parts)

    def _refused(self, status: int, retry_after: float | None, body: bytes) -> RemoteError:
        try:
            return refusal(status, msgspec.json.decode(body, type=Refusal).error, retry_after)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            # Not a hub's own words: perhaps a proxy's, which cannot know what the hub has done.
            return BadAnswer(
                f"{self._url} answered {status} and no hub's error document; is it a statesync hub?",
                status=status,
                retryable=status in _RETRYABLE or status >= 500,
                maybe_applied=status >= 500 or status == 408,
                retry_after=retry_after,
            )


class _Wire:
    """The sockets of one remote, so that another thread can cut them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()

    def connect(
        self, host: str, port: int, timeout: float | None, options: list[tuple[int, int, int]]
    ) -> socket.socket:
        """Connect to the first address of ``host`` that answers; raise ``OSError`` if none does."""
        failure = OSError(f"{host} has no address")
        for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            link = socket.socket(family, kind, proto)
            for option in options:
                link.setsockopt(*option)
            link.settimeout(timeout)
            self._remember(link)
            try:
                link.connect(address)
            except OSError as error:
                failure = error
                link.close()
            else:
                return link
        raise failure

    def cut(self) -> None:
        with self._lock:
            for link in self._sockets:
                with contextlib.suppress(OSError):  # it was closed by itself: nothing is left to cut
                    link.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """Cut what the block has under way if it takes longer: a peer that drips meets no other time-out."""
        alarm = threading.Timer(seconds, self.cut)
        alarm.daemon = True
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()

    def forget(self) -> None:
        with self._lock:
            self._sockets.clear()

    def _remember(self, link: socket.socket) -> None:
        with self._lock:
            self._sockets = {old for old in self._sockets if old.fileno() >= 0} | {link}


def _open_pool(url: str, wire: _Wire, timeout: urllib3.Timeout, ca_certs: str | None) -> HTTPConnectionPool:
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise BadOptions(f"{url!r} is no address of a hub; it looks like http://host:8710")

    def connect(connection: HTTPConnection) -> socket.socket:
        seconds = urllib3.Timeout.resolve_default_timeout(connection.timeout)
        options = [(int(level), int(name), int(value)) for level, name, value in _options(connection)]
        try:
            return wire.connect(connection.host, connection.port, seconds, options)
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(connection, str(error)) from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(connection, str(error)) from error

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    if address.scheme == "https":
        return SecurePool(address.hostname, address.port, timeout=timeout, ca_certs=ca_certs)
    return PlainPool(address.hostname, address.port, timeout=timeout)


def _options(connection: HTTPConnection) -> list[tuple[int, int, int | bytes]]:
    return list(connection.socket_options or ())


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header in seconds; a date in it is not worth a wall clock."""
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


def _plainly(error: BaseException) -> str:
    """Return what a foreign error says without the objects that it names."""
    text = str(error.args[-1]) if error.args else type(error).__name__
    return text.rsplit(": ", 1)[-1] or type(error).__name__
