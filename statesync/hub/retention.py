"""How long deletes are remembered. A device that was away for longer reads everything again (410).

A mark says up to which version a space had come on a day. Old tombstones are purged by the push that makes
new ones, under the lock that it holds anyway: no task of its own, and no work where nothing is deleted. The
wall clock decides how long deletes are kept, never their order: marks only go forward, so a clock that jumps
back keeps deletes for longer, and one that jumps ahead costs devices a second read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import field, frozen

from statesync.hub.db.database import Database
from statesync.hub.spaces import purge

DAY = 86_400

_MARK = """
INSERT INTO mark (space, day, head)
SELECT ?, CASE WHEN max(day) > ? THEN max(day) ELSE ? END, ? FROM mark WHERE space = ?
ON CONFLICT (space, day) DO UPDATE SET head = excluded.head
"""


@frozen
class Retention:
    """Deletes are remembered for ``seconds``; a whole day is the finest that is kept of their time."""

    seconds: float = 90 * DAY
    clock: Callable[[], float] = field(default=time.time, eq=False)

    def keep(self, database: Database, space: str, head: int) -> None:
        """Mark that deletes were made up to ``head`` and purge those that are older than allowed.

        Runs in the transaction of a push that holds the space's row.
        """
        now = self.clock()
        today = int(now // DAY)
        database.run(_MARK, space, today, today, head, space)
        self._purge(database, space, int((now - self.seconds) // DAY))

    def _purge(self, database: Database, space: str, before: int) -> None:
        old = "FROM mark WHERE space = ? AND day < ?"
        (through,) = database.run(f"SELECT max(head) {old}", space, before).fetchone()
        if through is not None:
            purge(database, space, through)
            database.run(f"DELETE {old}", space, before)
