"""Statements about the tables themselves: a migration's, and the questions that it asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

Migration = str | Callable[[sqlite3.Connection], None]
"""A script, or what runs its statements by itself. It does not end the transaction."""


def apply(connection: sqlite3.Connection, migration: Migration) -> None:
    """Let a migration happen, within the transaction."""
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


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether the database has a table."""
    found = connection.execute(
        "SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE", (name,)
    )
    return found.fetchone() is not None


def add_column(connection: sqlite3.Connection, table: str, column: str, declared: str) -> None:
    """Give a table a column, unless it has it."""
    names = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
    if column not in names:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declared}")
