"""Change tracking by SQL triggers, so that every write counts, whoever makes it and however.

The triggers only append to the object's log: which record was written, and its values as they were before.
Making images of them, and net changes, is left to ``outbox``; it is what makes a tracked write cheap.

Traps that the triggers answer for (measured on SQLite 3.40):

* INSERT OR REPLACE fires no delete trigger, and an AFTER INSERT trigger cannot see the old row any more.
  So BEFORE INSERT keeps the values of all rows that the new one may replace, by key or by a unique
  index. ``changed = 0`` marks them: they count only if the write really happened.
* A change of the key is a delete of one record and an insert of another. Its triggers are there for
  statements that set the key: a trigger costs its call, even where it has nothing to do.
* A flag in a table switches tracking off within one transaction. A custom SQL function would break every
  other program that writes to the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from statesync.store.database import Database
from statesync.store.objects import TrackedObject, quoted

_ON = "SELECT value FROM statesync_meta WHERE key = 'tracking'"
_SET = "UPDATE statesync_meta SET value = ? WHERE key = 'tracking'"


@contextmanager
def untracked(database: Database) -> Iterator[sqlite3.Connection]:
    """Run the block as one transaction, or as a part of the open one, whose writes are not tracked.

    A block that raises is undone, flag included, even where the program goes on with its transaction.
    """
    with database.transaction() as connection, database.peewee.atomic(), switched_off(connection):
        yield connection


@contextmanager
def switched_off(connection: sqlite3.Connection) -> Iterator[None]:
    """Track no writes of the block. A block that raises has to be undone by whoever began the transaction.

    There is no savepoint: inside one, SQLite copies every page before it writes it, which doubles the cost.
    """
    (before,) = connection.execute(_ON).fetchone()
    connection.execute(_SET, (0,))
    yield
    connection.execute(_SET, (before,))


def install(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Create the object's log and triggers, replacing those of an older description. Runs in a transaction.

    What an older description has logged must have been folded.
    """
    wanted = dict(_parts(tracked))
    found = _found(connection, tracked)
    for name in found.keys() - wanted.keys():
        connection.execute(f"DROP TRIGGER {quoted(name)}")
    for name, sql in wanted.items():
        if found.get(name) != sql:
            _drop(connection, tracked, name)
            connection.execute(sql)


def log_sql(tracked: TrackedObject) -> str:
    """Return the log's SQL: the columns have no type, so that they hold every value as it was.

    ``known`` says whether there was a record before the write; a row with ``changed = 0`` only keeps one for
    a write that may follow.
    """
    columns = ", ".join(("key TEXT NOT NULL", "changed INTEGER", "known INTEGER", *tracked.log_columns))
    return f"CREATE TABLE {quoted(tracked.log)} ({columns})"


def remove(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Drop the object's log and triggers."""
    for name, _ in _parts(tracked):
        _drop(connection, tracked, name)


def missing(connection: sqlite3.Connection, tracked: TrackedObject) -> list[str]:
    """Return what of the object's log and triggers is not in the database as it should be, by name."""
    found = _found(connection, tracked)
    return [name for name, sql in _parts(tracked) if found.get(name) != sql]


def _found(connection: sqlite3.Connection, tracked: TrackedObject) -> dict[str, str]:
    """Return the log and the triggers that the object has in the database."""
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name = :log OR type = 'trigger' "
        "AND tbl_name = :table COLLATE NOCASE AND name LIKE 'statesync\\_%' ESCAPE '\\'",
        {"log": tracked.log, "table": tracked.table},
    )
    return dict(rows.fetchall())


def _drop(connection: sqlite3.Connection, tracked: TrackedObject, name: str) -> None:
    kind = "TABLE" if name == tracked.log else "TRIGGER"
    connection.execute(f"DROP {kind} IF EXISTS {quoted(name)}")


def _parts(tracked: TrackedObject) -> Iterator[tuple[str, str]]:
    """Yield the name and SQL of the log and of each trigger."""
    key = quoted(tracked.key)
    yield tracked.log, log_sql(tracked)
    yield _trigger(tracked, "insert_before", "BEFORE INSERT", "", _keep_replaced(tracked, key, same_key=True))
    yield _trigger(tracked, "insert", "AFTER INSERT", "", _append_new(tracked))
    yield _trigger(tracked, "delete", "AFTER DELETE", "", _append_old(tracked))
    yield _trigger(tracked, "update", "AFTER UPDATE", f"OLD.{key} IS NEW.{key} AND", _append_old(tracked))
    yield _trigger(
        tracked,
        "rekey",
        f"AFTER UPDATE OF {key}",
        f"OLD.{key} IS NOT NEW.{key} AND",
        _append_old(tracked) + _append_new(tracked),
    )
    if tracked.uniques:
        yield _trigger(
            tracked, "update_before", "BEFORE UPDATE", "", _keep_replaced(tracked, key, same_key=False)
        )
    yield _trigger(
        tracked,
        "rekey_before",
        f"BEFORE UPDATE OF {key}",
        f"OLD.{key} IS NOT NEW.{key} AND",
        _keep_rows(tracked, f"{key} = NEW.{key}"),
    )


def _trigger(tracked: TrackedObject, what: str, when: str, also: str, body: str) -> tuple[str, str]:
    name = f"statesync_{tracked.name}_{what}"
    only = f"WHEN {also} ({_ON})"  # what costs least is asked first
    return name, f"CREATE TRIGGER {quoted(name)} {when} ON {quoted(tracked.table)} {only} BEGIN {body} END"


def _append_new(tracked: TrackedObject) -> str:
    return (
        f"INSERT INTO {quoted(tracked.log)} (key, changed, known) VALUES (NEW.{quoted(tracked.key)}, 1, 0); "
    )


def _append_old(tracked: TrackedObject) -> str:
    return f"INSERT INTO {quoted(tracked.log)} VALUES ({_logged(tracked, 'OLD.', changed=1)}); "


def _keep_replaced(tracked: TrackedObject, key: str, *, same_key: bool) -> str:
    """Keep the rows that NEW may replace, by its key or by a unique index."""
    kept = [_keep_rows(tracked, f"{key} = NEW.{key}")] if same_key else []
    for group in tracked.uniques:
        matches = " AND ".join(f"{quoted(column)} = NEW.{quoted(column)}" for column in group)
        other = f"{key} IS NOT {'NEW' if same_key else 'OLD'}.{key}"
        kept.append(_keep_rows(tracked, f"{matches} AND {other}"))
    return "".join(kept)


def _keep_rows(tracked: TrackedObject, where: str) -> str:
    return (
        f"INSERT INTO {quoted(tracked.log)} SELECT {_logged(tracked, '', changed=0)} "
        f"FROM {quoted(tracked.table)} WHERE {where}; "
    )


def _logged(tracked: TrackedObject, row: str, *, changed: int) -> str:
    """Return what the log gets of a record that is there before the write."""
    values = [f"{row}{quoted(name)}" for name in tracked.column_names]
    return ", ".join((f"{row}{quoted(tracked.key)}", str(changed), "1", *values))
