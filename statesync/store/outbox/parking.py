"""Parking: a change that the hub has refused stays here, and is not offered again without a reason.

``parked`` is the revision that was refused. So an edit lets a change go by itself: it makes another revision
of it, and a fold need not know of parking. The other columns tell of the refusals, also of a change that was
let go.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from statesync.store.outbox import under_way
from statesync.store.outbox.settled import WAITING
from statesync.store.outbox.shared import TOLD
from statesync.values import Parked
from statesync.wire import CONFLICT_UNREADABLE, Rejected

LONGEST = 366 * 24 * 3600.0
"""Seconds that a refusal may keep a change parked by its ``retry_after``; a longer time is cut to that."""

IS_PARKED = "parked IS revision"
"""Says of a change that what it is now was refused, as a part of a statement."""

IS_LET_GO = "(parked IS NOT revision OR retry_at IS NOT NULL AND (:now >= retry_at OR :now < last_refused))"
"""Says of a change that it may be offered at the time ``:now``.

A time before the refusal says that the clock was set back: then nobody knows how long it has been.
"""

FREE = (
    "parked = NULL, parked_field = NULL, refusals = 0, first_refused = NULL, last_refused = NULL, "
    "retry_at = NULL"
)
"""Makes a change one that was never refused, as a part of a statement."""

COLUMNS = "parked IS revision, error, parked_field, refusals, first_refused, last_refused, retry_at"
"""What a ``Told`` is made of, as a part of a statement."""


class Told(NamedTuple):
    """What the outbox has of the refusals of one change."""

    is_parked: bool
    error: str
    field: str | None
    refusals: int
    first: float
    last: float
    retry_at: float | None

    def value(self) -> Parked | None:
        """Return it for people, or None if the change is not parked."""
        if not self.is_parked:
            return None
        code, message = self.error.split(": ", 1)
        retry_at = None if self.retry_at is None else _time(self.retry_at)
        return Parked(code, message, self.field, self.refusals, _time(self.first), _time(self.last), retry_at)


def _time(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


def park(
    connection: sqlite3.Connection,
    wire_id: str,
    record: tuple[str, str],
    said: Rejected,
    session: str,
    now: float,
) -> None:
    """Park the change of ``record`` (object, key) that went up with the batch ``wire_id``.

    Runs in the transaction that stores the verdict, at the time ``now``. What was edited since it was sent is
    free at once.
    """
    under_way.spread(connection)
    name, key = record
    wait = None if said.retry_after is None else now + min(max(0.0, said.retry_after), LONGEST)
    connection.execute(
        "UPDATE statesync_change SET error = :error, failed_in = :session, parked = sent, "
        "parked_field = :field, refusals = refusals + 1, first_refused = coalesce(first_refused, :now), "
        "last_refused = :now, retry_at = :wait, batch = NULL, sent = NULL, shared = max(shared, :told) "
        "WHERE object = :object AND key = :key AND batch = :batch",
        {
            "object": name,
            "key": key,
            "batch": wire_id,
            "error": f"{said.code}: {said.message}",
            "field": said.field,
            "session": session,
            "now": now,
            "wait": wait,
            "told": TOLD if said.code == CONFLICT_UNREADABLE else 0,
        },
    )


def let_go(connection: sqlite3.Connection, name: str, keys: Iterable[str] | None = None) -> int:
    """Let parked changes of an object be offered again; return how many there were.

    Those of ``keys``, or all of them. Whoever calls this has folded before.
    """
    return connection.execute(
        f"UPDATE statesync_change SET parked = NULL WHERE object = :object AND {IS_PARKED} "
        "AND (:keys IS NULL OR key IN (SELECT value FROM json_each(:keys)))",
        {"object": name, "keys": None if keys is None else json.dumps(list(keys))},
    ).rowcount


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many changes are parked of each object that has any."""
    return dict(
        connection.execute(
            f"SELECT object, count(*) FROM {WAITING} WHERE {IS_PARKED} GROUP BY object"
        ).fetchall()
    )


def count(connection: sqlite3.Connection, name: str) -> int:
    """Return how many changes of one object are parked."""
    row = connection.execute(
        f"SELECT count(*) FROM {WAITING} WHERE object = ? AND {IS_PARKED}", (name,)
    ).fetchone()
    return int(row[0])
