"""How the address of a hub's database is shown to people: without its password."""

from __future__ import annotations

import re
from urllib.parse import unquote

_HIDDEN = "***"
PASSWORDS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""What libpq calls what nobody may see."""

_NO_PORT = re.compile(r"(?<=:)(?![0-9:\]])[^,:]+")
_OPTION = re.compile(r"(?<=[?&])([^=&]*)=[^&]*")
_SETTING = re.compile(rf"({'|'.join(PASSWORDS)})\s*=\s*('[^']*'|\S+)", re.IGNORECASE)


def without_password(address: str) -> str:
    """Return ``address`` as messages, logs and ``repr`` show it.

    Of an address that cannot be read, whatever may be meant as a password is left out.
    """
    kind, divider, rest = address.partition("://")
    if kind == "sqlite":
        return address
    if not divider:
        return _SETTING.sub(rf"\1={_HIDDEN}", _place(address))
    return f"{kind}{divider}{_OPTION.sub(_option, _place(rest))}"


def has_password(address: str) -> bool:
    """Tell whether something in ``address`` is, or may be meant as, a password."""
    return without_password(address) != address


def _place(text: str) -> str:
    """Hide what follows the user's name up to the last @, and what stands where a port would."""
    user, at, place = text.rpartition("@")
    name, divider, password = user.partition(":")
    hosts, slash, path = place.partition("/")
    hosts, mark, options = hosts.partition("?")
    hidden = _HIDDEN if password else ""
    return f"{name}{divider}{hidden}{at}{_NO_PORT.sub(_HIDDEN, hosts)}{mark}{options}{slash}{path}"


def _option(match: re.Match[str]) -> str:
    is_password = unquote(match[1]).strip().lower() in PASSWORDS
    return f"{match[1]}={_HIDDEN}" if is_password else match[0]
