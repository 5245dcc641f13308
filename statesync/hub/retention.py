"""How long deletes are remembered. A device that was away for longer reads everything again (410).

A mark says which version a space had reached on a day. A push that makes tombstones purges the old ones,
under the lock that it holds anyway. So nothing runs on its own, and a push without deletes has nothing to do.

The wall clock decides how long deletes are kept, never their order. Marks only go forward: a clock that jumps
back keeps deletes for longer, and one that jumps ahead costs devices a second read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import field, frozen

from statesync.hub import spaces
from statesync.hub.db.database import Database

DAY = 86_400

_LAST = 2**63 - 1
"""The last version that a database can hold."""

# The space comes from its own row, so that a distributed database sees one machine in it, and one commit.
_MARK = """
INSERT INTO mark (space, day, head)
SELECT space.space, CASE WHEN max(mark.day) > ? THEN max(mark.day) ELSE ? END, ?
FROM space LEFT JOIN mark ON mark.space = space.space WHERE space.space = ? GROUP BY space.space
ON CONFLICT (space, day) DO UPDATE SET head = excluded.head
"""
_OLD_MARKS = "FROM mark WHERE space = ? AND day < ?"
_TOMBSTONES = "FROM record WHERE space = ? AND deleted AND version <= ?"


@frozen
class Retention:
    """Deletes are remembered for ``seconds``, counted in whole days."""

    seconds: float = 90 * DAY
    clock: Callable[[], float] = field(default=time.time, eq=False)

    def mark_and_purge(self, database: Database, space: str, head: int) -> None:
        """Mark that deletes were made up to ``head``, and purge those that are older than allowed.

        Runs in the transaction of a push, which holds the space's row.
        """
        now = self.clock()
        today = int(now // DAY)
        database.run(_MARK, today, today, head, space)
        self._purge_before(database, space, int((now - self.seconds) // DAY))

    def _purge_before(self, database: Database, space: str, day: int) -> None:
        (through,) = database.run(f"SELECT max(head) {_OLD_MARKS}", space, day).fetchone()
        if through is not None:
            purge(database, space, through)
            database.run(f"DELETE {_OLD_MARKS}", space, day)


def purge(database: Database, space: str, through: int) -> int:
    """Delete the tombstones up to the version ``through`` and return how many there were."""
    if not spaces.lock_row(database, space):
        return 0
    through = max(0, min(through, _LAST))
    last, count = database.run(f"SELECT max(version), count(*) {_TOMBSTONES}", space, through).fetchone()
    if count:
        database.run(f"DELETE {_TOMBSTONES}", space, through)
        spaces.move_purged_through(database, space, last)
    return int(count)
