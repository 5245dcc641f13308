"""What can happen in a modelled world, named so that the same can be done to the real thing."""

from __future__ import annotations

from collections.abc import Container, Mapping
from enum import StrEnum

from attrs import frozen

from statesync.verify.modelled.wire import Fields


class Kind(StrEnum):
    """Everything that can happen. From ``UNREACHABLE`` on they are accidents: a budget says how many."""

    GO_ON = "the session goes on"
    BACKOFF_OVER = "the back-off is over"
    GRACE_OVER = "the grace is over"
    ANSWER = "the hub answers"
    ARRIVE = "the answer arrives"
    BUILD = "the index is built"
    LATE = "a late request reaches the hub"

    UNREACHABLE = "the connection is refused"
    LOSE_REQUEST = "the request is lost"
    LOSE_ANSWER = "the answer is lost"
    REFUSE = "the hub will never take the request"
    FORBID = "the device may not write"
    ROLL_BACK = "the disk refuses a transaction"
    CANCEL = "the user cancels"
    HURRY = "the user cancels again, with a shorter grace"
    TIME_OUT = "the session's time is over"
    CRASH = "the program crashes"
    DEFECT = "the driver tells what nothing has asked for"
    EDIT = "the user writes"
    DELETE = "the user deletes"
    RESTORE = "the hub is restored from a backup"
    PURGE = "the hub forgets deletes"
    COPY = "a copy of the device uploads"
    SET_UP = "another version of the program sets the store up"
    TRACK_ANEW = "another program finds the triggers gone"
    TRACK = "another program tracks one more object"
    MIGRATE = "another program takes the table's rules away"
    RETRY = "the user has what was refused sent again"
    CLEAR = "the user clears the store where nothing waits"
    CLEAR_ALL = "the user clears the store, and lets go of what waits"
    RESET = "the user resets the store, and keeps the records"
    RESET_ALL = "the user resets the store, and lets go of what waits"
    FILTER = "the program reads with another filter"
    WRITE_THERE = "another device writes"
    DELETE_THERE = "another device deletes"
    OTHER_VERSION = "a hub of another version takes the place of the one before"


@frozen(slots=False, cache_hash=True)
class Happening:
    """One thing that happens.

    ``ahead``: it befalls the request that was asked for ahead. ``fails`` is how many transactions in a row
    the disk refuses from here on. ``grace`` is what a cancel allows, ``key`` and ``data`` what is written.
    """

    kind: Kind
    ahead: bool = False
    fails: int = 0
    grace: float | None = None
    key: str = ""
    data: Fields | None = None

    def __str__(self) -> str:
        more = [self.key, "(the page that was asked for ahead)" if self.ahead else ""]
        more += [f"(grace {self.grace})" if self.grace is not None else ""]
        return " ".join(word for word in [self.kind, *more] if word)


@frozen(slots=False, cache_hash=True)
class Budget:
    """How often each accident may still happen."""

    left: tuple[tuple[Kind, int], ...] = ()

    @classmethod
    def of(cls, left: Mapping[Kind, int]) -> Budget:
        """Return a budget; what is not named does not happen."""
        return cls(tuple(sorted((kind, times) for kind, times in left.items() if times)))

    def times(self, kind: Kind) -> int:
        """Return how often an accident may still happen."""
        return dict(self.left).get(kind, 0)

    def without(self, kind: Kind, times: int = 1) -> Budget:
        """Return what is left after an accident has happened."""
        return Budget.of({**dict(self.left), kind: self.times(kind) - times})

    def of_these(self, kinds: Container[Kind]) -> Budget:
        """Return what is left of some kinds."""
        return Budget(tuple(each for each in self.left if each[0] in kinds))


UNDER_THE_LOCK = frozenset((Kind.CLEAR, Kind.CLEAR_ALL, Kind.RESET, Kind.RESET_ALL, Kind.FILTER))
"""What no session may run beside, so that it happens between two of them."""
