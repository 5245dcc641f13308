"""The store's own tables, as numbered migrations.

``MIGRATIONS[n]`` leads from format n to n + 1. A migration and the record of it are one transaction. A
database of a higher format than this version knows is refused, never guessed at.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache

from statesync.errors import StoreCorrupt, StoreTooNew
from statesync.store.file.database import Database
from statesync.store.tracking import triggers
from statesync.store.tracking.images import record_of_image
from statesync.store.tracking.log import GONE, log_sql
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, quoted

_FORMAT_1 = """
CREATE TABLE statesync_meta (
    key TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;
INSERT INTO statesync_meta VALUES ('format', 0), ('tracking', 1);

-- How each tracked object looks, so that the database can be synced without the program's models.
CREATE TABLE statesync_object (
    name TEXT PRIMARY KEY,
    description TEXT NOT NULL
) WITHOUT ROWID;

-- What the triggers append to: every write, unfolded. image is the record before the write; a row with
-- changed = 0 only keeps an image for a write that may follow (INSERT OR REPLACE).
CREATE TABLE statesync_log (
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    changed INTEGER NOT NULL,
    image TEXT
);

-- The outbox: one net change a record. theirs is the hub's newer record that a download left aside.
CREATE TABLE statesync_change (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    operation TEXT NOT NULL,
    image TEXT,
    base INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    deferred INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    failed_in TEXT,
    theirs TEXT,
    batch TEXT,
    sent INTEGER,
    UNIQUE (object, key)
);
CREATE INDEX statesync_change_batch ON statesync_change (batch) WHERE batch IS NOT NULL;
CREATE INDEX statesync_change_failed ON statesync_change (failed_in) WHERE failed_in IS NOT NULL;

-- Where the device stands with a space: who it is there, which hub it knows, and the highest head it was
-- told of, by which a hub learns that it was restored from a backup.
CREATE TABLE statesync_space (
    name TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    number INTEGER NOT NULL DEFAULT 0,
    hub TEXT,
    epoch TEXT,
    head INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- How far each object's feed has been applied. rereading says why it is being read from the start again;
-- reread_from is the cursor that it had before.
CREATE TABLE statesync_cursor (
    object TEXT PRIMARY KEY,
    space TEXT NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0,
    filter TEXT,
    rereading TEXT,
    reread_from INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The keys that a read from the start has met so far.
CREATE TABLE statesync_seen (
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (object, key)
) WITHOUT ROWID;

-- With a rowid: sessions are in the order in which they were made, whatever the clock said (ids begin with
-- its time).
CREATE TABLE statesync_session (
    id TEXT PRIMARY KEY,
    space TEXT NOT NULL,
    objects TEXT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    error TEXT,
    started REAL NOT NULL,
    horizon INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX statesync_session_running ON statesync_session (id)
    WHERE phase NOT IN ('done', 'cancelled', 'failed');

CREATE TABLE statesync_batch (
    session TEXT NOT NULL,
    number INTEGER NOT NULL,
    direction TEXT NOT NULL,
    phase TEXT NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    space TEXT NOT NULL,
    wire_id TEXT,
    wire_number INTEGER,
    payload BLOB,
    doubt INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (session, number)
);
CREATE INDEX statesync_batch_doubt ON statesync_batch (space) WHERE doubt = 1;

CREATE TABLE statesync_transition (
    session TEXT NOT NULL,
    number INTEGER NOT NULL,
    chart TEXT NOT NULL,
    batch INTEGER,
    "trigger" TEXT NOT NULL,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    at REAL NOT NULL,
    elapsed REAL NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (session, number)
) WITHOUT ROWID;

CREATE TABLE statesync_conflict (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    at REAL NOT NULL,
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    base TEXT,
    local TEXT,
    remote TEXT,
    kept TEXT
);
CREATE INDEX statesync_conflict_session ON statesync_conflict (session);
"""

# What came to nothing is dropped after every fold: it is found without a look at all that waits.
_FORMAT_2 = """
CREATE INDEX statesync_change_empty ON statesync_change (object)
    WHERE operation = 'delete' AND image IS NULL;
"""

# A payload has a table of its own: in its batch's row it was written again whenever the batch's phase moved.
# A table is not renamed, because SQLite refuses that where any view of the program's is broken.
_FORMAT_3 = """
CREATE TABLE statesync_payload (
    session TEXT NOT NULL,
    number INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (session, number)
);
INSERT INTO statesync_payload
    SELECT session, number, payload FROM statesync_batch WHERE payload IS NOT NULL ORDER BY rowid;
CREATE TEMP TABLE statesync_batches AS
    SELECT session, number, direction, phase, records, attempts, space, wire_id, wire_number, doubt
    FROM statesync_batch ORDER BY rowid;
DROP TABLE statesync_batch;
CREATE TABLE statesync_batch (
    session TEXT NOT NULL,
    number INTEGER NOT NULL,
    direction TEXT NOT NULL,
    phase TEXT NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    space TEXT NOT NULL,
    wire_id TEXT,
    wire_number INTEGER,
    doubt INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (session, number)
);
INSERT INTO statesync_batch SELECT * FROM statesync_batches;
DROP TABLE statesync_batches;
CREATE INDEX statesync_batch_doubt ON statesync_batch (space) WHERE doubt = 1;
"""

_TRACKING_FLAG = """
CREATE TABLE statesync_tracking (is_on INTEGER NOT NULL);
INSERT INTO statesync_tracking SELECT value FROM statesync_meta WHERE key = 'tracking';
DELETE FROM statesync_meta WHERE key = 'tracking';
"""

# What is local only: what a program wrote untracked, or had before tracking. image is what the hub has
# instead. shared says of a change that some hub may have its record, whatever its image and base say; of the
# changes of an older file nobody knows it.
_LOCAL_ONLY = """
CREATE TABLE statesync_local (
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    image TEXT,
    here TEXT,
    PRIMARY KEY (object, key)
) WITHOUT ROWID;
ALTER TABLE statesync_change ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;
UPDATE statesync_change SET shared = 1;
"""


def _log_each_object_apart(connection: sqlite3.Connection) -> None:
    """Lead to format 4: each object has a log of its own, which keeps values, not images made of them.

    The triggers read the tracking flag at every write, so it has a table of its own, too.
    """
    _apply(connection, _TRACKING_FLAG)
    for name, text in connection.execute("SELECT name, description FROM statesync_object").fetchall():
        tracked = TrackedObject.from_json(name, text)
        connection.execute(log_sql(tracked))
        if has_table(connection, tracked.table):  # else setup makes it anew, with its triggers
            triggers.install(connection, tracked)
        logged = connection.execute(
            "SELECT key, changed, image FROM statesync_log WHERE object = ? ORDER BY rowid", (name,)
        )
        for key, changed, image in logged.fetchall():
            before = record_of_image(image)
            values = [(before or {}).get(column) for column in tracked.column_names]
            marks = ", ".join("?" * (3 + len(values)))
            connection.execute(
                f"INSERT INTO {quoted(tracked.log)} VALUES ({marks})",
                (key, changed, before is not None, *values),
            )
    connection.execute("DROP TABLE statesync_log")


_BASES = """
CREATE TABLE IF NOT EXISTS statesync_base (
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (object, key)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS statesync_conflict_waits
    ON statesync_conflict (object, key) WHERE waits = 1;
"""


def _let_conflicts_wait(connection: sqlite3.Connection) -> None:
    """Keep conflicts that wait for a decision, and the versions of records that are ahead of their cursor.

    ``contested`` is the version of the hub's record that ``theirs`` holds, while a change waits beside it.
    """
    _add_column(connection, "statesync_change", "contested", "INTEGER")
    _add_column(connection, "statesync_conflict", "waits", "INTEGER NOT NULL DEFAULT 0")
    _apply(connection, _BASES)


def _add_column(connection: sqlite3.Connection, table: str, column: str, declared: str) -> None:
    names = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
    if column not in names:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declared}")


def _tell_late_columns(connection: sqlite3.Connection) -> None:
    """Let changes and cursors say which columns came to their object after it was read, or changed.

    A change leaves its ``spared`` columns as the hub has them; the hub has not shown ``unread`` ones yet.
    """
    _add_column(connection, "statesync_change", "spared", "TEXT")
    _add_column(connection, "statesync_cursor", "unread", "TEXT")
    connection.execute(
        "CREATE INDEX IF NOT EXISTS statesync_change_spared ON statesync_change (object) WHERE spared "
        "IS NOT NULL"
    )


def _log_what_is_proven(connection: sqlite3.Connection) -> None:
    """Let the triggers log which records are gone, and not only that they were written.

    Of what was logged before, the last word on a record that is not there is taken for its delete, as ever.
    """
    for name, text in connection.execute("SELECT name, description FROM statesync_object").fetchall():
        tracked = TrackedObject.from_json(name, text)
        log, table, key = in_main(tracked.log), in_main(tracked.table), quoted(tracked.key)
        if not has_table(connection, tracked.table) or not has_table(connection, tracked.log):
            continue  # setup makes both anew
        connection.execute(
            f"UPDATE {log} SET changed = {GONE} WHERE rowid IN (SELECT max(rowid) FROM {log} GROUP BY key) "
            f"AND NOT EXISTS (SELECT 1 FROM {table} AS now WHERE now.{key} = {quoted(tracked.log)}.key)"
        )
        triggers.install(connection, tracked)


_QUARANTINE = """
CREATE TABLE IF NOT EXISTS statesync_quarantine (
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    data BLOB,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    in_the_way TEXT,
    session TEXT NOT NULL,
    since REAL NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (object, key)
);
CREATE INDEX IF NOT EXISTS statesync_quarantine_behind ON statesync_quarantine (object, in_the_way);
"""


def _park_what_is_refused(connection: sqlite3.Connection) -> None:
    """Let changes be parked: ``parked`` is the revision that the hub has refused, the others tell of it.

    What an older version has kept with its error is offered once more.
    """
    for column, declared in (
        ("parked", "INTEGER"),
        ("parked_field", "TEXT"),
        ("refusals", "INTEGER NOT NULL DEFAULT 0"),
        ("first_refused", "REAL"),
        ("last_refused", "REAL"),
        ("retry_at", "REAL"),
    ):
        _add_column(connection, "statesync_change", column, declared)


Migration = str | Callable[[sqlite3.Connection], None]

MIGRATIONS: tuple[Migration, ...] = (
    _FORMAT_1,
    _FORMAT_2,
    _FORMAT_3,
    _log_each_object_apart,
    _log_what_is_proven,
    _LOCAL_ONLY,
    _let_conflicts_wait,
    _tell_late_columns,
    _QUARANTINE,
    _park_what_is_refused,
)
FORMAT = len(MIGRATIONS)


def migrate(database: Database) -> None:
    """Bring the store's tables to ``FORMAT``.

    Raises ``StoreTooNew``, or ``StoreCorrupt`` for a store that has lost its format; changes nothing then.
    Several programs may do it at once: each step is taken by the one that gets to write first.
    """
    with database.snapshot() as connection:
        found = _known_format(connection, str(database))
    while found < FORMAT:
        with database.transaction() as connection:
            found = _known_format(connection, str(database))
            if found < FORMAT:
                _apply(connection, MIGRATIONS[found])
                found += 1
                connection.execute("UPDATE statesync_meta SET value = ? WHERE key = 'format'", (found,))


def _known_format(connection: sqlite3.Connection, name: str) -> int:
    found = _format_of(connection, name)
    if found > FORMAT:
        raise StoreTooNew(
            f"{name} was written by a newer statesync (format {found}, this one knows {FORMAT}); "
            "install that version or a later one"
        )
    return found


# -- what else is remembered of the file ----------------------------------------------------------


_UNKNOWN = -1


def steps_taken(connection: sqlite3.Connection) -> int:
    """Return how many of the program's migrations this file has been through; -1 if that is lost."""
    return _remembered(connection, "migrations") or 0


def settle_steps(connection: sqlite3.Connection, known: int) -> None:
    """Take all the ``known`` migrations for taken where a damaged page has taken their count.

    A migration that is taken twice destroys what it has made.
    """
    if steps_taken(connection) == _UNKNOWN:
        note_steps(connection, known)


def note_steps(connection: sqlite3.Connection, number: int) -> None:
    """Remember how many of the program's migrations this file has been through."""
    _remember(connection, "migrations", number)


def is_as_noted(connection: sqlite3.Connection) -> bool:
    """Tell whether no table, index or trigger was changed since ``note_schema``."""
    return _remembered(connection, "schema") == _version_of_schema(connection)


def note_schema(connection: sqlite3.Connection) -> None:
    """Remember how the tables are now."""
    if not is_as_noted(connection):
        _remember(connection, "schema", _version_of_schema(connection))


def _version_of_schema(connection: sqlite3.Connection) -> int:
    """Return SQLite's own count of changes to the schema of the file."""
    return int(connection.execute("PRAGMA main.schema_version").fetchone()[0])


def _remembered(connection: sqlite3.Connection, key: str) -> int | None:
    row = connection.execute("SELECT value FROM statesync_meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else int(row[0])


def _remember(connection: sqlite3.Connection, key: str, value: int) -> None:
    connection.execute("INSERT OR REPLACE INTO statesync_meta VALUES (?, ?)", (key, value))


@cache
def tables() -> tuple[str, ...]:
    """Return the names of the store's own tables, besides the log of each object."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        for migration in MIGRATIONS:
            _apply(fresh, migration)
        rows = fresh.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'statesync%'")
        return tuple(name for (name,) in rows)


def missing_tables(connection: sqlite3.Connection) -> list[str]:
    """Return which of the store's own tables are not in a database that has been set up as a store."""
    return [table for table in tables() if not has_table(connection, table)]


def restore_format(connection: sqlite3.Connection) -> None:
    """Write down again which format the file has, where that is lost: the one whose tables it has.

    Raises ``StoreCorrupt`` where it has the tables of none.
    """
    if connection.execute("SELECT 1 FROM statesync_meta WHERE key = 'format'").fetchone():
        return
    there = _own_tables(connection)
    with closing(sqlite3.connect(":memory:")) as fresh:
        found = 0
        for number, migration in enumerate(MIGRATIONS, 1):
            _apply(fresh, migration)
            if _own_tables(fresh) == there:
                found = number
    if not found:
        raise StoreCorrupt("the format of the file is lost; restore the file from a backup")
    connection.execute("INSERT INTO statesync_meta VALUES ('format', ?)", (found,))
    _remember(connection, "migrations", _UNKNOWN)


def _own_tables(connection: sqlite3.Connection) -> set[str]:
    """Return the SQL of the store's tables and indexes, without the log of each object."""
    rows = connection.execute(
        "SELECT sql FROM sqlite_master WHERE tbl_name LIKE 'statesync\\_%' ESCAPE '\\' AND sql IS NOT NULL "
        "AND (tbl_name = 'statesync_log' OR tbl_name NOT LIKE 'statesync\\_log\\_%' ESCAPE '\\') "
        "AND type IN ('table', 'index')"
    )
    return {sql for (sql,) in rows}


def is_store(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether the database called ``name`` has been set up as a store.

    Raises ``StoreCorrupt`` for one that was, and has lost the record of it.
    """
    return _format_of(connection, name) > 0


def _format_of(connection: sqlite3.Connection, name: str) -> int:
    found = {table for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "statesync_meta" in found:
        row = connection.execute("SELECT value FROM statesync_meta WHERE key = 'format'").fetchone()
        if row is None:
            raise StoreCorrupt(f"{name}: the record of the file's format is gone; repair() restores it")
        return int(row[0])
    if found.isdisjoint(tables()):
        return 0
    raise StoreCorrupt(f"{name}: the store's table statesync_meta is gone; restore the file from a backup")


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether the database has a table."""
    found = connection.execute(
        "SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE", (name,)
    )
    return found.fetchone() is not None


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    if callable(migration):
        migration(connection)
        return
    for statement in _statements(migration):
        connection.execute(statement)


def _statements(script: str) -> list[str]:
    """Split a migration into its statements: ``executescript`` would end the transaction."""
    statements: list[str] = []
    rest = ""
    for part in script.split(";"):
        rest += part + ";"
        if sqlite3.complete_statement(rest):
            statements.append(rest)
            rest = ""
    return statements
