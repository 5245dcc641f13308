"""Where a run of the tests keeps its files: in memory where there is room, and its bytecode."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

_SHARED = Path("/dev/shm")
_ROOM = 2 << 30
"""Bytes that have to be free: three workers at once use a few hundred megabytes, a container may have 64."""


def memory() -> Path | None:
    """Return the folder that is kept in memory; None if there is none with enough room."""
    if not os.access(_SHARED, os.W_OK) or shutil.disk_usage(_SHARED).free < _ROOM:
        return None
    return _SHARED


def prefer_memory() -> None:
    """Let temporary folders of pytest be made in memory, if nobody has said where: no test cuts the power."""
    place = memory()
    if place is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place))


def keep_bytecode() -> None:
    """Let workers and the processes that tests start compile a module once, whatever the environment says."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
