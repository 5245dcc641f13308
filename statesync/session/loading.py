"""Loads what sessions have inside, once a process begins its first one.

That is a third of the package, and a program may open a store, write and read in it without. It is loaded
before the store's lock is taken, and never in an event loop's thread. Nor in the main thread, which waits for
it: Python drops a Ctrl-C that comes in a callback of its import system, and the sync would not hear of it. A
process that is forked meanwhile would find modules half loaded for ever, so a fork waits for the end of it.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from importlib import import_module

from statesync.threads import Task, threads

_INSIDE = "statesync.session.inside"

_loading: threading.RLock = threading.RLock()
"""Held while it is loaded, and through a fork."""

_done: list[str] = []


def is_loaded() -> bool:
    """Tell whether a session can begin at once."""
    return bool(_done)


def load() -> None:
    """Load it, if that was not done. Raises what an import does; the next call tries again.

    In the main thread it raises what keeps a thread from being started, too.
    """
    if not _done and threading.current_thread() is threading.main_thread():
        task = Task(_load_if_possible, "statesync-loading")
        threads.start(task)
        task.wait()
    _load()


def _load_if_possible() -> None:
    with suppress(Exception):  # who waits tries again, and is told
        _load()


def _load() -> None:
    if not _done:
        with _loading:
            import_module(_INSIDE)
            _done.append(_INSIDE)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
    )
