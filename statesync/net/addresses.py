"""Addresses of hubs and proxies, as they are given by people: judged before anything is asked."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address
from urllib.parse import SplitResult, urlsplit

from statesync.classes import frozen
from statesync.errors import BadOptions

_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_LONGEST_NAME = 253


@frozen
class Address:
    """Where a server listens: ``scheme`` is http or https, ``host`` is ASCII and has no brackets."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        """Tell whether it speaks TLS."""
        return self.scheme == "https"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != _PORTS[self.scheme] else "")


def hub_at(url: str) -> Address:
    """Return where a hub listens; raises ``BadOptions`` for what is no address of one."""
    try:
        parts = split(url)
        if parts.username is None and parts.password is None:
            return address_of(parts)
    except ValueError:
        raise BadOptions(
            f"{without_password(url)!r} is no address of a hub; it looks like http://host:8710"
        ) from None
    raise BadOptions(
        f"{without_password(url)!r} was given with a user or a password: a hub knows a device by its token"
    )


def split(url: str) -> SplitResult:
    """Return the parts of an address; raises ``ValueError`` where ``urlsplit`` would mend it."""
    if any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("it has a space or a control character")
    return urlsplit(url)


def address_of(parts: SplitResult) -> Address:
    """Return the host and the port; raises ``ValueError`` for a host that cannot be one."""
    if parts.scheme not in _PORTS:
        raise ValueError("it is neither http nor https")
    port = parts.port if parts.port is not None else _PORTS[parts.scheme]
    if port == 0:
        raise ValueError("nobody listens at port 0")
    return Address(parts.scheme, _host(parts.hostname or ""), port)


def without_password(url: str) -> str:
    """Return an address as it may be shown, also one that is too broken to be split."""
    scheme, divider, rest = url.partition("://")
    if not divider or "@" in scheme:
        return url.rpartition("@")[2]
    return f"{scheme}{divider}{rest.rpartition('@')[2]}"


def _host(name: str) -> str:
    """Return a host as the network has it; raises ``ValueError`` (``UnicodeError`` is one) if it is none."""
    if ":" in name:
        return str(IPv6Address(name))
    known = name.encode("idna").decode("ascii")  # a dot at its end stays: it says that the name is whole
    labels = known.removesuffix(".").split(".")
    if len(known) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("that is no name of a host")
    if labels[-1].isdigit():
        _check_number(known)
    return known


def _check_number(host: str) -> None:
    try:
        socket.inet_aton(host)
    except OSError as error:
        raise ValueError("that is no number of a host") from error
