"""How far one object is read: its feed, and the scan that comes before it (``docs/scan.md``)."""

from __future__ import annotations

import json
from functools import cached_property

from statesync.classes import frozen
from statesync.filters import Filter
from statesync.wire import Feed, Page, Scan

TABLE, SEEN_TABLE = "statesync_cursor", "statesync_seen"

EPOCH, MISSED_DELETES, EVERYTHING, OWN = "epoch", "horizon", "everything", "own"
UNLOGGED = "unlogged"
"""Why an object is read from the start: the hub lost records, the device missed deletes, it has none, it
may have forgotten some that it wrote itself, or writes here may be missing from its log."""

UNKNOWN = -1
"""Where a read from the start has begun at that: the device had read the object, and nobody knows how far.

It is no version: the very first record that a hub is given has 1."""

SEEN_KEYS = "SELECT key FROM statesync_seen WHERE object = :object"
"""The keys that a read from the start in the order of versions has met, as a part of a statement."""

COLUMNS = (
    "object, cursor, rereading, reread_from, missed_from, begun, space, filter, since, after, until, floors, "
    "to_come"
)
"""The columns of ``statesync_cursor`` that make a ``Cursor``."""


@frozen(slots=False)
class Cursor:
    """How far one object is read; ``rereading`` is why it is read from the start again.

    ``reread_from`` is how far anything of it was read before that, and ``missed_from`` how far all deletes
    are known of a record that the read has not met. ``begun`` is where the hub's head was when a read from
    the start in the order of versions, the first one too, began that is not at its end; else 0.

    ``since``, ``after`` and ``until`` are those of the scan under way (see ``wire.Scan``); without one
    ``since`` is 0. ``floors`` is a JSON list of (key, version): up to that key an earlier scan, which had to
    begin anew, has read everything up to that version. ``to_come`` is about how many records the scan has
    yet to bring, where the hub has counted them; it is for the progress.

    A page is stored only where the cursor is the one that it was asked from, in all that it says.
    """

    object: str
    position: int
    rereading: str | None
    reread_from: int
    missed_from: int
    begun: int
    space: str
    filter: str | None
    since: int = 0
    after: str = ""
    until: str = ""
    floors: str = "[]"
    to_come: int | None = None

    @property
    def is_compared(self) -> bool:
        """Whether records that the hub did not show are offered again, or deleted, when all has been read."""
        return self.rereading not in (None, OWN)

    @property
    def is_whole(self) -> bool:
        """Whether no read from the start is under way, and none of a range of keys."""
        return self.rereading is None and self.since == 0 and self.begun == 0

    @property
    def is_scanned(self) -> bool:
        """Whether a scan of the whole object is under way, so that the feed waits."""
        return self.since > 0 and self.position == 0

    @property
    def is_part(self) -> bool:
        """Whether a scan of one range of keys is under way, as they were at the cursor."""
        return self.since > 0 and self.position > 0

    @property
    def is_unread(self) -> bool:
        """Whether nothing has been read since the object was begun, or begun anew."""
        return self.position == 0 and self.since == 0

    def seen_until(self, key: str) -> int:
        """Return up to which version the device has certainly seen a record that it reads again."""
        return 0 if self.reread_from == UNKNOWN else max(self.reread_from, self.read_before(key))

    def read_until(self, key: str) -> int:
        """Return up to which version all that the hub has of a key is read."""
        return self.since if self.since and key <= self.after else self.position

    def read_before(self, key: str) -> int:
        """Return up to which version a key was read before the read from the start that has not met it."""
        return max([self.missed_from, *(since for top, since in self.tops if key <= top)])

    @cached_property
    def tops(self) -> list[tuple[str, int]]:
        """The floors."""
        return [(top, since) for top, since in json.loads(self.floors)]

    def floors_after(self) -> str:
        """Return the floors of a read that begins now: what the scan has read that it ends, it has read."""
        if not self.is_scanned or not self.after:
            return self.floors
        return json.dumps([*(top for top in self.tops if top[0] > self.after), (self.after, self.since)])

    def feed(self, *, scans: bool) -> Feed:
        """Return what a pull asks for. Without ``scans`` it is read in the order of the versions alone."""
        return Feed(
            self.position,
            own=self.rereading is not None or self.is_scanned,
            filter=Filter.from_text(self.filter).on_the_wire(),
            begun=self.begun,
            scan=self._scan() if scans else None,
        )

    def _scan(self) -> Scan | None:
        if self.position and not self.since:
            return None
        return Scan(self.since, self.after, self.until, spares=self._has_its_own())

    def _has_its_own(self) -> bool:
        """Tell whether the device has all that it wrote itself, and may keep it.

        It has where it reads for the first time, and it may where no filter hides any of it.
        """
        is_first = self.position == 0 and self.rereading is None
        return is_first and Filter.from_text(self.filter).is_open


def begun_after(page: Page, position: int, begun: int) -> int:
    """Return where the read from the start began that goes on after a page, asked for from ``position``."""
    if not page.more:
        return 0
    return begun if position else page.head
