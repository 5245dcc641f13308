"""The hub: the server that devices exchange records with.

Make its tables once with ``prepare(url)``, open a ``Hub(url)``, and serve it: over HTTP with ``serve`` or
``serving``, to any ASGI server with ``application``, or in the same process with ``LocalRemote``.
``Issuer`` is imported when it is first asked for: it needs the extra ``jwt``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statesync.hub.access.rights import Right, Rights
from statesync.hub.access.tokens import TokenRow, create_token, list_tokens, revoke_token
from statesync.hub.db.database import Database
from statesync.hub.db.opening import prepare
from statesync.hub.errors import BadDatabase, CannotDistribute, HubError, HubNotReady, HubTooNew, Refused
from statesync.hub.http.serving import Address, Setup, serve, serving
from statesync.hub.http.web import application
from statesync.hub.hub import Hub
from statesync.hub.limits import Ask, HubLimits, NoMemory
from statesync.hub.local import LocalRemote
from statesync.hub.retention import Retention
from statesync.hub.signals.watch import Watch

if TYPE_CHECKING:
    from statesync.hub.access.identity import Issuer

__all__ = [
    "Address",
    "Ask",
    "BadDatabase",
    "CannotDistribute",
    "Database",
    "Hub",
    "HubError",
    "HubLimits",
    "HubNotReady",
    "HubTooNew",
    "Issuer",
    "LocalRemote",
    "NoMemory",
    "Refused",
    "Retention",
    "Right",
    "Rights",
    "Setup",
    "TokenRow",
    "Watch",
    "application",
    "create_token",
    "list_tokens",
    "prepare",
    "revoke_token",
    "serve",
    "serving",
]


def __getattr__(name: str) -> Any:
    """Import what needs an extra of its own."""
    if name != "Issuer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from statesync.hub.access.identity import Issuer

    return Issuer
