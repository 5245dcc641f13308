"""Waiting for the verdict on one record: what has become of its change."""

from __future__ import annotations

import sqlite3
import time
from enum import StrEnum
from threading import Event

from statesync.checks import as_wait
from statesync.classes import frozen
from statesync.errors import UnknownObject, UsageError
from statesync.store.parts import StoreParts
from statesync.values import PendingChange

LOOK_EVERY = 0.01
"""Seconds between two looks."""


class Outcome(StrEnum):
    """What has become of a record's change."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    IN_CONFLICT = "in_conflict"


@frozen
class RecordVerdict:
    """What has become of a record's change.

    ``accepted``: nothing of it waits: the hub has it, or what a policy has made of both sides. ``refused``:
    the hub has refused it, and it is parked. ``in_conflict``: somebody has to decide. ``change`` is what
    waits, None where it was accepted.
    """

    object: str
    key: str
    outcome: Outcome
    change: PendingChange | None = None


def wait_for(
    parts: StoreParts, name: str, key: str, timeout: float | None, stop: Event | None = None
) -> RecordVerdict:
    """Wait for the verdict on the record of a key. Raises as ``wait_for`` of a store does.

    ``stop`` ends the wait as the end of its time does.
    """
    seconds = as_wait(timeout)
    stopped = stop or Event()
    database = parts.database
    if database.in_transaction():
        raise UsageError("what is not committed is not sent; end the transaction before you wait for it")
    if database.peewee.is_aside:
        raise UsageError("a callback of a session keeps the session that it would wait for from going on")
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        with database.snapshot() as connection:
            change = _change_of(parts, connection, name, key)
        verdict = _verdict(name, key, change)
        if verdict is not None:
            return verdict
        if stopped.wait(LOOK_EVERY) or (until is not None and time.monotonic() >= until):
            raise TimeoutError(f"{name} {key} {_why(change)} after {timeout} seconds")


def _change_of(
    parts: StoreParts, connection: sqlite3.Connection, name: str, key: str
) -> PendingChange | None:
    tracked = parts.registry.refresh(connection).get(name)
    if tracked is None:
        raise UnknownObject(f"{name} was dropped from this store, and nobody knows what became of {key}")
    from statesync.store.outbox import preview  # with the first who waits

    return preview.pending_of_record(connection, tracked, key)


def _verdict(name: str, key: str, change: PendingChange | None) -> RecordVerdict | None:
    if change is None:
        return RecordVerdict(name, key, Outcome.ACCEPTED)
    if change.in_conflict:
        return RecordVerdict(name, key, Outcome.IN_CONFLICT, change)
    return RecordVerdict(name, key, Outcome.REFUSED, change) if change.parked else None


def _why(change: PendingChange | None) -> str:
    if change is not None and change.deferred:
        return "is deferred"
    error = None if change is None else change.error
    return "still waits" if error is None else f"still waits ({error})"
