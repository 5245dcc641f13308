"""Conflict policies: pure functions that decide what is kept when both sides changed a record.

A policy is called as ``policy(base, local, remote)``. Each is a record as a dict from column to the value
that SQLite stores (text for dates, 0 or 1 for booleans), or None where the record does not exist on that
side: a None in ``local`` or ``remote`` is a delete, a None in ``base`` says that both sides made the record
anew. It returns what to keep, None for a delete. Whatever it does not keep goes to the conflict log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Record = dict[str, Any]
Policy = Callable[[Record | None, Record | None, Record | None], Record | None]


def merge_fields(base: Record | None, local: Record | None, remote: Record | None) -> Record | None:
    """Three-way by field: who changed a field wins it, the hub where both did, or where one side deleted.

    A delete against an unchanged record is a delete, whichever side it comes from.
    """
    if local is None or remote is None:
        if remote is None or remote != base:
            return remote
        return local
    known = base or {}
    ours = {
        column: value
        for column, value in local.items()
        if column not in remote or (column in known and remote[column] == known[column])
    }
    return remote | ours


def server_wins(base: Record | None, local: Record | None, remote: Record | None) -> Record | None:  # noqa: ARG001
    """Keep what the hub has."""
    return remote


def client_wins(base: Record | None, local: Record | None, remote: Record | None) -> Record | None:  # noqa: ARG001
    """Keep what the device has."""
    return local


POLICIES: dict[str, Policy] = {
    "merge_fields": merge_fields,
    "server_wins": server_wins,
    "client_wins": client_wins,
}
"""The ready policies by the names that options and the command line accept."""
