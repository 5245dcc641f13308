"""Change tracking by SQL triggers, so that every write counts, whoever makes it and however.

The triggers only append to ``statesync_log``: what was written, and the record as it was before. Folding
that into net changes is left to ``outbox``; it is what makes a tracked write cheap.

Traps that the triggers answer for (measured on SQLite 3.40):

* INSERT OR REPLACE fires no delete trigger, and an AFTER INSERT trigger cannot see the old row any more.
  So BEFORE INSERT keeps the images of all rows that the new one may replace, by key or by a unique
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
    """Create the object's triggers, replacing those of an older description. Runs in a transaction."""
    wanted = dict(_triggers(tracked))
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? "
        "AND name LIKE 'statesync\\_%' ESCAPE '\\'",
        (tracked.table,),
    )
    found = dict(rows.fetchall())
    for name in found.keys() - wanted.keys():
        connection.execute(f"DROP TRIGGER {quoted(name)}")
    for name, sql in wanted.items():
        if found.get(name) != sql:
            connection.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")
            connection.execute(sql)


def remove(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Drop the object's triggers."""
    for name, _ in _triggers(tracked):
        connection.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")


def missing(connection: sqlite3.Connection, tracked: TrackedObject) -> list[str]:
    """Return the names of the object's triggers that are not in the database as they should be."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    found = dict(rows)
    return [name for name, sql in _triggers(tracked) if found.get(name) != sql]


def _triggers(tracked: TrackedObject) -> Iterator[tuple[str, str]]:
    key = quoted(tracked.key)
    yield _trigger(tracked, "insert_before", "BEFORE INSERT", "", _keep_replaced(tracked, key, same_key=True))
    yield _trigger(tracked, "insert", "AFTER INSERT", "", _append(tracked, f"NEW.{key}", "NULL"))
    yield _trigger(tracked, "delete", "AFTER DELETE", "", _append(tracked, f"OLD.{key}", _old(tracked)))
    yield _trigger(
        tracked,
        "update",
        "AFTER UPDATE",
        f"OLD.{key} IS NEW.{key} AND",
        _append(tracked, f"OLD.{key}", _old(tracked)),
    )
    yield _trigger(
        tracked,
        "rekey",
        f"AFTER UPDATE OF {key}",
        f"OLD.{key} IS NOT NEW.{key} AND",
        _append(tracked, f"OLD.{key}", _old(tracked)) + _append(tracked, f"NEW.{key}", "NULL"),
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


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _old(tracked: TrackedObject) -> str:
    return tracked.image_sql("OLD.")


def _append(tracked: TrackedObject, key: str, image: str) -> str:
    return f"INSERT INTO statesync_log VALUES ({_literal(tracked.name)}, {key}, 1, {image}); "


def _keep_replaced(tracked: TrackedObject, key: str, *, same_key: bool) -> str:
    """Keep the images of the rows that NEW may replace, by its key or by a unique index."""
    kept = [_keep_rows(tracked, f"{key} = NEW.{key}")] if same_key else []
    for group in tracked.uniques:
        matches = " AND ".join(f"{quoted(column)} = NEW.{quoted(column)}" for column in group)
        other = f"{key} IS NOT {'NEW' if same_key else 'OLD'}.{key}"
        kept.append(_keep_rows(tracked, f"{matches} AND {other}"))
    return "".join(kept)


def _keep_rows(tracked: TrackedObject, where: str) -> str:
    return (
        f"INSERT INTO statesync_log SELECT {_literal(tracked.name)}, {quoted(tracked.key)}, 0, "
        f"{tracked.image_sql('')} FROM {quoted(tracked.table)} WHERE {where}; "
    )
