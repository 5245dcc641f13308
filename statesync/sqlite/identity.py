"""Which file a path leads to: another one may be put in its place while SQLite has the first one open.

SQLite goes on with the file that it has opened, which nobody finds any more. The number of an inode is used
again once its file is deleted and closed, so it tells two files apart only as long as one of them is open.
"""

from __future__ import annotations

import os
import time
from logging import Logger, getLogger
from pathlib import Path

logger: Logger = getLogger(__name__)

Identity = tuple[int, int]
"""The device and the inode of a file."""

_BESIDE = ("-wal", "-shm")


def identity_of(path: str | Path) -> Identity | None:
    """Return the identity of the file that ``path`` leads to; None if it leads to none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def logs_of(path: Path) -> dict[Path, Identity | None]:
    """Return the files that SQLite keeps beside the one at ``path``: its log, and the index of that."""
    return {beside: identity_of(beside) for beside in (path.with_name(path.name + end) for end in _BESIDE)}


def put_aside(path: Path, logs: dict[Path, Identity | None]) -> None:
    """Rename those of ``logs`` that are still there: another file has come to ``path`` since.

    Whoever opens that one would replay the log of the file before into it, and so damage it. Called once
    nobody in this process has the file before open.
    """
    stamp = int(time.time())
    for beside, known in logs.items():
        if known is not None and identity_of(beside) == known:
            aside = beside.with_name(f"{beside.name}.{stamp}")
            beside.replace(aside)
            logger.warning(
                "%s was replaced while it was open; %s is of the file before, and was put aside as %s",
                path.name, beside.name, aside.name,
            )  # fmt: skip
