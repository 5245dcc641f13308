"""The hub's own tables, as numbered migrations: ``migrate`` runs the missing ones, ``check`` refuses.

Every table of records and clients is keyed by its space first, so that a distributed database can shard by
space. Only ``hub_meta`` belongs to the database as a whole.
"""

from __future__ import annotations

import sqlite3

import peewee

from statesync.errors import UsageError
from statesync.hub.db.advice import lacks_table, what_to_do
from statesync.hub.db.database import Database
from statesync.hub.errors import BadDatabase, HubNotReady, HubTooNew, Refused

_UNUSABLE = (peewee.PeeweeException, sqlite3.Error, UsageError)
"""What is raised where a database is not one that a hub can use."""

_FIRST = """
CREATE TABLE space (
    space TEXT NOT NULL PRIMARY KEY,
    hub TEXT NOT NULL,
    epoch TEXT NOT NULL,
    head BIGINT NOT NULL,
    horizon BIGINT NOT NULL,
    created TEXT NOT NULL
);
CREATE TABLE record (
    space TEXT NOT NULL,
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    version BIGINT NOT NULL,
    writer TEXT NOT NULL,
    deleted BOOLEAN NOT NULL,
    data TEXT,
    PRIMARY KEY (space, object, key)
);
CREATE UNIQUE INDEX record_feed ON record (space, object, version);
CREATE INDEX record_deleted ON record (space, version) WHERE deleted;
CREATE TABLE receipt (
    space TEXT NOT NULL,
    client TEXT NOT NULL,
    number BIGINT NOT NULL,
    batch TEXT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (space, client)
);
CREATE TABLE reader (
    space TEXT NOT NULL,
    client TEXT NOT NULL,
    object TEXT NOT NULL,
    horizon BIGINT NOT NULL,
    PRIMARY KEY (space, client, object)
);
CREATE TABLE token (
    space TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,
    rights TEXT NOT NULL,
    label TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    revoked BIGINT,
    PRIMARY KEY (space, id)
)
"""

_MARKS = """
CREATE TABLE mark (
    space TEXT NOT NULL,
    day BIGINT NOT NULL,
    head BIGINT NOT NULL,
    PRIMARY KEY (space, day)
)
"""

_EPOCHS = """
ALTER TABLE space ADD COLUMN begun BIGINT NOT NULL DEFAULT 0
"""
"""When the epoch began, in seconds of the wall clock; 0 for the first one."""

_NO_READERS = """
DROP TABLE reader
"""
"""The hub noted there who was reading from the start. Devices say it themselves; a pull writes nothing."""

_LIVING = """
CREATE TABLE living (
    space TEXT NOT NULL,
    object TEXT NOT NULL,
    records BIGINT NOT NULL,
    PRIMARY KEY (space, object)
);
INSERT INTO living (space, object, records)
    SELECT space, object, count(*) FROM record WHERE NOT deleted GROUP BY space, object
"""
"""How many records of an object are not deleted: to count a million of them takes longer than a page."""

MIGRATIONS: tuple[str, ...] = (_FIRST, _MARKS, _EPOCHS, _NO_READERS, _LIVING)
"""What each version of the schema adds to the one before, in statements for either database."""

_META = "CREATE TABLE IF NOT EXISTS hub_meta (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)"


def migrate(database: Database) -> int:
    """Bring the database's schema to this version and return how many migrations that took.

    Each migration and its record are one transaction. Raises ``HubTooNew`` for the schema of a newer version,
    and ``BadDatabase`` for a database that cannot be reached or written.
    """
    try:
        _begin(database)
        done = 0
        while _migrate(database):
            done += 1
    except (*_UNUSABLE, Refused) as error:
        raise _unusable(error) from error
    return done


def check(database: Database) -> None:
    """Raise ``HubNotReady`` or ``HubTooNew`` unless the database's schema is that of this version.

    Raises ``BadDatabase`` for a database that is none, or that cannot be reached or read.
    """
    try:
        with database.reading():
            database.dialect.check_usable(database.pool)
            version = _version(database)
    except _UNUSABLE as error:
        raise (_no_hub() if lacks_table(error) else _unusable(error)) from error
    _refuse_newer(version)
    if version < len(MIGRATIONS):
        raise HubNotReady(
            f"the database has schema {version} and this version needs {len(MIGRATIONS)}; "
            "stop every hub on it, make a backup, and run: statesync hub init --database URL"
        )


def _begin(database: Database) -> None:
    with database.writing():
        database.dialect.check_usable(database.pool)
        database.run(_META)
        for name in ("schema", "spaces"):
            database.run("INSERT INTO hub_meta VALUES (?, 0) ON CONFLICT DO NOTHING", name)


def _no_hub() -> HubNotReady:
    return HubNotReady("the database has no hub in it; make one with: statesync hub init --database URL")


def _unusable(error: BaseException) -> BadDatabase:
    if isinstance(error, Refused) and error.__cause__ is not None:  # it speaks to devices
        error = error.__cause__
    return BadDatabase(f"the database cannot be used ({str(error).strip()}); {what_to_do(error)}")


def _migrate(database: Database) -> bool:
    with database.writing():
        version = _version(database, database.dialect.row_lock)
        _refuse_newer(version)
        if version == len(MIGRATIONS):
            return False
        for statement in MIGRATIONS[version].split(";"):
            database.run(statement.replace("TEXT", database.dialect.text_type))
        database.run("UPDATE hub_meta SET value = ? WHERE name = 'schema'", version + 1)
    return True


def _version(database: Database, row_lock: str = "") -> int:
    row = database.run(f"SELECT value FROM hub_meta WHERE name = 'schema'{row_lock}").fetchone()
    return int(row[0])


def _refuse_newer(version: int) -> None:
    if version > len(MIGRATIONS):
        raise HubTooNew(
            f"the database has schema {version}, made by a newer statesync; this one "
            f"knows {len(MIGRATIONS)}. Upgrade statesync, or use another database"
        )
