"""Signs of a store by which is seen that something has come from elsewhere, and what of it the logs tell."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from statesync.classes import frozen
from statesync.store import conflict_log, quarantine
from statesync.store.cursors import applied
from statesync.store.cursors.cursor import Cursor
from statesync.store.outbox import signs as outbox
from statesync.store.schema import notes
from statesync.store.tracking.objects import Objects


@frozen
class Signs:
    """The signs of one state of a store: of each object's log and cursor, and of all objects together.

    ``objects`` are the same in two states where they are described alike; ``steps`` are migrations taken.
    """

    objects: Objects
    steps: int
    logs: Mapping[str, int]
    cursors: Mapping[str, Cursor]
    others: tuple[object, ...]


@frozen
class Rows:
    """Rows of a log: those after ``after``, up to ``up_to``."""

    after: int
    up_to: int


Missed = Mapping[str, Rows | None]
"""What has come, by the object's name: rows of its log, or None where nobody knows which records it was."""


def read_signs(connection: sqlite3.Connection, objects: Objects) -> Signs:
    """Return the signs as they stand now; in a transaction."""
    others = (
        outbox.of_outbox(connection),
        quarantine.total(connection),
        conflict_log.count_waiting(connection),
    )
    logs = {name: outbox.rows_logged(connection, tracked) for name, tracked in objects.items()}
    steps = notes.steps_taken(connection)
    return Signs(objects, steps, logs, applied.cursors(connection, objects), others)


def reshaped(before: Signs, now: Signs) -> set[str]:
    """Return the objects whose tables may have been made anew between two states, whatever is in them."""
    names = {*before.objects, *now.objects}
    if before.steps != now.steps:
        return names
    return {name for name in names if before.objects.get(name) is not now.objects.get(name)}


def missed_between(before: Signs, now: Signs) -> Missed:
    """Return what has come between two states.

    A program's own writes show in the logs. What the library does in another process shows no records, but
    it leaves none of the signs as they were.
    """
    names, anew = {*before.logs, *now.logs}, reshaped(before, now)
    if before.others != now.others:
        return dict.fromkeys(names)
    found: dict[str, Rows | None] = {}
    for name in names:
        rows = None if name in anew else _new_rows(name, before, now)
        if rows is None or rows.after < rows.up_to:
            found[name] = rows
    return found


def _new_rows(name: str, before: Signs, now: Signs) -> Rows | None:
    """Return what a log has got, None where more has happened to its object."""
    was, rows = before.logs[name], now.logs[name]
    if rows < was or before.cursors.get(name) != now.cursors.get(name):
        return None
    return Rows(was, rows)
