"""One kept-alive HTTP connection to a hub, which another thread can cut.

Here is the one place where the errors of sockets and of urllib3 become ours.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import partial
from urllib.parse import urlsplit

import urllib3
from attrs import frozen
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from statesync.alarm import alarm
from statesync.errors import BadAnswer, BadOptions, ConnectionLost, Unreachable

_CHUNK = 1 << 18


@frozen
class Timeouts:
    """Seconds: to connect, of silence while an answer is awaited, and for a whole request."""

    connect: float
    read: float
    request: float


class Transport:
    """The connection to the hub at ``url``; an answer of more than ``max_answer`` bytes is refused.

    ``ca_certs`` is a file of certificates to trust in place of the system's. Raises ``BadOptions`` for an
    address that is not http:// or https://.
    """

    def __init__(self, url: str, timeouts: Timeouts, max_answer: int, ca_certs: str | None) -> None:
        self._url = url
        self._request_timeout = timeouts.request
        self._max_answer = max_answer
        self._wire = _Wire()
        timeout = urllib3.Timeout(connect=timeouts.connect, read=timeouts.read)
        self._open = partial(_open_pool, url, self._wire, timeout, ca_certs)
        self._pool = self._open()

    def exchange(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, float | None, bytes]:
        """Post one request; return the answer's status, the seconds of its Retry-After, and its body.

        Raises ``Unreachable`` where nothing was sent, ``ConnectionLost`` where nobody knows, ``BadAnswer``.
        """
        until = time.monotonic() + self._request_timeout
        try:
            with (
                alarm.after(self._request_timeout, self._wire.cut),
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

    def cut(self) -> None:
        """Shut the connection under a request that waits: it raises ``ConnectionLost`` soon."""
        self._wire.cut()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._pool.close()
        self._pool = self._open()
        self._wire.forget()


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
