"""Opening the device database that a command is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from statesync.scope import Store


@contextmanager
def opened(database: str) -> Iterator[Store]:
    """Open a device database, end the sessions that its program left interrupted, and close it again."""
    with Store.open(database) as store:
        store.setup()
        yield store
