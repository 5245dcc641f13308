"""What may go wrong in which worlds: small ones, each with the accidents that it is about.

One world with every accident would be too large to be visited; what interacts stands in one world together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from attrs import frozen

from statesync.verify.evolving import evolve
from statesync.verify.system import worlds
from statesync.verify.system.driver import begin
from statesync.verify.system.happening import Budget, Kind
from statesync.verify.system.world import World

POLICIES = ("client_wins", "server_wins")


@frozen
class Scenario:
    """One kind of world. ``begins`` makes its first worlds for one conflict policy.

    A large one begins in the first and the last of them alone, as long as accidents happen no more often than
    it says.
    """

    name: str
    accidents: dict[Kind, int]
    begins: Callable[[str], Iterable[World]]
    is_large: bool = False

    def worlds(self, policy: str, times: int = 1) -> list[World]:
        """Return the worlds in which runs begin; each accident may happen ``times`` as often as it says."""
        budget = Budget.of({kind: count * times for kind, count in self.accidents.items()})
        first = [begin(evolve(world, budget=budget)) for world in self.begins(policy)]
        return [first[0], first[-1]] if self.is_large and times <= 1 else first


SCENARIOS = (
    Scenario(
        "the network fails, and the user cancels",
        {
            Kind.CANCEL: 1,
            Kind.HURRY: 1,
            Kind.CRASH: 1,
            Kind.UNREACHABLE: 1,
            Kind.LOSE_REQUEST: 1,
            Kind.LOSE_ANSWER: 1,
        },
        partial(worlds.with_and_without_doubt, worlds.in_conflict),
    ),
    Scenario(
        "the user goes on working",
        {Kind.EDIT: 1, Kind.DELETE: 1, Kind.LOSE_ANSWER: 1},
        partial(worlds.with_and_without_doubt, worlds.in_conflict),
        is_large=True,
    ),
    Scenario(
        "edits meet deletes",
        {Kind.EDIT: 1, Kind.CRASH: 1},
        partial(worlds.with_and_without_doubt, worlds.deleted),
        is_large=True,
    ),
    Scenario(
        "the disk refuses transactions, and the driver has a defect",
        {Kind.ROLL_BACK: 2, Kind.LOSE_ANSWER: 1, Kind.CANCEL: 1, Kind.DEFECT: 1},
        partial(worlds.with_and_without_doubt, worlds.in_conflict),
    ),
    Scenario(
        "the hub rejects records",
        {Kind.EDIT: 1, Kind.LOSE_ANSWER: 1, Kind.CANCEL: 1},
        worlds.with_rejections,
    ),
    Scenario(
        "sessions in one direction, with a deadline",
        {Kind.TIME_OUT: 1, Kind.LOSE_ANSWER: 1, Kind.EDIT: 1},
        worlds.in_one_direction,
    ),
    Scenario(
        "the hub is restored from a backup",
        {Kind.RESTORE: 1, Kind.LOSE_ANSWER: 1},
        worlds.with_an_odd_hub,
    ),
    Scenario(
        "the hub forgets deletes, and hears of a copy",
        {Kind.PURGE: 1, Kind.COPY: 1},
        worlds.with_an_odd_hub,
    ),
    Scenario(
        "the hub will not take a batch that may be in doubt",
        {Kind.REFUSE: 1, Kind.LOSE_ANSWER: 1, Kind.EDIT: 1},
        worlds.with_an_odd_hub,
        is_large=True,
    ),
    Scenario(
        "the hub finds batches too large",
        {Kind.REFUSE: 2, Kind.LOSE_ANSWER: 1, Kind.CANCEL: 1},
        worlds.with_large_batches,
        is_large=True,
    ),
    Scenario(
        "the device may not write",
        {Kind.FORBID: 1, Kind.LOSE_ANSWER: 1, Kind.CANCEL: 1},
        worlds.with_rights_that_end,
    ),
    Scenario(
        "other programs set the store up while a session runs",
        {Kind.SET_UP: 1, Kind.TRACK_ANEW: 1, Kind.TRACK: 1},
        worlds.with_other_programs,
    ),
    Scenario(
        "the store is cleared between sessions",
        {Kind.CLEAR: 1, Kind.CLEAR_ALL: 1, Kind.CRASH: 1},
        worlds.with_other_programs,
    ),
    Scenario(
        "the store is reset between sessions",
        {Kind.RESET: 1, Kind.RESET_ALL: 1, Kind.CRASH: 1},
        worlds.with_other_programs,
    ),
    Scenario(
        "records do not fit their table",
        {Kind.EDIT: 1, Kind.MIGRATE: 1, Kind.CRASH: 1},
        worlds.that_do_not_fit,
    ),
    Scenario(
        "answers do not carry all that is in conflict",
        {Kind.EDIT: 1, Kind.LOSE_ANSWER: 1},
        worlds.with_short_answers,
    ),
    Scenario(
        "what waits is read again, edited and retried",
        {Kind.EDIT: 1, Kind.PURGE: 1, Kind.RETRY: 1},
        worlds.that_wait,
    ),
    Scenario(
        "a record is deleted that the hub may have",
        {Kind.DELETE: 1},
        worlds.that_may_be_there,
    ),
    Scenario(
        "a delete that the hub has forgotten is missed",
        {Kind.EDIT: 1, Kind.UNREACHABLE: 1},
        worlds.that_were_forgotten,
    ),
)
