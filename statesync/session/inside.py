"""What a session has inside, all in one: the driver, its store, and whom it tells (``loading`` says why)."""

from __future__ import annotations

from statesync.session.callbacks import Callbacks
from statesync.session.driver import Driver
from statesync.session.mailbox import Mailbox
from statesync.session.telling.logs import log_end, log_steps
from statesync.session.telling.pace import Pace
from statesync.session.telling.told import Told
from statesync.session.telling.tracing import Traced, tracers
from statesync.session.watch import watch
from statesync.store.session_store import SessionStore

__all__ = [
    "Callbacks",
    "Driver",
    "Mailbox",
    "Pace",
    "SessionStore",
    "Told",
    "Traced",
    "log_end",
    "log_steps",
    "tracers",
    "watch",
]
