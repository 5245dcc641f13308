"""The store's own tables, as numbered migrations.

``MIGRATIONS[n]`` leads from format n to n + 1. What is released stays as it is: a change is one more at the
end. A migration and the record of it are one transaction.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from statesync.store.schema.first import FORMAT_1
from statesync.store.schema.statements import Migration, add_column, apply, has_table
from statesync.store.tracking import triggers
from statesync.store.tracking.images import record_of_image
from statesync.store.tracking.log import GONE, log_sql
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, quoted

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
    apply(connection, _TRACKING_FLAG)
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
    add_column(connection, "statesync_change", "contested", "INTEGER")
    add_column(connection, "statesync_conflict", "waits", "INTEGER NOT NULL DEFAULT 0")
    apply(connection, _BASES)


def _tell_late_columns(connection: sqlite3.Connection) -> None:
    """Let changes and cursors say which columns came to their object after it was read, or changed.

    A change leaves its ``spared`` columns as the hub has them; the hub has not shown ``unread`` ones yet.
    """
    add_column(connection, "statesync_change", "spared", "TEXT")
    add_column(connection, "statesync_cursor", "unread", "TEXT")
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
        add_column(connection, "statesync_change", column, declared)


def _tell_missed_deletes(connection: sqlite3.Connection) -> None:
    """Let cursors and changes say how far deletes are known, where that is not how far versions are.

    ``missed_from`` is that of records that a read from the start has not met, ``since`` that of a change
    whose base means nothing any more. What is under way may be in doubt already.
    """
    add_column(connection, "statesync_cursor", "missed_from", "INTEGER NOT NULL DEFAULT 0")
    add_column(connection, "statesync_change", "since", "INTEGER NOT NULL DEFAULT 0")
    connection.execute("UPDATE statesync_cursor SET missed_from = reread_from")
    connection.execute("UPDATE statesync_change SET shared = 2 WHERE batch IS NOT NULL")


def _tell_when_a_read_began(connection: sqlite3.Connection) -> None:
    """Let cursors say where the hub's head was when the read from the start began that is under way.

    Of one that is under way already nobody knows it; the hub judges it as it did, or has it begun anew.
    """
    add_column(connection, "statesync_cursor", "begun", "INTEGER NOT NULL DEFAULT 0")


# That nobody knows how far an object was read was said by 1, which may also be how far it was.
_UNKNOWN_IS_NO_VERSION = """
UPDATE statesync_cursor SET reread_from = -1 WHERE reread_from = 1 AND rereading = 'epoch';
"""


def _keep_positions_of_scans(connection: sqlite3.Connection) -> None:
    """Let cursors say how far a read in the order of keys has come, and how far earlier ones had.

    A read from version 0 that is under way has none, and a cursor: it is ended as one.
    """
    add_column(connection, "statesync_cursor", "since", "INTEGER NOT NULL DEFAULT 0")
    add_column(connection, "statesync_cursor", "after", "TEXT NOT NULL DEFAULT ''")
    add_column(connection, "statesync_cursor", "until", "TEXT NOT NULL DEFAULT ''")
    add_column(connection, "statesync_cursor", "floors", "TEXT NOT NULL DEFAULT '[]'")


# The indexes that were dropped while a table is filled, and wait to be built, with their statements.
_INDEXES = """
CREATE TABLE IF NOT EXISTS statesync_index (
    name TEXT PRIMARY KEY,
    tablename TEXT NOT NULL,
    sql TEXT NOT NULL
) WITHOUT ROWID;
"""


def _tell_what_is_to_come(connection: sqlite3.Connection) -> None:
    """Let cursors say how many records a scan has yet to bring; of one under way nobody has kept it."""
    add_column(connection, "statesync_cursor", "to_come", "INTEGER")


# Runs of changes that are under way with a batch. In an older file each change says so by itself, as it may.
_UNDER_WAY = """
CREATE TABLE IF NOT EXISTS statesync_sent (
    batch TEXT PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    revision INTEGER NOT NULL
) WITHOUT ROWID;
"""

# The range of changes that the hub has taken, and that still stand in the outbox; there is one at most.
_SETTLED = """
CREATE TABLE IF NOT EXISTS statesync_settled (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    revision INTEGER NOT NULL
);
"""


MIGRATIONS: tuple[Migration, ...] = (
    FORMAT_1,
    _FORMAT_2,
    _FORMAT_3,
    _log_each_object_apart,
    _log_what_is_proven,
    _LOCAL_ONLY,
    _let_conflicts_wait,
    _tell_late_columns,
    _QUARANTINE,
    _park_what_is_refused,
    _tell_missed_deletes,
    _tell_when_a_read_began,
    _UNKNOWN_IS_NO_VERSION,
    _keep_positions_of_scans,
    _INDEXES,
    _tell_what_is_to_come,
    _UNDER_WAY,
    _SETTLED,
)
FORMAT = len(MIGRATIONS)


def format_by_tables(connection: sqlite3.Connection) -> int:
    """Return the format whose tables a file has, by their very SQL; 0 if it has the tables of none."""
    there, found = _own_tables(connection), 0
    with closing(sqlite3.connect(":memory:")) as fresh:
        for number, migration in enumerate(MIGRATIONS, 1):
            apply(fresh, migration)
            if _own_tables(fresh) == there:
                found = number
    return found


def _own_tables(connection: sqlite3.Connection) -> set[str]:
    """Return the SQL of the store's tables and indexes, without the log of each object."""
    rows = connection.execute(
        "SELECT sql FROM sqlite_master WHERE tbl_name LIKE 'statesync\\_%' ESCAPE '\\' AND sql IS NOT NULL "
        "AND (tbl_name = 'statesync_log' OR tbl_name NOT LIKE 'statesync\\_log\\_%' ESCAPE '\\') "
        "AND type IN ('table', 'index')"
    )
    return {sql for (sql,) in rows}
