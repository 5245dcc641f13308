"""How long deletes are remembered. A device that was away for longer reads everything again (410).

A mark says which version a space had reached on a day. A push that makes tombstones purges old ones, under
the lock that it holds anyway, and some at a time: others wait for that lock. So nothing runs on its own, and
a push without deletes has nothing to do. What is too old is forgotten at once, as far as devices are told:
however many pushes it takes until the last tombstone is gone, they read again once.

The wall clock decides how long deletes are kept, never their order. Marks only go forward: a clock that jumps
back keeps deletes for longer, and one that jumps ahead costs devices a second read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import Attribute, field

from statesync.classes import frozen
from statesync.hub import spaces
from statesync.hub.db.database import Database
from statesync.hub.limits import is_number

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
_OLDEST = f"SELECT version {_TOMBSTONES} ORDER BY version LIMIT ?"

STEP = 1000
"""Tombstones that any push may purge; one that makes many purges twice as many as it makes."""

_LARGE_STEP = 10_000
"""Tombstones that go in one transaction where nothing else has to be done in it."""


_LONGEST = 1e11
"""Seconds, three thousand years."""


def _in_range(_owner: object, _option: Attribute[float], value: float) -> None:
    if not is_number(value) or not 0 <= value <= _LONGEST:
        raise ValueError(f"the retention is {value} seconds; it has to be from 0 to {_LONGEST:.0f}")


@frozen
class Retention:
    """Deletes are remembered for ``seconds``, counted in whole days. Raises ``ValueError`` out of range."""

    seconds: float = field(default=90.0 * DAY, validator=_in_range)
    clock: Callable[[], float] = field(default=time.time, eq=False)

    def mark_and_purge(self, database: Database, space: str, head: int, made: int) -> None:
        """Mark that deletes were made up to ``head``, and purge some of those that are older than allowed.

        Runs in the transaction of a push, which holds the space's row and has ``made`` tombstones.
        """
        now = self.clock()
        today = int(now // DAY)
        database.run(_MARK, today, today, head, space)
        self._purge_before(database, space, int((now - self.seconds) // DAY), max(STEP, 2 * made))

    def _purge_before(self, database: Database, space: str, day: int, most: int) -> None:
        (through,) = database.run(f"SELECT max(head) {_OLD_MARKS}", space, day).fetchone()
        if through is not None and purge(database, space, through, most) < most:
            database.run(f"DELETE {_OLD_MARKS}", space, day)


def forget(database: Database, space: str, through: int) -> int:
    """Forget the deletes up to the version ``through``, in many small transactions; return how many."""
    forgotten, gone = 0, _LARGE_STEP
    while gone == _LARGE_STEP:
        with database.writing():
            gone = purge(database, space, through, _LARGE_STEP)
        forgotten += gone
    return forgotten


def purge(database: Database, space: str, through: int, most: int) -> int:
    """Forget the deletes up to the version ``through``; return how many tombstones were deleted.

    Those are the oldest ones, up to ``most``: who calls it again goes on where it ended.
    """
    if not spaces.lock_row(database, space):
        return 0
    through = max(0, min(through, _LAST))
    (last,) = database.run(f"SELECT max(version) {_TOMBSTONES}", space, through).fetchone()
    if last is None:
        return 0
    spaces.move_purged_through(database, space, last)
    # How many rows a statement has changed is not known before an answer is asked for; a look is one.
    look = f"SELECT max(version), count(*) FROM ({_OLDEST}) AS oldest"
    end, gone = database.run(look, space, last, most).fetchone()
    database.run(f"DELETE {_TOMBSTONES}", space, end)
    return int(gone)
