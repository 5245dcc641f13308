"""Which file a path leads to: another one may be put in its place while SQLite has the first one open.

SQLite goes on with the file that it has opened, which nobody finds any more. The number of an inode is used
again once its file is deleted and closed, so it tells two files apart only as long as one of them is open.
"""

from __future__ import annotations

import os
from pathlib import Path

Identity = tuple[int, int]
"""The device and the inode of a file."""


def identity_of(path: str | Path) -> Identity | None:
    """Return the identity of the file that ``path`` leads to; None if it leads to none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
