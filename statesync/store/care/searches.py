"""Full-text indexes of the program's: one that is damaged is made anew from its texts."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from statesync.store.care.losses import Losses
from statesync.store.tracking.quoting import quoted

_SEARCH = re.compile(r"\s+USING\s+fts[345]\b", re.IGNORECASE)
_WITHOUT_TEXTS = re.compile(r"\bcontent\s*=\s*(''|\"\")", re.IGNORECASE)


def rebuild(connection: sqlite3.Connection, losses: Losses) -> None:
    """Make those indexes anew of which a table has lost rows; one that keeps no texts stays as it is."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND rootpage = 0")
    for name, sql in rows.fetchall():
        is_search = _SEARCH.search(sql) and not _WITHOUT_TEXTS.search(sql)
        if is_search and any(loss.table.lower().startswith(f"{name.lower()}_") for loss in losses):
            _empty(connection, name, sql)
            connection.execute(f"INSERT INTO {quoted(name)} ({quoted(name)}) VALUES ('rebuild')")


def _empty(connection: sqlite3.Connection, name: str, sql: str) -> None:
    """Let the index be as a new one, before SQLite looks at it; the texts stay."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.execute(sql)
        own = fresh.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall()
        for (table,) in own:
            if table.lower() == f"{name}_content".lower():
                continue
            connection.execute(f"DELETE FROM {quoted(table)}")
            for row in fresh.execute(f"SELECT * FROM {quoted(table)}").fetchall():
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {quoted(table)} VALUES ({marks})", row)
