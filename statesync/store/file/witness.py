"""Who is told what the library's transactions write. A database has none as long as nobody observes it."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from typing import Protocol


class Witness(Protocol):
    """Sees write transactions of one database."""

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Run the block as one write transaction."""

    def part(self) -> AbstractContextManager[sqlite3.Connection]:
        """Run the block as a part of the transaction that the calling thread is in."""
