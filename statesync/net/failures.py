"""What went wrong on the way to a hub: in words, whether it is worth another try, and what was applied.

Nothing was applied by whoever was not connected to, or does not speak what was spoken. Else nobody knows.
"""

from __future__ import annotations

import re
import ssl
from http.client import BadStatusLine, HTTPException, RemoteDisconnected

from urllib3.exceptions import HTTPError

from statesync.errors import ConnectionLost, Unreachable
from statesync.net.connection import Connection
from statesync.net.trust import plainly

PROXY_AUTHENTICATION = 407

_REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3}) ?(.*)", re.DOTALL)
"""How ``http.client`` says what a proxy has answered."""

_RETRYABLE = frozenset({408, 429})

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"})
"""How OpenSSL names what is no TLS at all."""

_ALERT = "\x15\x03"
"""How a complaint of a TLS server begins."""


def not_connected(url: str, connection: Connection, error: BaseException) -> Unreachable:
    """Return the error for a connection that did not come about."""
    proxy = connection.route.proxy
    if proxy and (refusal := _REFUSED_TUNNEL.match(str(error))):
        return refused_by_proxy(url, connection, int(refusal[1]), refusal[2])
    # No answer is read before the connection stands, but for a proxy's.
    is_proxys = proxy and (not connection.has_met_proxy or isinstance(error, HTTPException))
    who = f"the proxy {connection.route.first}" if is_proxys else url
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return Unreachable(f"{who} does not speak TLS: its address begins with http://. Nothing was sent")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{who} cannot be reached ({plainly(error)}); nothing was sent; ca_certs, or SSL_CERT_FILE, "
            "names the certificates to trust, and trust='system' takes those of the system's store"
        )
    if refuses_certificate(error):
        return no_certificate(who, error)
    hint = "" if is_proxys else certificate_hint(connection, error)
    return Unreachable(f"{who} cannot be reached ({plainly(error)}); nothing was sent{hint}", retryable=True)


def refused_by_proxy(url: str, connection: Connection, status: int, said: str) -> Unreachable:
    """Return the error for a proxy that has not passed the request on."""
    who = f"the proxy {connection.route.first}"
    if status == PROXY_AUTHENTICATION:
        why = f"{who} wants another user and password than it was given"
        if connection.route.proxy and not connection.route.proxy.headers:
            why = f"{who} wants a user and a password, as in http://user:password@proxy:3128"
        return Unreachable(f"{why} ({status}); nothing reached {url}", status=status)
    return Unreachable(
        f"{who} does not connect to {url} ({status} {said.strip()}); nothing was sent",
        status=status,
        retryable=status >= 500 or status in _RETRYABLE,
    )


def refuses_certificate(error: BaseException) -> bool:
    """Tell whether a TLS server has complained about who the device says that it is."""
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    return "_ALERT_" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def no_certificate(who: str, error: BaseException) -> Unreachable:
    """Return the error for a server that wants to know the device by another certificate, or by any."""
    return Unreachable(
        f"{who} does not accept the device's certificate, or that it shows none ({plainly(error)}); nothing "
        "was applied; client_certificate names it"
    )


def certificate_hint(connection: Connection, error: BaseException) -> str:
    """Return what may be the cause where a TLS server hangs up as it is spoken to first: few say it."""
    if not (connection.route.hub.is_secure and is_silent_end(error)):
        return ""
    return "; so ends a hub that asks for a client certificate, if it gets none or one that it does not trust"


def is_tls_alert(error: BaseException) -> bool:
    """Tell whether what came in place of an answer is a TLS server's complaint."""
    return isinstance(error, BadStatusLine) and str(error.args[0]).startswith(_ALERT)


def is_silent_end(error: BaseException) -> bool:
    """Tell whether the other side has hung up without a word."""
    return isinstance(error, RemoteDisconnected | ConnectionResetError | ssl.SSLEOFError)


def wants_tls(url: str) -> Unreachable:
    """Return the error for a server that was spoken to without TLS, and knows nothing else."""
    return Unreachable(
        f"{url} speaks TLS: its address begins with https://. Nothing was applied, but the request and its "
        "token were readable on the way"
    )


def lost(url: str, why: str) -> ConnectionLost:
    """Return the error for a request that may have been applied."""
    return ConnectionLost(
        f"the connection to {url} broke before the answer was there ({why})",
        retryable=True,
        maybe_applied=True,
    )


def said_by(error: BaseException) -> str:
    """Return what the error behind an error of urllib3's says."""
    if isinstance(error, HTTPError) and error.__cause__ is not None:
        error = error.__cause__
    return plainly(error)
