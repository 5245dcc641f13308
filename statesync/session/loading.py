"""Loads what sessions have inside, once a process begins its first one.

That is a third of the package, and a program may open a store, write and read in it without that. It is
loaded before the store's lock is taken, in the thread that begins the session, and never in an event loop's.
A process that is forked meanwhile would find modules half loaded for ever, so a fork waits for the end of it.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module

_INSIDE = "statesync.session.inside"

_loading: threading.RLock = threading.RLock()
"""Held while it is loaded, and through a fork."""


_done: list[str] = []


def is_loaded() -> bool:
    """Tell whether a session can begin at once."""
    return bool(_done)


def load() -> None:
    """Load it, if that was not done. Raises what an import does; the next call tries again."""
    if not _done:
        with _loading:
            import_module(_INSIDE)
            _done.append(_INSIDE)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
    )
