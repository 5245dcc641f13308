"""Change tracking by SQL triggers, so that every write counts, whoever makes it and however.

The triggers only append to the object's log: which record was written, and its values as they were before.
``outbox`` makes images and net changes of them later. That keeps a tracked write cheap.

Traps that the triggers answer for (measured on SQLite 3.40):

* INSERT OR REPLACE fires no delete trigger, and an AFTER INSERT trigger cannot see the old row any more.
  So BEFORE INSERT keeps the values of all rows that the new one may replace, by key or by a unique
  index (``KEPT``): they count only if the write really happened. The AFTER trigger looks which are gone.
  An index may be of expressions, of some records alone, and of a collation of its own; triggers compare as it
  does.
* That a record cannot be found proves nothing: it may have been deleted untracked, or lost. Only what a
  trigger saw going is ``GONE``, under a key that is a text: a key that the table has made a number of may
  have been another text.
* A change of the key is a delete of one record and an insert of another. Its triggers are there for
  statements that set the key: a trigger costs its call, even where it has nothing to do.
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
from statesync.store.tracking.description import UniqueIndex
from statesync.store.tracking.log import GONE, KEPT, WRITTEN, log_sql
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, quoted

_ON = "SELECT is_on FROM statesync_tracking"
_SET = "UPDATE statesync_tracking SET is_on = ?"
_FLAG = f"({_ON})"
_KINDS = ("insert_before", "insert", "delete", "update", "rekey", "update_before", "rekey_before")
_OFF, _TRACKED, _LOCAL_ONLY = 0, 1, 2
IS_UNTRACKED = f"{_FLAG} <> {_TRACKED}"
"""Whether no change for the hub is made of a write, as an expression in a trigger."""
_WITHIN = 1
"""How many rows may stand at the log's end, besides one a unique index, that were kept for a write. Rows
further up were kept for writes that did not follow: what is missing of those may have gone otherwise."""


@contextmanager
def untracked(database: Database) -> Iterator[sqlite3.Connection]:
    """Run the block as one transaction, or as a part of the open one, whose writes are not tracked.

    A block that raises is undone, flag included, even where the program goes on with its transaction.
    """
    with database.transaction() as connection, database.peewee.atomic(), switched_off(connection):
        yield connection


@contextmanager
def local_only(database: Database) -> Iterator[sqlite3.Connection]:
    """Run the block as ``untracked`` does, with its writes in the log: the caller folds before and after."""
    with database.transaction() as connection, database.peewee.atomic(), _set_to(connection, _LOCAL_ONLY):
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
        (json.dumps([_trigger_name(name, what) for what in _KINDS]),),
    ).fetchone()
    return None if found is None else str(found[0])


def are_lost(connection: sqlite3.Connection, known: TrackedObject) -> bool:
    """Tell whether an object has lost a trigger, or its log: writes to it were not seen."""
    names = [name for name, _ in _parts(known)]
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

    The caller has folded what was logged under an older description.
    """
    wanted = dict(_parts(tracked))
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
    for what in _KINDS:
        connection.execute(f"DROP TRIGGER IF EXISTS {in_main(_trigger_name(tracked.name, what))}")


def has_log(connection: sqlite3.Connection, tracked: TrackedObject) -> bool:
    """Tell whether the object's log is in the database as it should be."""
    return _found(connection, tracked).get(tracked.log) == log_sql(tracked)


def missing_triggers(connection: sqlite3.Connection, tracked: TrackedObject) -> list[str]:
    """Return the names of the object's triggers that are not in the database as they should be."""
    found = _found(connection, tracked)
    return [name for name, sql in _parts(tracked) if name != tracked.log and found.get(name) != sql]


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


def _parts(tracked: TrackedObject) -> Iterator[tuple[str, str]]:
    """Yield the name and SQL of the log and of each trigger."""
    key = quoted(tracked.key)
    is_other = f"OLD.{key} IS NOT NEW.{key} COLLATE BINARY"
    same, moved = f"NOT ({is_other}) AND {_FLAG}", f"{is_other} AND {_FLAG}"
    replaced = _find_replaced(tracked) if tracked.uniques else ""
    new, old, gone = _append_new(tracked), _append_old(tracked), _append_gone(tracked)
    by_key = f"{key} = NEW.{key}"
    yield tracked.log, log_sql(tracked)
    yield _keeper(tracked, "insert_before", "BEFORE INSERT", [by_key, *_clashes(tracked, f"NEW.{key}")])
    yield _trigger(tracked, "insert", "AFTER INSERT", _FLAG, replaced + new)
    yield _trigger(tracked, "delete", "AFTER DELETE", _FLAG, gone)
    yield _trigger(tracked, "update", "AFTER UPDATE", same, replaced + old)
    yield _trigger(tracked, "rekey", f"AFTER UPDATE OF {key}", moved, replaced + gone + new)
    if tracked.uniques:
        yield _keeper(tracked, "update_before", "BEFORE UPDATE", _clashes(tracked, f"OLD.{key}"))
    yield _trigger(tracked, "rekey_before", f"BEFORE UPDATE OF {key}", moved, _keep_rows(tracked, by_key))


def _trigger(tracked: TrackedObject, what: str, when: str, only: str, body: str) -> tuple[str, str]:
    name = _trigger_name(tracked.name, what)
    table = quoted(tracked.table)
    return name, f"CREATE TRIGGER {quoted(name)} {when} ON {table} WHEN {only} BEGIN {body} END"


def _trigger_name(name: str, what: str) -> str:
    return f"statesync_{name}_{what}"


def _keeper(tracked: TrackedObject, what: str, when: str, replaced: list[str]) -> tuple[str, str]:
    """Return the trigger that keeps the rows that NEW may replace.

    Mostly there are none. To look for them costs less than to begin the trigger's body.
    """
    found = (f"EXISTS (SELECT 1 FROM {quoted(tracked.table)} WHERE {where})" for where in replaced)
    only = f"{_FLAG} AND ({' OR '.join(found)})"
    body = "".join(_keep_rows(tracked, where) for where in replaced)
    return _trigger(tracked, what, when, only, body)


def _clashes(tracked: TrackedObject, own_key: str) -> list[str]:
    """Return the conditions on other rows that have NEW's values in a unique index."""
    key = quoted(tracked.key)
    others = f"{key} IS NOT {own_key} AND typeof({key}) = 'text'"
    return [" AND ".join((*_clash(tracked, index), others)) for index in tracked.uniques]


def _clash(tracked: TrackedObject, index: UniqueIndex) -> Iterator[str]:
    """Yield what makes a row clash with NEW in one index; SQLite finds such rows by that index."""
    if index.where is not None:
        yield f"({index.where})"
        yield _of_new(tracked, index.where)
    for term in index.terms:
        new = _of_new(tracked, term.sql) if term.is_expression else f"NEW.{term.sql}"
        yield f"({term.sql}) = {new} COLLATE {quoted(term.collation)}"


def _of_new(tracked: TrackedObject, expression: str) -> str:
    """Return what an expression of the table's columns is for NEW."""
    names = map(quoted, (tracked.key, *tracked.column_names, *tracked.others))
    columns = ", ".join(f"NEW.{name} AS {name}" for name in names)
    return f"(SELECT ({expression}) FROM (SELECT {columns}))"


def _append_new(tracked: TrackedObject) -> str:
    return (
        f"INSERT INTO {quoted(tracked.log)} (key, changed, known) "
        f"VALUES (NEW.{quoted(tracked.key)}, {WRITTEN}, 0); "
    )


def _append_old(tracked: TrackedObject) -> str:
    return f"INSERT INTO {quoted(tracked.log)} VALUES ({_logged(tracked, 'OLD.', str(WRITTEN))}); "


def _append_gone(tracked: TrackedObject) -> str:
    changed = f"CASE typeof(OLD.{quoted(tracked.key)}) WHEN 'text' THEN {GONE} ELSE {WRITTEN} END"
    return f"INSERT INTO {quoted(tracked.log)} VALUES ({_logged(tracked, 'OLD.', changed)}); "


def _find_replaced(tracked: TrackedObject) -> str:
    """Return the statement that marks as gone what the write has replaced of the rows kept before it."""
    log, key = quoted(tracked.log), quoted(tracked.key)
    return (
        f"UPDATE {log} SET changed = {GONE} WHERE changed = {KEPT} "
        f"AND rowid > (SELECT max(rowid) - {_WITHIN + len(tracked.uniques)} FROM {log}) "
        f"AND NOT EXISTS (SELECT 1 FROM {quoted(tracked.table)} AS now WHERE now.{key} = {log}.key); "
    )


def _keep_rows(tracked: TrackedObject, where: str) -> str:
    return (
        f"INSERT INTO {quoted(tracked.log)} SELECT {_logged(tracked, '', str(KEPT))} "
        f"FROM {quoted(tracked.table)} WHERE {where}; "
    )


def _logged(tracked: TrackedObject, row: str, changed: str) -> str:
    """Return what the log gets of a record that is there before the write."""
    values = [f"{row}{quoted(name)}" for name in tracked.column_names]
    return ", ".join((f"{row}{quoted(tracked.key)}", changed, "1", *values))
