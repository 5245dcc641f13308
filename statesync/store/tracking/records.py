"""Single records of an object's table, written and deleted by their keys.

Pages have statements for many records at once; both refuse to overwrite a record that has another key.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from statesync.conflicts import Record
from statesync.store.file.reading import StoredKey, UnreadableText, read
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted


def write(connection: sqlite3.Connection, tracked: TrackedObject, key: StoredKey, record: Record) -> None:
    """Insert or update one record. Raises ``sqlite3.IntegrityError`` for one that its table cannot hold."""
    values = {tracked.key: key, **record}
    as_text = {name for name, value in values.items() if isinstance(value, UnreadableText)}
    done = connection.execute(tracked.sql.upsert(tuple(record), as_text=as_text), tuple(values.values()))
    if not done.rowcount:
        if isinstance(key, str):
            refuse_twins(connection, tracked, [key])
        if record:  # one that is nothing but its key is left alone where it is known
            raise passed_over(tracked)


def delete(connection: sqlite3.Connection, tracked: TrackedObject, key: StoredKey) -> None:
    """Delete one record, if it is there. Raises ``sqlite3.IntegrityError`` where it stays all the same."""
    by_bytes = isinstance(key, UnreadableText)
    connection.execute(tracked.sql.delete_unreadable if by_bytes else tracked.sql.delete, (key,))
    if isinstance(key, str) and is_there(connection, tracked, key):
        raise passed_over(tracked, "the record's delete")


def delete_all(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Delete all records. Raises ``sqlite3.IntegrityError`` where one stays."""
    table = in_main(tracked.table)
    connection.execute(f"DELETE FROM {table}")
    if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None:
        raise passed_over(tracked, "the delete of a record")


def passed_over(tracked: TrackedObject, what: str = "the record") -> sqlite3.IntegrityError:
    """Return the error of a write that did not happen, and nothing was said."""
    return sqlite3.IntegrityError(f"a trigger of {tracked.table} passes over {what}")


def is_there(connection: sqlite3.Connection, tracked: TrackedObject, key: str) -> bool:
    """Tell whether a record is in its table."""
    found = f"SELECT 1 FROM {in_main(tracked.table)} WHERE {is_key(quoted(tracked.key), '?1')}"
    return connection.execute(found, (key,)).fetchone() is not None


def count(connection: sqlite3.Connection, tracked: TrackedObject) -> int:
    """Return how many records are in a table."""
    row = connection.execute(f"SELECT count(*) FROM {in_main(tracked.table)}").fetchone()
    return int(row[0])


def there_among(connection: sqlite3.Connection, tracked: TrackedObject, keys: Iterable[str]) -> set[str]:
    """Return those of ``keys`` whose records are in their table."""
    return {key for (key,) in connection.execute(tracked.sql.present, (json.dumps(list(keys)),))}


def refuse_twins(connection: sqlite3.Connection, tracked: TrackedObject, keys: Iterable[str]) -> None:
    """Raise ``sqlite3.IntegrityError`` if one of ``keys`` is, to the table, the key of another record."""
    wanted = json.dumps(list(keys))
    twins = read(connection, lambda: connection.execute(tracked.sql.twins, (wanted,)).fetchone())
    if twins is not None:
        key, twin = twins
        raise sqlite3.IntegrityError(
            f"{tracked.name} {key} cannot be stored beside {twin}: the table {tracked.table} takes the two "
            f"keys for one; declare its column {tracked.key} as TEXT, without a collation"
        )
