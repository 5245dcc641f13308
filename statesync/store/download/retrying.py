"""Trying again what is in quarantine, once the feed is drained: what was in the way may have gone.

First come the records that nothing in quarantine stands before, and behind each that fits those that it stood
before. Then come the others, which may stand before each other, and move together.
"""

from __future__ import annotations

import sqlite3

import msgspec
from attrs import field

from statesync.classes import define
from statesync.store import quarantine
from statesync.store.cursors import applied
from statesync.store.cursors.cursor import Cursor
from statesync.store.download.decoding import decode_object
from statesync.store.download.pages import NOTHING, How, Stored, apply_object
from statesync.store.outbox.lookup import PENDING_KEYS
from statesync.store.quarantine import Misfit
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.triggers import switched_off
from statesync.wire import Entry

MOST_FAILURES = 1000
"""How often a session tries a record in vain."""
MOST_AT_ONCE = 1000
"""Records that are tried in one transaction, between two looks for a cancel."""
MOST_TOGETHER = 10_000
"""Records of an object behind each other that are tried in one transaction: a ring moves whole or not at all.

They do not share in what the others have left: many that never fit would keep a ring from moving for ever.
"""


@define
class Retries:
    """What one session tries again. ``failed`` are the keys, by their objects, that did not fit again."""

    objects: Objects
    failed: dict[str, set[str]] = field(factory=dict)

    def are_left(self, connection: sqlite3.Connection, most: int = MOST_AT_ONCE) -> bool:
        """Tell whether more than ``most`` records are still to be tried."""
        if self._failures >= MOST_FAILURES:
            return False
        left = (
            quarantine.count_to_retry(connection, name, self.failed.get(name, ()), PENDING_KEYS)
            for name in self.objects
        )
        return sum(left) > most

    def take_turn(self, connection: sqlite3.Connection, how: How) -> Stored:
        """Try up to ``MOST_AT_ONCE`` records again. In a transaction that has folded."""
        stored, left = NOTHING, max(0, min(MOST_AT_ONCE, MOST_FAILURES - self._failures))
        with switched_off(connection):
            for name, cursor in applied.cursors(connection, self.objects).items():
                turn = _Turn(connection, self.objects[name], cursor, how, left)
                stored += turn.take(self.failed.setdefault(name, set()))
                left = turn.left
        return stored

    @property
    def _failures(self) -> int:
        return sum(map(len, self.failed.values()))


@define
class _Turn:
    connection: sqlite3.Connection
    tracked: TrackedObject
    cursor: Cursor
    how: How
    left: int

    def take(self, failed: set[str]) -> Stored:
        alone = self._take(failed, self.left, blocked=False)
        return alone + self._take(failed, MOST_TOGETHER, blocked=True)

    def _take(self, failed: set[str], most: int, *, blocked: bool) -> Stored:
        name = self.tracked.name
        found = quarantine.to_retry(self.connection, name, failed, PENDING_KEYS, most, blocked=blocked)
        released = 0
        while found:
            fitted = self._try(found, failed)
            released += len(fitted)
            found = quarantine.behind(self.connection, name, fitted, PENDING_KEYS, self.left)
        return Stored(released, released=released)

    def _try(self, some: list[Misfit], failed: set[str]) -> set[str]:
        """Try these records; return the keys of those that fit now."""
        name = self.tracked.name
        part = decode_object(self.tracked, [_entry(name, misfit) for misfit in some])
        _, misfits = apply_object(self.connection, part, self.cursor, self.how, set())
        still = {misfit.key for misfit in misfits}
        fitted = {misfit.key for misfit in some} - still
        quarantine.release(self.connection, name, fitted)
        quarantine.hold(self.connection, name, misfits, self.how.session)
        failed |= still
        failed -= fitted
        self.left = max(0, self.left - len(some))
        return fitted


def _entry(name: str, misfit: Misfit) -> Entry:
    if misfit.data is None:
        return Entry(name, misfit.key, misfit.version, deleted=True)
    return Entry(name, misfit.key, misfit.version, data=msgspec.Raw(misfit.data))
