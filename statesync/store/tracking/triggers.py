"""Change tracking by SQL triggers, so that every write counts, whoever makes it and however.

The triggers only append to the object's log (``trigger_sql``): which record was written, and its values as
they were before. ``outbox`` makes images and net changes of them later. That keeps a tracked write cheap.

There are two kinds of them, and which one a table needs is looked at wherever they are made: a table whose
writes may write it again gets those that cost more. Files with either kind are whole.

* A flag switches tracking off within one transaction. A custom SQL function would break every other program
  that writes to the file. The flag has a table of its own: a row found by its key costs more to read.
* The flag has a third state, in which writes are logged as ever, and are local only: who folds the log reads
  it. The triggers tell it not from "on", so files with older triggers know it, too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from statesync.store.file.database import Database
from statesync.store.tracking import trigger_sql
from statesync.store.tracking.log import log_sql
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main
from statesync.store.tracking.tables.nesting import may_nest

_ON = "SELECT is_on FROM statesync_tracking"
_SET = "UPDATE statesync_tracking SET is_on = ?"
_FLAG = f"({_ON})"
_OFF, _TRACKED, _LOCAL_ONLY = 0, 1, 2
IS_UNTRACKED = f"{_FLAG} <> {_TRACKED}"
"""Whether no change for the hub is made of a write, as an expression in a trigger."""


@contextmanager
def untracked(database: Database) -> Iterator[sqlite3.Connection]:
    """Run the block as one transaction, or as a part of the open one, whose writes are not tracked.

    A block that raises is undone, flag included, even where the program goes on with its transaction.
    """
    with database.transaction() as connection, database.part(), switched_off(connection):
        yield connection


@contextmanager
def local_only(database: Database) -> Iterator[sqlite3.Connection]:
    """Run the block as ``untracked`` does, with its writes in the log: the caller folds before and after."""
    with database.transaction() as connection, database.part(), _set_to(connection, _LOCAL_ONLY):
        yield connection


@contextmanager
def switched_off(connection: sqlite3.Connection) -> Iterator[None]:
    """Track no writes of the block. A block that raises has to be undone by whoever began the transaction.

    There is no savepoint: inside one, SQLite copies every page before it writes it, which doubles the cost.
    """
    with _set_to(connection, _OFF):
        yield


@contextmanager
def _set_to(connection: sqlite3.Connection, state: int) -> Iterator[None]:
    (before,) = connection.execute(_ON).fetchone()
    connection.execute(_SET, (state,))
    yield
    connection.execute(_SET, (before,))


def home_of(connection: sqlite3.Connection, name: str) -> str | None:
    """Return the table that an object's triggers stand on, wherever it was renamed to."""
    found = connection.execute(
        "SELECT tbl_name FROM main.sqlite_master WHERE type = 'trigger' "
        "AND name IN (SELECT value FROM json_each(?)) LIMIT 1",
        (json.dumps([trigger_sql.trigger_name(name, what) for what in trigger_sql.KINDS]),),
    ).fetchone()
    return None if found is None else str(found[0])


def are_lost(connection: sqlite3.Connection, known: TrackedObject) -> bool:
    """Tell whether an object has lost a trigger, or its log: writes to it were not seen.

    Of those that see writes within writes other versions know nothing. They have the others, by these names.
    """
    names = [known.log, *_plain(known)]
    row = connection.execute(
        "SELECT count(*) FROM main.sqlite_master "
        "WHERE type IN ('table', 'trigger') AND name IN (SELECT value FROM json_each(?))",
        (json.dumps(names),),
    ).fetchone()
    return int(row[0]) < len(names) or not has_log(connection, known)


def is_on(connection: sqlite3.Connection) -> bool:
    """Tell whether writes are tracked."""
    return connection.execute(_ON).fetchall() == [(_TRACKED,)]


def are_local(connection: sqlite3.Connection) -> bool:
    """Tell whether what is logged now is local only."""
    return connection.execute(_ON).fetchall() == [(_LOCAL_ONLY,)]


def switch_on(connection: sqlite3.Connection) -> None:
    """Track writes again, whatever became of the flag. Runs in a transaction."""
    connection.execute("DELETE FROM statesync_tracking")
    connection.execute("INSERT INTO statesync_tracking VALUES (1)")


def install(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Create the object's log and triggers, replacing those of an older description. Runs in a transaction.

    The caller has folded what was logged under an older description. Those of a table whose writes may have
    become nested, or are so no longer, are replaced, too; the log holds what both kinds say.
    """
    made = _nested(tracked) if may_nest(connection, tracked.table) else _plain(tracked)
    wanted = {tracked.log: log_sql(tracked), **made}
    found = _found(connection, tracked)
    for name in found.keys() - wanted.keys():
        connection.execute(f"DROP TRIGGER {in_main(name)}")
    for name, sql in wanted.items():
        if found.get(name) != sql:
            _drop(connection, tracked, name)
            connection.execute(_created_in_main(sql))


def remove(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Drop the object's log and triggers."""
    set_aside(connection, tracked)
    _drop(connection, tracked, tracked.log)


def set_aside(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Drop the object's triggers, wherever they stand; ``install`` makes them anew."""
    for what in trigger_sql.KINDS:
        name = trigger_sql.trigger_name(tracked.name, what)
        connection.execute(f"DROP TRIGGER IF EXISTS {in_main(name)}")


def has_log(connection: sqlite3.Connection, tracked: TrackedObject) -> bool:
    """Tell whether the object's log is in the database as it should be."""
    return _found(connection, tracked).get(tracked.log) == log_sql(tracked)


def missing_triggers(connection: sqlite3.Connection, tracked: TrackedObject) -> list[str]:
    """Return the names of the object's triggers that are not in the database as they should be.

    Which kind they should be of is what they were made as; ``install`` looks at the table.
    """
    found = _found(connection, tracked)
    kinds = (_plain(tracked), _nested(tracked))
    lacking = [[name for name, sql in kind.items() if found.get(name) != sql] for kind in kinds]
    return min(lacking, key=len)


def _found(connection: sqlite3.Connection, tracked: TrackedObject) -> dict[str, str]:
    """Return the log and the triggers that the object has in the database."""
    rows = connection.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'table' AND name = :log OR type = 'trigger' "
        "AND tbl_name = :table COLLATE NOCASE AND name LIKE 'statesync\\_%' ESCAPE '\\'",
        {"log": tracked.log, "table": tracked.table},
    )
    return dict(rows.fetchall())


def _drop(connection: sqlite3.Connection, tracked: TrackedObject, name: str) -> None:
    kind = "TABLE" if name == tracked.log else "TRIGGER"
    connection.execute(f"DROP {kind} IF EXISTS {in_main(name)}")


def _created_in_main(sql: str) -> str:
    """Return a CREATE statement for the store's own file; SQLite keeps its text without the schema."""
    create, kind, rest = sql.split(" ", 2)
    return f"{create} {kind} main.{rest}"


def _plain(tracked: TrackedObject) -> dict[str, str]:
    return dict(trigger_sql.plain(tracked, _FLAG))


def _nested(tracked: TrackedObject) -> dict[str, str]:
    return dict(trigger_sql.nested(tracked, _FLAG))
