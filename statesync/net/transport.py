"""Requests to a hub over one connection that is kept, and that another thread can cut.

Here is the one place where the errors of sockets, TLS and urllib3 become ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from attrs import field, frozen
from urllib3.response import BaseHTTPResponse

from statesync.errors import BadAnswer, BadOptions
from statesync.net.addresses import hub_at
from statesync.net.alarm import alarm
from statesync.net.answers import UNPACKABLE, content_of
from statesync.net.connection import FAILURES, Connection, Route
from statesync.net.failures import (
    PROXY_AUTHENTICATION,
    certificate_hint,
    is_silent_end,
    is_tls_alert,
    lost,
    no_certificate,
    not_connected,
    refused_by_proxy,
    refuses_certificate,
    said_by,
    wants_tls,
)
from statesync.net.glance import speaks_tls
from statesync.net.options import ClientCertificate, Timeouts, Trust
from statesync.net.proxies import ENVIRONMENT, proxy_for
from statesync.net.reach import Patience
from statesync.net.trust import secured

_BROKEN: tuple[type[Exception], ...] = (*FAILURES, *UNPACKABLE)
"""What an answer that breaks off, or is none, raises."""

_GLANCE = 1.0
"""Seconds in which a server that hangs up without a word is asked whether it speaks TLS."""

_FRESH = 30.0
"""Seconds for which an idle connection is asked on, by either clock. What is on the way forgets one that is
idle for long, and a machine that slept has lost it. Nobody says so, and a request waits for its time-out."""


@frozen
class Way:
    """How a hub is reached and recognised; see ``HttpRemote``."""

    proxy: str | None = field(default=ENVIRONMENT, repr=False)  # there may be a password in it
    ca_certs: str | None = None
    trust: Trust = "openssl"
    client_certificate: ClientCertificate | None = None


class RawAnswer(NamedTuple):
    """An answer as it came. ``retry_after`` are the seconds of its Retry-After, None where it has none."""

    status: int
    retry_after: float | None
    body: bytes


class Transport:
    """The connection to the hub at ``url``; an answer of more than ``max_answer`` bytes is refused.

    Raises ``BadOptions`` for what is no address of a hub or of a proxy, and for files that do not hold what
    they are named for.
    """

    def __init__(self, url: str, timeouts: Timeouts, max_answer: int, way: Way) -> None:
        self._url = url
        self._timeouts = timeouts
        self._max_answer = max_answer
        self._route = _route(url, way)
        self._kept: Connection | None = None
        self._kept_at = _both_clocks()
        self._in_use: Connection | None = None
        self._was_answered = False
        self._is_stopped = False

    def exchange(self, path: str, body: bytes | None, headers: dict[str, str], method: str) -> RawAnswer:
        """Make one request, and return its answer.

        Raises ``Unreachable`` where nothing was applied, ``ConnectionLost`` where nobody knows, and
        ``BadAnswer``.
        """
        connection = self._in_use = self._take()
        if self._is_stopped:
            connection.cut()
        try:
            with self._losses_told(connection), alarm.after(self._timeouts.request, connection.cut):
                self._open(connection)
                answer = connection.ask(method, path, body, headers)
                content = self._content_of(answer)
        except BaseException:  # what is left on it would be taken for the next answer
            connection.close()
            raise
        finally:
            self._in_use = None
        self._keep(connection)
        if answer.status == PROXY_AUTHENTICATION and self._route.is_forwarded:
            raise refused_by_proxy(self._url, connection, answer.status, answer.reason or "")
        return RawAnswer(answer.status, _seconds(answer.headers.get("Retry-After")), content)

    @contextmanager
    def _losses_told(self, connection: Connection) -> Iterator[None]:
        """Turn what a request that was begun may raise into an error that says what may have become of it."""
        is_new = not connection.is_open
        until = time.monotonic() + self._timeouts.request
        try:
            yield
        except _BROKEN as error:
            if time.monotonic() >= until:
                limit = f"it was not there after {self._timeouts.request} seconds, the request's time-out"
                raise lost(self._url, limit) from error
            if refuses_certificate(error):
                raise no_certificate(self._url, error) from error
            why = said_by(error)
            if is_new and not self._was_answered:
                if self._is_tls_in_truth(connection, error):
                    raise wants_tls(self._url) from error
                why += certificate_hint(connection, error)
            raise lost(self._url, why) from error

    def _open(self, connection: Connection) -> None:
        if not connection.is_open:
            try:
                connection.open()
            except FAILURES as error:
                raise not_connected(self._url, connection, error) from error

    def _content_of(self, answer: BaseHTTPResponse) -> bytes:
        content = content_of(answer, self._max_answer)
        if content is None:
            raise BadAnswer(
                f"{self._url} answered more than {self._max_answer} bytes; "
                "ask for smaller batches, or raise max_answer",
                status=answer.status,
                maybe_applied=True,
            )
        return content

    def _is_tls_in_truth(self, connection: Connection, error: BaseException) -> bool:
        """Tell whether a server that did not answer plain HTTP does so because it speaks TLS.

        Most such servers hang up without a word, as others do for other reasons. So that one is looked at
        again, if nobody has cut the connection.
        """
        if self._route.hub.is_secure or self._route.proxy or connection.is_cut:
            return False
        seconds = min(self._timeouts.connect, _GLANCE)
        patience = Patience(seconds, lambda: connection.is_cut)
        return is_tls_alert(error) or (is_silent_end(error) and speaks_tls(self._route.hub, patience))

    def _take(self) -> Connection:
        """Return the connection that was kept, or a new one; nobody else has it then."""
        kept, self._kept = self._kept, None
        if kept is not None:
            if self._is_fresh() and kept.is_alive():
                return kept
            kept.close()
        return Connection(self._route, self._timeouts)

    def _is_fresh(self) -> bool:
        return all(abs(now - then) < _FRESH for now, then in zip(_both_clocks(), self._kept_at, strict=True))

    def _keep(self, connection: Connection) -> None:
        self._was_answered = True
        if connection.is_open:
            self._kept, self._kept_at = connection, _both_clocks()
        else:  # the hub has said that it hangs up
            connection.close()

    def cut(self) -> None:
        """Shut the connection under a request that waits: it raises ``ConnectionLost`` soon."""
        connection = self._in_use
        if connection is not None:
            connection.cut()

    def stop(self) -> None:
        """Cut a request that waits, and every later one."""
        self._is_stopped = True
        self.cut()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


def _both_clocks() -> tuple[float, float]:
    """Return the monotonic time, which may stand still while the machine sleeps, and the wall clock's."""
    return time.monotonic(), time.time()


def _route(url: str, way: Way) -> Route:
    hub = hub_at(url)
    proxy = proxy_for(hub, way.proxy)
    if way.client_certificate and not hub.is_secure:
        raise BadOptions(f"a client certificate is shown over TLS, and {url!r} does not begin with https://")
    tls = secured(way.trust, way.ca_certs, way.client_certificate) if hub.is_secure else None
    proxy_tls = secured(way.trust, way.ca_certs) if proxy and proxy.address.is_secure else None
    return Route(hub, tls, proxy, proxy_tls)


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header in seconds; a date in it is not worth a wall clock."""
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None
