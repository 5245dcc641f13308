"""The program's own migrations: numbered steps, each taken once.

The store remembers how many have been taken, in the transaction that takes them. Tracking is set aside
meanwhile, and foreign keys are off, so nothing of a step is uploaded and nothing cascades.
"""

from __future__ import annotations

import inspect
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from peewee import PeeweeException

from statesync.checks import kind_of
from statesync.errors import BadOptions, StoreError, SyncInProgress, UsageError
from statesync.store.file.database import Database
from statesync.store.file.lock import StoreLock
from statesync.store.schema import notes

Step = Callable[[Any], object]
"""One migration. Its parameter ``migrator`` gets Peewee's; under any other name it is the connection."""

_PATIENCE = 10.0
"""Seconds to wait for a session, or for another process that takes the same steps."""


def as_steps(migrations: object) -> tuple[Step, ...]:
    """Return the steps that a program gives. Raises ``BadOptions`` for what are none."""
    if isinstance(migrations, str) or not isinstance(migrations, Iterable):
        raise BadOptions(f"migrations must be a list of functions, not {kind_of(migrations)}")
    steps = tuple(migrations)
    for step in steps:
        if not callable(step):
            raise BadOptions(f"each of migrations must be a function, not {kind_of(step)}")
    return steps


@contextmanager
def alone(database: Database, lock: StoreLock) -> Iterator[None]:
    """Wait for the store and hold it, with foreign keys off. Raises ``SyncInProgress`` after a while."""
    last = time.monotonic() + _PATIENCE
    while True:
        try:
            lock.acquire()
            break
        except SyncInProgress:
            if time.monotonic() > last:
                raise
            time.sleep(0.05)
    try:
        with database.without_foreign_keys():
            yield
    finally:
        lock.release()


def are_due(connection: sqlite3.Connection, steps: Sequence[Step]) -> bool:
    """Tell whether any step has not been taken yet."""
    return 0 <= notes.steps_taken(connection) < len(steps)


def take(database: Database, connection: sqlite3.Connection, steps: Sequence[Step]) -> None:
    """Take the steps that are due, and write that down; in a transaction, which the caller undoes on errors.

    Raises what a step raises, a ``StoreError`` for what SQLite says to it, and ``UsageError`` for a step that
    ends the transaction.
    """
    for number in range(notes.steps_taken(connection) + 1, len(steps) + 1):
        _take(database, connection, steps[number - 1], _title(number, steps[number - 1]))
        notes.note_steps(connection, number)


def _title(number: int, step: Step) -> str:
    return f"migration {number} ({getattr(step, '__name__', step)})"


def _take(database: Database, connection: sqlite3.Connection, step: Step, title: str) -> None:
    try:
        _call(database, connection, step)
    except (sqlite3.Error, PeeweeException) as error:
        raise StoreError(f"{database}: {title} failed: {error}; no migration was kept") from error
    except Exception as error:
        error.add_note(f"{database}: {title} failed; no migration was kept")
        raise
    if not connection.in_transaction:
        connection.execute("BEGIN")  # there has to be one to undo
        raise UsageError(
            f"{database}: {title} ended the transaction that it ran in, as commit() and executescript() do; "
            "execute its statements one by one"
        )


def _call(database: Database, connection: sqlite3.Connection, step: Step) -> None:
    parameters = list(inspect.signature(step).parameters)
    if not parameters or parameters[0] != "migrator":
        step(connection)
        return
    # Few programs need it, and it takes time to import.
    from playhouse.migrate import Operation, SqliteMigrator, migrate

    made = step(SqliteMigrator(database.peewee))
    operations = made if isinstance(made, list | tuple) else [made]
    migrate(*(one for one in operations if isinstance(one, Operation)))
