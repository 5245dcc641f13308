"""Which tables may be written again within a write of their own, before that has ended.

A trigger of the program's own may write any table, and a foreign key's action writes the table that has the
key, whose triggers go on from there. Whether a connection enforces foreign keys is its own affair.
"""

from __future__ import annotations

import sqlite3

_IDLE = "('NO ACTION', 'RESTRICT')"


def may_nest(connection: sqlite3.Connection, table: str) -> bool:
    """Tell whether a write of a table may write it again.

    Triggers that are temporary are seen by nobody but the connection that made them.
    """
    with_triggers, start = _with_triggers(connection), _folded(connection, table)
    if start in with_triggers:
        return True
    writes = _written_by_actions(connection)
    reached: set[str] = set()
    ahead = set(writes.get(start, ()))
    while ahead:
        reached |= ahead
        ahead = {child for name in ahead for child in writes.get(name, ())} - reached
    return start in reached or not reached.isdisjoint(with_triggers)


def _folded(connection: sqlite3.Connection, table: str) -> str:
    """Return a table's name as SQLite compares it: only the letters of ASCII have no case."""
    return str(connection.execute("SELECT lower(?)", (table,)).fetchone()[0])


def _with_triggers(connection: sqlite3.Connection) -> set[str]:
    """Return the tables that have triggers besides those which track them."""
    rows = connection.execute(
        "SELECT DISTINCT lower(tbl_name) FROM main.sqlite_master WHERE type = 'trigger' "
        "AND name NOT LIKE 'statesync\\_%' ESCAPE '\\'"
    )
    return {table for (table,) in rows}


def _written_by_actions(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """Return the tables that foreign keys' actions write, by the table whose write makes them do so."""
    rows = connection.execute(
        'SELECT lower(key."table"), lower(made.name) FROM main.sqlite_master AS made '
        "CROSS JOIN pragma_foreign_key_list(made.name, 'main') AS key "
        "WHERE made.type = 'table' AND made.sql LIKE '%REFERENCES%' "
        f"AND NOT (key.on_update IN {_IDLE} AND key.on_delete IN {_IDLE})"
    )
    found: dict[str, set[str]] = {}
    for parent, child in rows:
        found.setdefault(parent, set()).add(child)
    return found
