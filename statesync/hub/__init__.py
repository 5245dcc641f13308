"""The hub: the server that devices exchange records with.

Make its tables once with ``prepare(url)``, open a ``Hub(url)``, and serve it: over HTTP with ``serve`` or
``serving``, to any ASGI server with ``application``, or in the same process with ``LocalRemote``.
"""

from statesync.hub.access.rights import Right, Rights
from statesync.hub.access.tokens import create_token, list_tokens, revoke_token
from statesync.hub.db.opening import prepare
from statesync.hub.errors import BadDatabase, HubError, HubNotReady, HubTooNew, Refused
from statesync.hub.http.serving import Address, Setup, serve, serving
from statesync.hub.http.web import application
from statesync.hub.hub import Hub
from statesync.hub.limits import HubLimits
from statesync.hub.local import LocalRemote
from statesync.hub.retention import Retention

__all__ = [
    "Address",
    "BadDatabase",
    "Hub",
    "HubError",
    "HubLimits",
    "HubNotReady",
    "HubTooNew",
    "LocalRemote",
    "Refused",
    "Retention",
    "Right",
    "Rights",
    "Setup",
    "application",
    "create_token",
    "list_tokens",
    "prepare",
    "revoke_token",
    "serve",
    "serving",
]
