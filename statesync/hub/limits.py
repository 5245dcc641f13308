"""The limits of a hub, in one value, and how near to theirs one page may go.

Each limit says in its metadata what it counts, for the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import Attribute, field

from statesync.classes import define, frozen
from statesync.filters import MOST_FIELDS, MOST_VALUES
from statesync.wire import MAX_KEY_LENGTH

_ENDLESS = float("inf")

_MOST = 1 << 40
"""Of anything: a number that every database can count with."""

_MOST_MERGED = 500
"""SELECTs that SQLite can merge in one statement."""


def is_number(value: object) -> bool:
    """Tell whether a value can be a limit."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_range(_owner: object, option: Attribute[int], value: int) -> None:
    most = option.metadata["most"]
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{option.name} is {value}; it has to be 1 to {most}, and a whole number")


def _not_negative(_owner: object, option: Attribute[float], value: float) -> None:
    if not is_number(value) or not 0 <= value < _ENDLESS:
        raise ValueError(f"{option.name} is {value}; it cannot be negative, nor without end")


def _positive(_owner: object, option: Attribute[float], value: float) -> None:
    if not is_number(value) or not 0 < value < _ENDLESS:
        raise ValueError(f"{option.name} is {value}; it has to be above 0, and have an end")


def _limit(default: int, counts: str, most: int = _MOST) -> Any:
    return field(default=default, validator=_in_range, metadata={"counts": counts, "most": most})


def _seconds(default: float, counts: str) -> Any:
    return field(default=default, validator=_positive, metadata={"counts": counts})


def _rate(counts: str, default: float = 0.0) -> Any:
    return field(default=default, validator=_not_negative, metadata={"counts": counts})


@frozen(kw_only=True)
class HubLimits:
    """What a hub accepts. Raises ``ValueError`` for a limit out of its range."""

    body: int = _limit(32 << 20, "Bytes of a request's body, as it comes and after decompression.")
    question: int = _limit(8 << 20, "Bytes of the body of a pull, or of a survey.")
    record: int = _limit(1 << 20, "Bytes of one record's JSON text.")
    key: int = _limit(MAX_KEY_LENGTH, "Characters of a record's key.", most=MAX_KEY_LENGTH)
    batch: int = _limit(10_000, "Changes in one push.")
    page: int = _limit(10_000, "Records in one page.")
    default_page: int = _limit(5000, "Records in a page for a device that leaves the choice to the hub.")
    page_bytes: int = _limit(
        8 << 20, "Bytes of records in one answer, but for one more record; fewer where memory is short."
    )
    objects: int = _limit(200, "Objects that one pull may ask for.", most=_MOST_MERGED)
    columns: int = _limit(2000, "Columns that one survey may name.")
    bounds: int = _limit(10_000, "Ranges of keys that one survey may ask for.")
    filter_fields: int = _limit(MOST_FIELDS, "Fields that one filter may look at.", most=MOST_FIELDS)
    filter_values: int = _limit(MOST_VALUES, "Values that one filter may ask for.", most=MOST_VALUES)
    survey_seconds: float = _seconds(10.0, "Seconds that one survey may read for.")
    nesting: int = _limit(64, "Levels of lists and objects in a request's body.")
    ratio: int = _limit(100, "Times its size that a packed body may have when unpacked, from 64 KB on.")
    spaces: int = _limit(100_000, "Spaces on this hub.")
    epoch_pause: float = _rate("Seconds between two epochs of a space that devices may begin.", 600.0)
    under_way: int = _limit(
        256, "Requests worked on in one process; half in one space, a quarter by a token."
    )
    sockets: int = _limit(2500, "Connections of clients that one process has; fewer without descriptors.")
    waiters: int = _limit(
        2000, "Devices that wait in one process for news; half in one space, a quarter by a token."
    )
    line: int = _limit(32, "Pushes, and surveys, of one token in one space that wait for their turn.")
    held: int = _limit(
        32 << 20, "Bytes of bodies, pages and answers held in one process; half and quarter as above."
    )
    head_seconds: float = _seconds(20.0, "Seconds in which the head of a request has to come.")
    stall_seconds: float = _seconds(30.0, "Seconds that a body, or an answer, may take whatever its pace.")
    pace: int = _limit(1024, "Bytes a second that it has to come, or go, beyond those seconds.")
    rate: float = _rate("Small requests a second that one token may make, on average; 0 is any number.")
    burst: int = _limit(100, "Small requests that a token may make at once before its rate holds it back.")


BEGIN = 1 << 20
"""Bytes of records that a page begins with: most pages have no more."""

Ask = Callable[[int], bool]
"""Tells whether so many bytes of records may be in memory, for a page or beside a batch."""


UNCOUNTED = 1 << 16
"""Bytes of records of a page that is made also where there is no memory: others do not wait for it."""


class NoMemory(Exception):
    """There is no memory for what was asked for, unless it is short; nothing was done, and it may wait."""


def unbounded(_size: int, /) -> bool:
    """Let there be as many as are needed."""
    return True


@define(eq=False)
class Allowance:
    """What one page may have: up to ``most`` bytes of records, as far as ``ask`` allows it."""

    most: int
    ask: Ask = unbounded
    size: int = 0
    """Bytes of records that it may have now."""
    _is_counted: bool = False

    def begin(self) -> None:
        """Allow what a page begins with; without memory for that, what is too short to be counted."""
        first = min(BEGIN, self.most)
        self._is_counted = self.ask(first)
        self.size = first if self._is_counted else min(UNCOUNTED, self.most)

    def grows(self) -> bool:
        """Allow twice as much, or the most; return False where the page has to end.

        Raises ``NoMemory`` for one that is no longer short, and may not even be begun.
        """
        more = min(2 * self.size if self._is_counted else BEGIN, self.most)
        if more <= self.size:
            return False
        if not self.ask(more):
            if self._is_counted:
                return False
            raise NoMemory
        self.size, self._is_counted = more, True
        return True

    def behind(self, used: int) -> Room:
        """Return what is left of it behind so many bytes of records."""
        return _Rest(self, used)


LOOKED_AT = 1 << 18
"""Bytes of stored records that a push looks at also where there is no memory: most batches need no more."""


@define(eq=False)
class Sight:
    """How much of what is stored one push may look at: up to ``most`` bytes, as far as ``ask`` allows it."""

    most: int
    ask: Ask = unbounded
    size: int = LOOKED_AT
    """Bytes that it may look at now."""
    _wanted: int = 0
    """Bytes that there was no memory for."""

    def begin(self) -> None:
        """Allow what is known to be needed; raises ``NoMemory``."""
        self.size = min(self.size, self.most)
        if self._wanted:
            self._have(self._wanted)

    def grows(self) -> bool:
        """Allow more; return False where it has the most already. Raises ``NoMemory``."""
        more = min(max(BEGIN, 2 * self.size), self.most)
        if more > self.size:
            self._have(more)
            return True
        return False

    def _have(self, size: int) -> None:
        self._wanted = size
        if not self.ask(size):
            raise NoMemory
        self.size, self._wanted = size, 0


class Room(Protocol):
    """What is allowed: an allowance, or what is left of one."""

    @property
    def size(self) -> int:
        """Bytes of records that there may be now; none or less where all is used."""

    def grows(self) -> bool:
        """Allow more; see ``Allowance.grows``."""


@frozen
class _Rest:
    """What is left of an allowance behind what is ``used`` of it, in bytes of records."""

    whole: Allowance
    used: int

    @property
    def size(self) -> int:
        return self.whole.size - self.used

    def grows(self) -> bool:
        return self.whole.grows()
