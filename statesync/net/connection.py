"""One connection to a hub, over urllib3; the thread that uses it can be cut off by any other.

urllib3 ends a read by shutting the socket that it knows. That is not there before the answer's head is, and
under TLS its shutdown takes the keys away: whoever reads on takes the rest of the cipher for the answer. So
a cut goes by a *handle*, a second descriptor of the same socket. It is there from the first moment, TLS does
not know of it, and shutting it ends whatever waits: a proxy's word, the handshake, the head, the body.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from contextlib import suppress
from http import client
from threading import Lock
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import parse_url

from statesync.classes import frozen
from statesync.net.addresses import Address
from statesync.net.alarm import alarm
from statesync.net.options import Timeouts
from statesync.net.proxies import Proxy
from statesync.net.reach import Patience, reach

FAILURES = (OSError, EOFError, client.HTTPException, HTTPError)
"""What a connection raises that does not come about, breaks, or carries no HTTP."""


@frozen
class Route:
    """The way to a hub. ``tls`` and ``proxy_tls`` are what a TLS connection to each of them begins with."""

    hub: Address
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None
    proxy_tls: ssl.SSLContext | None = None

    @property
    def first(self) -> Address:
        """The server that is connected to."""
        return self.proxy.address if self.proxy else self.hub

    @property
    def is_forwarded(self) -> bool:
        """Tell whether a proxy is given the requests themselves; else it is a mere pipe, or there is none."""
        return self.proxy is not None and not self.hub.is_secure


_PACKET = 1 << 14
"""Bytes of a request that are sent in one go, head and body; also the longest record of TLS."""

_BEFORE_THE_ANSWER = range(102, 200)
"""Statuses of interim answers; 100 is read past by ``http.client``, and 101 would be another protocol."""


class _Lines(io.BufferedReader):
    """What comes from a socket, with the last line that was read of it."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last

    @property
    def is_whole(self) -> bool:
        """Tell whether the last line was the empty one that ends a head."""
        return self.last in (b"\r\n", b"\n")


class _Answer(client.HTTPResponse):
    """An answer whose head is whole: ``http.client`` takes one that breaks off for the end of it."""

    def begin(self) -> None:
        """Read the head; raises ``EOFError`` if the connection ended within it.

        What is said before the answer is read past (RFC 9110, 15.2); ``http.client`` does so for 100 alone.
        """
        self.fp = lines = _Lines(self.fp.detach())
        super().begin()
        while self.status in _BEFORE_THE_ANSWER and lines.is_whole:
            vars(self).update(headers=None)  # as before the first head, so that another one is read
            super().begin()
        if not lines.is_whole:
            raise EOFError("it ended within its headers")


class _InOnePacket(HTTPConnection):
    """Sends a small body with its head; ``http.client`` sends each by itself, which wakes the hub twice."""

    _held: bytes | None = None

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request; what of it is small is held until all is said."""
        self._held = b""
        try:
            super().request(*args, **options)
            self._let_go()
        finally:
            self._held = None

    def send(self, data: Any) -> None:
        """Send a part of a request, or hold it; also what is said to a proxy, before any request."""
        if self._held is not None and len(self._held) + len(data) <= _PACKET:
            self._held += data
        else:
            self._let_go()
            super().send(data)

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held:
            super().send(held)


class _Plain(_InOnePacket):
    """urllib3's connection over a socket that was made for it."""

    response_class = _Answer
    link: socket.socket

    def _new_conn(self) -> socket.socket:
        return self.link


class _Secure(_InOnePacket, HTTPSConnection):
    """The same with TLS, to the hub or to a proxy."""

    response_class = _Answer
    link: socket.socket

    def _new_conn(self) -> socket.socket:
        return self.link


class Connection:
    """A connection that is opened once, used by one thread at a time, and cut by any."""

    def __init__(self, route: Route, timeouts: Timeouts) -> None:
        self.route = route
        self._timeouts = timeouts
        self._lock = Lock()
        self._link: socket.socket | None = None
        self._handle: socket.socket | None = None
        self._answer: BaseHTTPResponse | None = None
        self._is_cut = False
        self._http = _over(route)

    @property
    def is_cut(self) -> bool:
        """Tell whether somebody has cut it."""
        return self._is_cut

    @property
    def has_met_proxy(self) -> bool:
        """Tell whether the proxy on the way has been connected to, if there is one."""
        return self._http.has_connected_to_proxy

    @property
    def is_open(self) -> bool:
        """Tell whether it stands, as far as this side knows."""
        return not self._http.is_closed

    def open(self) -> None:
        """Connect, with everything that comes before a request; raises one of ``FAILURES``."""
        seconds = self._timeouts.connect
        until = time.monotonic() + seconds
        try:
            first, patience = self.route.first, Patience(seconds, lambda: self._is_cut)
            self._hold(reach(first.host, first.port, patience))
            with alarm.after(until - time.monotonic(), self.cut):
                self._connect()
            self._http.timeout = self._timeouts.read
            self._check_uncut()
        except FAILURES as error:
            if time.monotonic() >= until:
                raise TimeoutError(f"timed out after {seconds:g} seconds") from error
            raise

    def _hold(self, link: socket.socket) -> None:
        """Take a socket that was connected, and a handle to cut it by."""
        self._link = self._http.link = link
        link.settimeout(self._timeouts.connect)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._handle = link.dup()
        self._check_uncut()

    def _check_uncut(self) -> None:
        if self._is_cut:
            raise OSError("it was cut before it stood")

    def _connect(self) -> None:
        hub, proxy = self.route.hub, self.route.proxy
        if proxy is not None and not self.route.is_forwarded:
            self._http.set_tunnel(hub.host, hub.port, proxy.headers, proxy.address.scheme)
        self._http.connect()

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> BaseHTTPResponse:
        """Send a request and return its answer, of which the body is still to be read."""
        if self.route.is_forwarded and self.route.proxy:
            path, headers = f"{self.route.hub}{path}", headers | self.route.proxy.headers
        # Who has read enough answers and hangs up, such as for a body that is too large; that is to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._http.request(method, path, body, headers, preload_content=False, decode_content=False)
        self._answer = self._http.getresponse()
        return self._answer

    def is_alive(self) -> bool:
        """Tell whether the other side has kept the idle connection open, and has said nothing on it."""
        return not self._is_cut and self._http.is_connected

    def cut(self) -> None:
        """Shut the connection, from any thread: what waits for it raises ``OSError`` or finds its end."""
        with self._lock:
            self._is_cut = True
            if self._handle is not None:
                with suppress(OSError):  # it was closed by itself: nothing is left to cut
                    self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection for good. By the thread that uses it, if any does."""
        self._http.close()
        with self._lock:  # a cut must not meet another socket under the handle's number
            for part in (self._answer, self._link, self._handle):  # an unread answer keeps it open, too
                if part is not None:
                    part.close()

    def __del__(self) -> None:
        """Close what was kept for a next request that nobody can make any more."""
        self.close()


def _over(route: Route) -> _Plain | _Secure:
    """Return urllib3's connection for a route."""
    first, proxy = route.first, parse_url(str(route.proxy.address)) if route.proxy else None
    if not first.is_secure and not route.hub.is_secure:
        return _Plain(first.host, first.port, proxy=proxy)
    tls = route.tls or route.proxy_tls  # urllib3 2.6 looks here also for that of a proxy that forwards
    config = ProxyConfig(
        route.proxy_tls, use_forwarding_for_https=False, assert_hostname=None, assert_fingerprint=None
    )
    return _Secure(first.host, first.port, proxy=proxy, proxy_config=config, ssl_context=tls)
