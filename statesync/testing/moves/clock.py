"""The clocks of a ``SyncWorld``: the wall clock jumps when it is told to, and no back-off waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock
from uuid import UUID

from uuid_utils import uuid7

from statesync.session import timers
from statesync.store.tracking import model as tracked_model

_YEAR = 365.25 * 86_400


class WorldClock:
    """The wall clock of a world; new keys, which begin with the time, follow it."""

    def __init__(self) -> None:
        self._shift = 0.0

    def jump(self, years: int) -> None:
        """Go wrong by so many years from now on; 0 is right again."""
        self._shift = years * _YEAR

    @contextmanager
    def rules(self) -> Iterator[None]:
        """Be the wall clock of this process, in which back-offs wait for nothing."""
        real = time.time
        with (
            mock.patch.object(timers, "BACKOFF_CAP", 0.0),
            mock.patch.object(time, "time", lambda: real() + self._shift),
            mock.patch.object(tracked_model, "uuid7", self._uuid7),
        ):
            yield

    def _uuid7(self) -> UUID:
        """Return a UUIDv7 of this clock: its first 48 bits are milliseconds."""
        return UUID(int=uuid7().int + (int(self._shift * 1000) << 80))
