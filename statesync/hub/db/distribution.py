"""Spreading the hub's tables over the machines of a distributed PostgreSQL (Citus), by their space."""

from __future__ import annotations

from statesync.hub.db.database import Database
from statesync.hub.errors import CannotDistribute

_TABLES = ("space", "record", "receipt", "token", "mark")


def one_machine() -> CannotDistribute:
    """Return the refusal of a database that cannot have the extension."""
    return CannotDistribute("SQLite is one file on one machine; use a PostgreSQL with the Citus extension")


def distribute(database: Database) -> int:
    """Distribute the tables that are not distributed yet; return how many that were.

    Raises ``CannotDistribute`` where the database has no Citus extension: nothing has changed then.
    """
    with database.writing():
        if database.run("SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchone() is None:
            raise CannotDistribute(
                "this PostgreSQL has no Citus extension, so its tables stay on one server, where they work "
                "as before. To distribute them, install Citus, run CREATE EXTENSION citus, and repeat this"
            )
        return sum(_distribute(database, table) for table in _TABLES) + _copy_everywhere(database, "hub_meta")


def _distribute(database: Database, table: str) -> bool:
    if _is_distributed(database, table):
        return False
    # Tables that are distributed together keep the rows of a space on one machine: no query crosses machines.
    together = "default" if table == _TABLES[0] else _TABLES[0]
    database.run("SELECT create_distributed_table(?, 'space', colocate_with => ?)", table, together)
    return True


def _copy_everywhere(database: Database, table: str) -> bool:
    if _is_distributed(database, table):
        return False
    database.run("SELECT create_reference_table(?)", table)
    return True


def _is_distributed(database: Database, table: str) -> bool:
    found = database.run("SELECT 1 FROM pg_dist_partition WHERE logicalrelid = ?::regclass", table)
    return found.fetchone() is not None
