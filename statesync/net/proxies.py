"""Which proxy the requests to a hub go through: what the program says, or what the environment says.

A password of a proxy is in its ``Proxy-Authorization`` alone: no message, log or ``repr`` has it.
"""

from __future__ import annotations

import os
from base64 import b64encode
from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, unquote

from attrs import field

from statesync.checks import check_kind
from statesync.classes import frozen
from statesync.errors import BadOptions
from statesync.net.addresses import Address, address_of, split, without_password

ENVIRONMENT = "environment"
"""Says: what ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say."""


@frozen
class Proxy:
    """A server that passes requests on. ``headers`` are those that it alone is given."""

    address: Address
    headers: dict[str, str] = field(repr=False, eq=False)


def proxy_for(hub: Address, said: str | None) -> Proxy | None:
    """Return the proxy on the way to ``hub``, or None where there is none.

    ``said`` is a proxy's address, ``ENVIRONMENT``, or None for no proxy at all. Raises ``BadOptions`` for an
    address that is none of an HTTP proxy.
    """
    if said is None:
        return None
    check_kind("proxy", said, str, "an address, or None")
    if said != ENVIRONMENT:
        return _proxy_at(said, "proxy")
    variables = _variables()
    if _is_here(hub.host) or _is_excepted(hub, variables.get("no_proxy", "")):
        return None
    for name in (f"{hub.scheme}_proxy", "all_proxy"):
        if variables.get(name):
            return _proxy_at(variables[name], f"the environment's {name}")
    return None


def _proxy_at(said: str, where: str) -> Proxy:
    url = said if "://" in said else f"http://{said}"
    try:
        parts = split(url)
        return Proxy(address_of(parts), _credentials(parts))
    except ValueError:
        raise BadOptions(
            f"{without_password(said)!r} ({where}) is no address of an HTTP proxy; it looks like "
            "http://proxy:3128, or http://user:password@proxy:3128 with % codes for what no address may hold"
        ) from None


def _credentials(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _variables() -> dict[str, str]:
    """Return what the environment says of proxies, by the variable's name in small letters."""
    names = sorted(name for name in os.environ if name.lower().endswith("_proxy"))
    if "REQUEST_METHOD" in os.environ and "HTTP_PROXY" in names:
        names.remove("HTTP_PROXY")  # a web server that starts programs puts its client's header Proxy there
    return {name.lower(): os.environ[name].strip() for name in names}  # small letters come last, and win


def _is_here(host: str) -> bool:
    """Tell whether that is this machine: what a proxy calls localhost is another one."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False


def _is_excepted(hub: Address, exceptions: str) -> bool:
    return any(_covers(one.strip().lower(), hub) for one in exceptions.split(","))


def _covers(exception: str, hub: Address) -> bool:
    """Tell whether a part of NO_PROXY means the hub: ``*``, a host or domain, with a port, or a network."""
    host = hub.host.removesuffix(".")
    with suppress(ValueError):
        return ip_address(host) in ip_network(exception, strict=False)
    name = exception.removesuffix(f":{hub.port}").removeprefix("*").removeprefix(".")
    return exception == "*" or (bool(name) and (host == name or host.endswith(f".{name}")))
