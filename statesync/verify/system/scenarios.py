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
from statesync.verify.system.scans import worlds as scan_worlds
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

SCANS = (
    Scenario(
        "a read from the start is broken off, and goes on",
        {Kind.CANCEL: 1, Kind.HURRY: 1, Kind.CRASH: 1, Kind.LOSE_REQUEST: 1, Kind.LOSE_ANSWER: 1},
        scan_worlds.all_reads,
    ),
    Scenario(
        "another device writes amid a read from the start",
        {Kind.WRITE_THERE: 1, Kind.DELETE_THERE: 1, Kind.PURGE: 1},
        scan_worlds.first_reads,
        is_large=True,
    ),
    Scenario(
        "the user goes on working amid a read from the start",
        {Kind.EDIT: 1, Kind.CANCEL: 1},
        scan_worlds.first_reads,
    ),
    Scenario(
        "the user deletes amid a read from the start",
        {Kind.DELETE: 1, Kind.CANCEL: 1, Kind.WRITE_THERE: 1},
        scan_worlds.first_reads,
        is_large=True,
    ),
    Scenario(
        "records are added for ever behind a read from the start",
        {Kind.WRITE_THERE: 2},
        scan_worlds.first_reads,
    ),
    Scenario(
        "what was missed is read again",
        {Kind.EDIT: 1, Kind.DELETE_THERE: 1, Kind.PURGE: 1},
        scan_worlds.missed_deletes,
    ),
    Scenario(
        "the hub is restored amid a read from the start",
        {Kind.RESTORE: 1, Kind.EDIT: 1},
        scan_worlds.after_a_backup,
    ),
    Scenario(
        "records of a read from the start do not fit their table",
        {Kind.EDIT: 1, Kind.MIGRATE: 1, Kind.WRITE_THERE: 1},
        scan_worlds.with_misfits,
    ),
    Scenario(
        "a read from the start has a filter",
        {Kind.FILTER: 1, Kind.EDIT: 1, Kind.WRITE_THERE: 1, Kind.CANCEL: 1},
        scan_worlds.with_filters,
    ),
    Scenario(
        "records are local only amid a read from the start",
        {Kind.EDIT: 1, Kind.DELETE_THERE: 1, Kind.CRASH: 1},
        scan_worlds.with_local_records,
    ),
    Scenario(
        "the store changes amid a read from the start",
        {Kind.SET_UP: 1, Kind.TRACK_ANEW: 1, Kind.CLEAR_ALL: 1, Kind.RESET: 1},
        scan_worlds.first_reads,
        is_large=True,
    ),
    Scenario(
        "the disk refuses transactions amid a read from the start",
        {Kind.ROLL_BACK: 2, Kind.CANCEL: 1},
        scan_worlds.first_reads,
    ),
    Scenario(
        "a hub that knows scans becomes one that does not",
        {Kind.OTHER_VERSION: 2, Kind.WRITE_THERE: 1},
        scan_worlds.at_any_hub,
    ),
    Scenario(
        "one object is read from the start beside another one",
        {Kind.DELETE_THERE: 1, Kind.CANCEL: 1},
        scan_worlds.of_two_objects,
    ),
    Scenario(
        "another device writes what is read from the start, and what is followed beside it",
        {Kind.WRITE_THERE: 1, Kind.PURGE: 1},
        scan_worlds.of_two_objects,
    ),
    Scenario(
        "one range of keys is read again",
        {Kind.EDIT: 1, Kind.DELETE_THERE: 1, Kind.CANCEL: 1},
        scan_worlds.with_damage,
    ),
    Scenario(
        "one range of keys is read again at a hub that changes",
        {Kind.DELETE_THERE: 1, Kind.PURGE: 1, Kind.OTHER_VERSION: 1},
        scan_worlds.with_damage,
    ),
    Scenario(
        "a copy of the device uploads amid a read from the start",
        {Kind.COPY: 1, Kind.EDIT: 1},
        scan_worlds.first_reads,
    ),
    Scenario(
        "a device reads what it has sent itself",
        {Kind.EDIT: 1, Kind.DELETE_THERE: 1, Kind.CANCEL: 1},
        scan_worlds.of_own,
        is_large=True,
    ),
    Scenario(
        "a device that reads what it has sent itself lets go of it, or is copied",
        {Kind.CLEAR_ALL: 1, Kind.RESET: 1, Kind.COPY: 1},
        scan_worlds.of_own,
        is_large=True,
    ),
    Scenario(
        "the hub of a device that reads what it has sent itself becomes another one",
        {Kind.RESTORE: 1, Kind.OTHER_VERSION: 1},
        scan_worlds.of_own,
        is_large=True,
    ),
    Scenario(
        "a table is filled without its index",
        {Kind.CANCEL: 1, Kind.TIME_OUT: 1, Kind.CRASH: 1, Kind.ROLL_BACK: 2, Kind.CLEAR_ALL: 1},
        scan_worlds.with_an_index,
    ),
)
"""What may go wrong while an object is read from the start by scans."""
