"""Changes that the hub has taken and that still stand in the outbox. It alone owns ``statesync_settled``.

To take a batch out touches every page of the outbox's unique index where keys are random. So a run that was
taken whole is only *settled* while others wait behind it: one row here says that it counts for nothing. What
is settled goes all at once: when it is much, when the session ends, and before anybody adds to the outbox.

What keeps that from doing harm:

* Whoever looks for what waits reads ``WAITING``, and never the table.
* Whoever adds to the outbox has the name of the table from ``into``, which takes out first what is settled:
  an edit never meets such a change.
* What is not as it went up is not settled, whatever the range says.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

TABLE = "statesync_settled"

MOST = 20_000
"""How many changes are settled at most."""

FEW = 100_000
"""Behind more changes than so many nothing is settled.

To take ``MOST`` out of a larger outbox is longer than a batch may be, and touches as many pages as all their
batches would by themselves.
"""

WAITING = (
    "(SELECT * FROM statesync_change WHERE position > ifnull((SELECT last FROM statesync_settled), 0) "
    "OR position < (SELECT first FROM statesync_settled) "
    "OR revision <> (SELECT revision FROM statesync_settled))"
)
"""The changes that wait, to stand behind a FROM: all there are, but what is settled."""

COUNT_WAITING = (
    "((SELECT count(*) FROM statesync_change) - (SELECT count(*) FROM statesync_change "
    "WHERE position BETWEEN (SELECT first FROM statesync_settled) AND (SELECT last FROM statesync_settled) "
    "AND revision = (SELECT revision FROM statesync_settled)))"
)
"""How many there are: SQLite counts a whole table sooner than it looks at each of its rows."""


class _Range(NamedTuple):
    """The changes from one position to another that went up as one revision."""

    first: int
    last: int
    revision: int


def settle(connection: sqlite3.Connection, first: int, last: int, revision: int) -> bool:
    """Let the changes between two positions, which the hub has taken in one revision, count for nothing.

    False, and nothing is done, if others wait before them, or one of them is not as it went up.
    """
    before = _settled(connection)
    found = _Range(before.first if before else first, last, revision)
    if before is not None and before.revision != revision:
        return False
    are_as_sent, is_next, behind = connection.execute(
        "SELECT (SELECT count(*) FROM statesync_change WHERE position BETWEEN :first AND :last "
        "AND revision = :revision) = :last - :first + 1, NOT EXISTS (SELECT 1 FROM statesync_change "
        "WHERE position > :settled AND position < :first), "
        "(SELECT ifnull(max(position), :last) FROM statesync_change) - :last",
        {"first": first, "last": last, "revision": revision, "settled": before.last if before else 0},
    ).fetchone()
    if not (are_as_sent and is_next):
        return False
    if 0 < behind <= FEW and found.last - found.first < MOST:
        connection.execute("INSERT OR REPLACE INTO statesync_settled VALUES (1, ?, ?, ?)", found)
    else:
        _take_out(connection, found)
    return True


def sweep(connection: sqlite3.Connection) -> None:
    """Take out what is settled. In a transaction."""
    found = _settled(connection)
    if found is not None:
        _take_out(connection, found)


def into(connection: sqlite3.Connection) -> str:
    """Return the outbox's name in SQL for whoever adds to it, rid of what is settled. In a transaction."""
    sweep(connection)
    return "statesync_change"


def _settled(connection: sqlite3.Connection) -> _Range | None:
    row = connection.execute("SELECT first, last, revision FROM statesync_settled").fetchone()
    return None if row is None else _Range(*row)


def _take_out(connection: sqlite3.Connection, settled: _Range) -> None:
    if _has_others(connection, settled):
        connection.execute(
            "DELETE FROM statesync_change WHERE position BETWEEN ? AND ? AND revision = ?", settled
        )
    else:  # SQLite empties a table without a look at its rows
        connection.execute("DELETE FROM statesync_change")
    connection.execute("DELETE FROM statesync_settled")


def _has_others(connection: sqlite3.Connection, settled: _Range) -> bool:
    """Tell whether there are changes besides; looks behind them first, where there mostly are."""
    behind = connection.execute("SELECT 1 FROM statesync_change WHERE position > ? LIMIT 1", settled[1:2])
    if behind.fetchone() is not None:
        return True
    others = connection.execute(
        "SELECT 1 FROM statesync_change WHERE position < ? OR revision <> ? LIMIT 1", settled[::2]
    )
    return others.fetchone() is not None
