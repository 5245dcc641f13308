"""One kept-alive HTTP connection to a hub, which another thread can cut.

Here is the one place where the errors of sockets, TLS and ``http.client`` become ours.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from gzip import GzipFile
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Lock
from urllib.parse import SplitResult, urlsplit

from attrs import frozen

from statesync.errors import BadAnswer, BadOptions, ConnectionLost, Unreachable
from statesync.net.alarm import alarm

_CHUNK = 1 << 18
_BROKEN = (HTTPException, OSError, EOFError, zlib.error)
"""What an answer that breaks off, or is none, raises."""


@frozen
class Timeouts:
    """Seconds: to connect, of silence while an answer is awaited, and for a whole request."""

    connect: float
    read: float
    request: float


class Transport:
    """The connection to the hub at ``url``; an answer of more than ``max_answer`` bytes is refused.

    ``ca_certs`` is a file of certificates to trust in place of the system's. Raises ``BadOptions`` for an
    address that is not http:// or https://, and for a file that holds no certificates.
    """

    def __init__(self, url: str, timeouts: Timeouts, max_answer: int, ca_certs: str | None) -> None:
        self._url = url
        self._timeouts = timeouts
        self._max_answer = max_answer
        self._address = _address(url)
        self._trust = _trust(ca_certs) if self._address.scheme == "https" else None
        self._kept: _Connection | None = None
        self._in_use: _Connection | None = None

    def exchange(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, float | None, bytes]:
        """Post one request; return the answer's status, the seconds of its Retry-After, and its body.

        Raises ``Unreachable`` where nothing was sent, ``ConnectionLost`` where nobody knows, ``BadAnswer``.
        """
        connection = self._in_use = self._take()
        try:
            with self._losses_told(), alarm.after(self._timeouts.request, connection.cut):
                self._connect(connection)
                answer = connection.post(path, body, headers)
                content = self._read(answer)
        except BaseException:  # what is left on it would be taken for the next answer
            connection.close()
            raise
        finally:
            self._in_use = None
        self._kept = connection
        return answer.status, _seconds(answer.headers.get("Retry-After")), content

    @contextlib.contextmanager
    def _losses_told(self) -> Iterator[None]:
        """Turn what a request that was begun may raise into ``ConnectionLost``."""
        until = time.monotonic() + self._timeouts.request
        try:
            yield
        except _BROKEN as error:
            why = _plainly(error)
            if time.monotonic() >= until:
                why = f"it was not there after {self._timeouts.request} seconds, the request's time-out"
            raise ConnectionLost(
                f"the connection to {self._url} broke before the answer was there ({why})",
                retryable=True,
                maybe_applied=True,
            ) from error

    def _take(self) -> _Connection:
        """Return the connection that was kept, or a new one; nobody else has it then."""
        kept, self._kept = self._kept, None
        if kept is not None and kept.is_alive():
            return kept
        return _Connection(self._address, self._timeouts, self._trust)

    def _connect(self, connection: _Connection) -> None:
        try:
            connection.open()
        except OSError as error:
            is_mistrusted = isinstance(error, ssl.SSLCertVerificationError)
            advice = "; ca_certs, or SSL_CERT_FILE, names the certificates to trust" if is_mistrusted else ""
            raise Unreachable(
                f"{self._url} cannot be reached ({_plainly(error)}); nothing was sent{advice}",
                retryable=not is_mistrusted,
            ) from error

    def _read(self, answer: HTTPResponse) -> bytes:
        is_packed = answer.headers.get("Content-Encoding") == "gzip"
        source = GzipFile(fileobj=answer) if is_packed else answer
        parts: list[bytes] = []
        size = 0
        while part := source.read(_CHUNK):
            parts.append(part)
            size += len(part)
            if size > self._max_answer:
                raise BadAnswer(
                    f"{self._url} answered more than {self._max_answer} bytes; "
                    "ask for smaller batches, or raise max_answer",
                    status=answer.status,
                    maybe_applied=True,
                )
        if answer.length:
            raise EOFError(f"{answer.length} bytes of it are missing")
        return b"".join(parts)

    def cut(self) -> None:
        """Shut the connection under a request that waits: it raises ``ConnectionLost`` soon."""
        connection = self._in_use
        if connection is not None:
            connection.cut()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


class _Connection:
    """One connection, used by one thread at a time; any other can cut it."""

    def __init__(self, address: SplitResult, timeouts: Timeouts, trust: ssl.SSLContext | None) -> None:
        self._host, self._port = address.hostname or "", _port(address)
        self._timeouts = timeouts
        self._trust = trust
        self._http = (
            HTTPConnection(self._host, self._port)
            if trust is None
            else HTTPSConnection(self._host, self._port, context=trust)
        )
        self._lock = Lock()
        self._link: socket.socket | None = None
        self._answer: HTTPResponse | None = None
        self._is_cut = False

    def open(self) -> None:
        """Connect, unless that is done; raises ``OSError``."""
        if self._http.sock is None:
            link = self._reach()
            if self._trust is not None:
                link = self._secure(link, self._trust)
            link.settimeout(self._timeouts.read)
            self._http.sock = link

    def _reach(self) -> socket.socket:
        """Connect to the first of the host's addresses that answers."""
        failure = OSError(f"{self._host} has no address")
        for family, kind, proto, _, address in socket.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM
        ):
            link = socket.socket(family, kind, proto)
            try:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link.settimeout(self._timeouts.connect)
                self._hold(link)
                link.connect(address)
            except OSError as error:
                failure = error
                link.close()
            else:
                return link
        raise failure

    def _secure(self, plain: socket.socket, trust: ssl.SSLContext) -> socket.socket:
        with self._lock:  # TLS takes the plain socket's file over: a cut must not fall between
            link = trust.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)
            self._link = link
        link.do_handshake()
        return link

    def _hold(self, link: socket.socket) -> None:
        """Remember what a cut has to shut; raises ``OSError`` if it came before there was anything."""
        with self._lock:
            self._link = link
            if self._is_cut:
                raise OSError("it was cut before it stood")

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> HTTPResponse:
        """Send a request and return its answer, of which the body is still to be read."""
        self._http.request("POST", path, body, headers)
        self._answer = self._http.getresponse()
        return self._answer

    def is_alive(self) -> bool:
        """Tell whether the other side has kept the idle connection open, and has said nothing on it."""
        link = self._link
        if self._http.sock is None or link is None:
            return False
        link.settimeout(0.0)
        try:
            socket.socket.recv(link, 1, socket.MSG_PEEK)  # below TLS, which cannot peek
        except BlockingIOError:
            link.settimeout(self._timeouts.read)
            return True
        except OSError:
            pass
        self.close()
        return False

    def cut(self) -> None:
        """Shut the connection, from any thread: what waits for it raises ``OSError`` or finds its end."""
        with self._lock:
            self._is_cut = True
            if self._link is not None:
                with contextlib.suppress(OSError):  # it was closed by itself: nothing is left to cut
                    # The plain way, also under TLS: TLS's own takes its state from under whoever reads.
                    socket.socket.shutdown(self._link, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection for good. By the thread that uses it, if any does."""
        self._http.close()
        for part in (self._answer, self._link):  # an answer that was not read to its end keeps it open
            if part is not None:
                part.close()

    def __del__(self) -> None:
        """Close what was kept for a next request that nobody can make any more."""
        self.close()


def _address(url: str) -> SplitResult:
    with contextlib.suppress(ValueError, HTTPException):  # a port that is no number, a host with a space
        address = urlsplit(url)
        if address.scheme in ("http", "https") and address.hostname:
            HTTPConnection(address.hostname, _port(address))
            return address
    raise BadOptions(f"{url!r} is no address of a hub; it looks like http://host:8710")


def _port(address: SplitResult) -> int:
    return address.port or (443 if address.scheme == "https" else 80)


def _trust(ca_certs: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_certs)
    except OSError as error:
        raise BadOptions(f"{ca_certs!r} holds no certificates to trust: {_plainly(error)}") from error


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header in seconds; a date in it is not worth a wall clock."""
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


def _plainly(error: BaseException) -> str:
    """Return what a foreign error says, in its own words alone."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said or type(error).__name__
