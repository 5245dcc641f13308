"""Where the threads of a process that serves have their memory from."""

from __future__ import annotations

import ctypes
import sys

_ARENA_MAX = -8
"""The number of the option in glibc's ``malloc.h``."""


def share_one_arena() -> None:
    """Let all threads have their memory from one place, where the system's library is glibc.

    Left to itself that gives each thread a place of its own, up to eight for each core, and what one thread
    has freed there no other one can use. So each thread of a hub kept as much as its largest request had
    taken. Call it before threads are started.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # musl has none, and one place for all
            mallopt(_ARENA_MAX, 1)
