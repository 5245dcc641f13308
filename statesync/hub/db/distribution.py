"""Spreading the hub's tables over the machines of a distributed PostgreSQL (Citus), by their space.

``hub_meta`` belongs to no space. It stays on the coordinator alone: a copy on every machine would have to be
written on all of them for each new space, so none could be made anywhere while one machine is away.
"""

from __future__ import annotations

from collections.abc import Callable

from statesync.hub.db.database import Database
from statesync.hub.db.postgres import DETOURS
from statesync.hub.errors import CannotDistribute

_TABLES = ("space", "record", "receipt", "token", "mark", "living")

_KNOWN = """
SELECT coalesce(bool_or(setconfig @> ARRAY[{settings}]), false) FROM pg_db_role_setting
WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = session_user)
    AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
""".format(settings=", ".join(f"'enable_{way}=off'" for way in DETOURS))
"""Asks a machine whether it knows the planner's settings for the role."""

_LOCK = 7_220_413
"""The number of the lock by which two commands at once do this one after the other."""


def one_machine() -> CannotDistribute:
    """Return the refusal of a database that cannot have the extension."""
    return CannotDistribute("SQLite is one file on one machine; use a PostgreSQL with the Citus extension")


def distribute(database: Database, say: Callable[[str], object]) -> None:
    """Distribute the tables that are not distributed yet, and ``say`` of each what it is now.

    What an earlier version has left otherwise is mended. Raises ``CannotDistribute`` where the database has
    no Citus extension: nothing has changed then.
    """
    with database.writing():
        _check_extension(database)
        database.run("SELECT pg_advisory_xact_lock(?)", _LOCK)
        before = [table for table in _TABLES if _is_distributed(database, table)]
        new = [table for table in _TABLES if table not in before]
        for table in new:
            _distribute(database, table)
    for some, since in ((before, "before"), (new, "now")):
        if some:
            say(f"distributed by their space {since}: {', '.join(some)}")
    _keep_here(database, "hub_meta", say)
    for table in _TABLES:
        _drop_leftovers(database, table, say)
    _forbid_detours(database, say)


def _check_extension(database: Database) -> None:
    if database.run("SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchone() is None:
        raise CannotDistribute(
            "this PostgreSQL has no Citus extension, so its tables stay on one server, where they work "
            "as before. To distribute them, install Citus, run CREATE EXTENSION citus, and repeat this"
        )


def _distribute(database: Database, table: str) -> None:
    # Tables that are distributed together keep the rows of a space on one machine: no query crosses machines.
    together = "default" if table == _TABLES[0] else _TABLES[0]
    database.run("SELECT create_distributed_table(?, 'space', colocate_with => ?)", table, together)


def _keep_here(database: Database, table: str, say: Callable[[str], object]) -> None:
    """Leave a table on the coordinator; take back the copies on other machines that an older version made."""
    with database.writing():
        was_copied = _is_distributed(database, table)
        if was_copied:
            database.run("SELECT undistribute_table(?)", table)
    say(f"on the coordinator alone {'now' if was_copied else 'before'}: {table}")


def _drop_leftovers(database: Database, table: str, say: Callable[[str], object]) -> None:
    """Remove the rows that stayed in the table here when they were copied to where they belong."""
    with database.writing():
        (size,) = database.run("SELECT pg_relation_size(?::regclass)", table).fetchone()
        if size:
            database.run("SELECT truncate_local_data_after_distributing_table(?::regclass)", table)
            say(f"removed what was left of {table} on the coordinator: {size} bytes")


def _forbid_detours(database: Database, say: Callable[[str], object]) -> None:
    """Tell the planner of every machine what the hub's connections tell that of the coordinator.

    What a connection begins with does not reach the other machines; what belongs to its role does, if the
    extension has made that role there.
    """
    with database.writing():
        names = "SELECT quote_ident(session_user), quote_ident(current_database())"
        role, name = database.run(names).fetchone()
        settings = [f"ALTER ROLE {role} IN DATABASE {name} SET enable_{way} = off" for way in DETOURS]
        for setting in settings:  # not by ``run``, to which a name with a ``?`` would have a parameter
            database.pool.cursor().execute(setting)
    say(f"the planner walks along indexes for {role} in {name}: restart every hub on it, once")
    with database.writing():
        answers = (
            "SELECT nodename, nodeport FROM run_command_on_workers(?) WHERE NOT success OR result <> 't'"
        )
        for host, port in database.run(answers, _KNOWN).fetchall():
            say(f"but not on {host}:{port}, which was not told; run there: {'; '.join(settings)}")


def _is_distributed(database: Database, table: str) -> bool:
    found = database.run("SELECT 1 FROM pg_dist_partition WHERE logicalrelid = ?::regclass", table)
    return found.fetchone() is not None
