"""Where runs begin, and what may go wrong in them: small worlds, each with the accidents that it is about.

One world with every accident would be too large to be visited; what interacts stands in one world together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from attrs import frozen

from statesync.protocol.messages import Prepare
from statesync.verify.evolving import evolve
from statesync.verify.modelled import downloads, uploads
from statesync.verify.modelled.device import OBJECT, Device, fix_limit, learn, put, with_change, write
from statesync.verify.modelled.hub import Hub, pull, push
from statesync.verify.modelled.table import Rules
from statesync.verify.modelled.wire import Change, Fields, Page, Push, PushAnswer, fields
from statesync.verify.system.driver import begin
from statesync.verify.system.happening import Budget, Kind
from statesync.verify.system.network import reaches
from statesync.verify.system.world import Options, Plan, World, Written

POLICIES = ("client_wins", "server_wins")

MOST = 40
"""Bytes that a record may have on the hub in the session that is disturbed."""

_A, _B = 0, 1


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
        worlds = [begin(evolve(world, budget=budget)) for world in self.begins(policy)]
        return [worlds[0], worlds[-1]] if self.is_large and times <= 1 else worlds


# -- two devices and a hub -------------------------------------------------------------------------


def _text(words: str) -> Fields:
    return fields({"text": words})


def _offered(hub: Hub, device: Device, *changes: tuple[str, Fields | None]) -> tuple[Hub, Device]:
    """Let ``device``, which is in step with the hub, write there and know it."""
    offers = tuple(Change(OBJECT, key, device.cursor, data) for key, data in changes)
    number = device.number + 1
    sent = Push(device.client, number, f"{device.name} {number}", hub.id, hub.epoch, offers)
    hub, answer = push(hub, sent)
    if not isinstance(answer, PushAnswer):
        raise TypeError(f"the hub refused what a world begins with: {answer}")
    for key, data in changes:
        device = put(device, key, data)
    return hub, evolve(device, number=number, head=hub.head, cursor=hub.head)


def _two_devices(*later: tuple[str, Fields | None]) -> tuple[Hub, Hub, Device, Device]:
    """Return a hub, its backup from before ``later``, and two devices that both had x, y and z.

    Device b has written ``later`` since, and the hub has that already.
    """
    seed = Device("seed", "seed", hub="hub", epoch=1)
    first = [(key, _text(key)) for key in "xyz"]
    hub, seed = _offered(Hub(most=MOST), seed, *first)
    a, b = (
        learn(evolve(Device(name, name), rows=seed.rows, cursor=hub.head), hub.id, hub.epoch, hub.head)
        for name in "ab"
    )
    backup = hub
    for change in later:
        hub, b = _offered(hub, b, change)
    return hub, backup, a, b


def _world(hub: Hub, backup: Hub, a: Device, b: Device, policy: str) -> World:
    every = Options(policy=policy)
    return World(hub, (a, b), (Plan(_A, every), Plan(_A, every), Plan(_B, every)), Budget(), backup=backup)


def in_conflict(policy: str) -> World:
    """Device a has edited x and y; device b has edited y and z, and the hub has that already.

    So two upload batches and up to two pages lie before a, and y is in conflict.
    """
    hub, backup, a, b = _two_devices(("y", _text("y of b")), ("z", _text("z of b")))
    a = write(write(a, "x", _text("x of a")), "y", _text("y of a"))
    return _world(hub, backup, a, b, policy)


def deleted(policy: str) -> World:
    """Device a has edited x and deleted z, device b has deleted y and edited z: edits meet deletes."""
    hub, backup, a, b = _two_devices(("y", None), ("z", _text("z of b")))
    a = write(write(write(a, "x", _text("x of a")), "z", None), "y", _text("y of a"))
    return _world(hub, backup, a, b, policy)


def rejected(policy: str, *, all_of_them: bool) -> World:
    """Device a has an x that is too large for the hub, and perhaps a y that is not."""
    hub, backup, a, b = _two_devices(("z", _text("z of b")))
    a = write(a, "x", _text("x of a, which is too large for this hub"))
    if not all_of_them:
        a = write(a, "y", _text("y of a"))
    return _world(hub, backup, a, b, policy)


def with_doubt(world: World) -> tuple[World, World]:
    """Return ``world`` with a's first batch in doubt: the hub has not heard of it, and has applied it."""
    a, b = world.devices
    a, limit = fix_limit(a)
    a, batch = uploads.prepare(a, Prepare(1, 0, limit), size=1)
    if batch is None:
        raise ValueError("there is nothing to be in doubt of")
    unsure = evolve(uploads.stage(a, batch), in_doubt=True)
    unheard = evolve(world, devices=(unsure, b))
    return unheard, reaches(unheard, uploads.request(a, batch))[0]


def _with_and_without_doubt(make: Callable[[str], World], policy: str) -> list[World]:
    clean = make(policy)
    return [clean, *with_doubt(clean)]


def _with_short_answers(policy: str) -> list[World]:
    """Return worlds whose hub answers a batch with one of its two records in conflict."""
    hub, backup, a, b = _two_devices(("x", _text("x of b")), ("y", _text("y of b")))
    a = write(write(a, "x", _text("x of a")), "y", _text("y of a"))
    both = Options(policy=policy, batch_size=2)
    world = _world(evolve(hub, carries=1), backup, a, b, policy)
    world = evolve(world, plans=(Plan(_A, both), *world.plans[1:]))
    up = evolve(world, plans=(Plan(_A, evolve(both, downloads=False)), *world.plans[1:]))
    return [world, *with_doubt(world), up]


def _in_one_direction(policy: str) -> list[World]:
    ways = (Options(downloads=False, policy=policy), Options(uploads=False, policy=policy))
    worlds = _with_and_without_doubt(in_conflict, policy)
    return [evolve(world, plans=(Plan(_A, way), *world.plans[1:])) for way in ways for world in worlds]


def _with_an_odd_hub(policy: str) -> list[World]:
    """Return worlds whose hub may give a reason to read again; it takes longer until everybody agrees."""
    worlds = [*_with_and_without_doubt(in_conflict, policy), deleted(policy)]
    return [
        evolve(world, is_odd=True, plans=(*world.plans, *world.plans[1:], world.plans[1])) for world in worlds
    ]


def _with_other_programs(policy: str) -> list[World]:
    """Return worlds in which the store changes under a session; one more of them, until everybody agrees."""
    applied = with_doubt(in_conflict(policy))[1]
    return [evolve(world, plans=(*world.plans, *world.plans[1:])) for world in (applied, deleted(policy))]


def _with_rejections(policy: str) -> list[World]:
    some, every = (rejected(policy, all_of_them=all_of_them) for all_of_them in (False, True))
    up = evolve(every, plans=(Plan(_A, Options(downloads=False, policy=policy)), *every.plans[1:]))
    return [some, every, up]


def _with_large_batches(policy: str) -> list[World]:
    large = Options(policy=policy, batch_size=2)
    worlds = _with_and_without_doubt(in_conflict, policy)
    return [evolve(world, is_odd=True, plans=(Plan(_A, large), *world.plans[1:])) for world in worlds]


def _having_read(world: World) -> World:
    """Return a world whose device a has read all that the hub has."""
    a, b = world.devices
    while not dict(a.rows) or a.cursor < world.hub.head:
        _, page = pull(world.hub, downloads.request(a))
        if not isinstance(page, Page):
            raise TypeError(f"the hub refused what a world begins with: {page}")
        a, _ = downloads.store(a, page)
    return evolve(world, devices=(evolve(a, committed=()), b))


def _later(world: World, *changes: tuple[str, Fields | None]) -> World:
    """Let device b write on the hub."""
    a, b = world.devices
    hub = world.hub
    for change in changes:
        hub, b = _offered(hub, b, change)
    written = tuple(Written(hub.epoch, key, data, b.client) for key, data in changes)
    return evolve(world, hub=hub, devices=(a, b), written=written)


_RULES = Rules(refuses=(_text("unfit"),), is_unique=True)
"""Rules of device a's table alone: the hub and device b take every record."""


def _strict(policy: str, *later: tuple[str, Fields | None]) -> World:
    hub, backup, a, b = _two_devices(*later)
    return _world(hub, backup, evolve(a, rules=_RULES), b, policy)


def moving(policy: str) -> World:
    """Device b has swapped the values of x and y, over two pages, and has a z that does not fit a's table."""
    return _strict(policy, ("x", _text("y")), ("y", _text("x")), ("z", _text("unfit")))


def held(policy: str) -> World:
    """At device a a y waits behind x, and a z that does not fit; it has edited y. Device b has deleted x."""
    world = _having_read(_strict(policy, ("y", _text("x")), ("z", _text("unfit"))))
    a, b = world.devices
    edited = evolve(world, devices=(write(a, "y", _text("y of a")), b))
    return _later(edited, ("x", None))


def refused(policy: str) -> World:
    """At device a a z waits that device b has deleted since, and an x that the hub has refused."""
    world = _having_read(_strict(policy, ("z", _text("unfit"))))
    a, b = world.devices
    a, _ = fix_limit(write(a, "x", _text("x of a, which is too large for this hub")))
    a = with_change(a, "x", partial(evolve, failed=True, parked=1))
    return _later(evolve(world, devices=(a, b)), ("z", None))


def _that_do_not_fit(policy: str) -> list[World]:
    worlds = (moving(policy), held(policy))
    return [evolve(world, plans=(*world.plans, *world.plans[1:])) for world in worlds]


def _that_wait(policy: str) -> list[World]:
    worlds = (refused(policy), held(policy))
    return [
        evolve(world, is_odd=True, plans=(*world.plans, *world.plans[1:], world.plans[1])) for world in worlds
    ]


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
        partial(_with_and_without_doubt, in_conflict),
    ),
    Scenario(
        "the user goes on working",
        {Kind.EDIT: 1, Kind.DELETE: 1, Kind.LOSE_ANSWER: 1},
        partial(_with_and_without_doubt, in_conflict),
        is_large=True,
    ),
    Scenario(
        "edits meet deletes",
        {Kind.EDIT: 1, Kind.CRASH: 1},
        partial(_with_and_without_doubt, deleted),
        is_large=True,
    ),
    Scenario(
        "the disk refuses transactions, and the driver has a defect",
        {Kind.ROLL_BACK: 2, Kind.LOSE_ANSWER: 1, Kind.CANCEL: 1, Kind.DEFECT: 1},
        partial(_with_and_without_doubt, in_conflict),
    ),
    Scenario(
        "the hub rejects records",
        {Kind.EDIT: 1, Kind.LOSE_ANSWER: 1, Kind.CANCEL: 1},
        _with_rejections,
    ),
    Scenario(
        "sessions in one direction, with a deadline",
        {Kind.TIME_OUT: 1, Kind.LOSE_ANSWER: 1, Kind.EDIT: 1},
        _in_one_direction,
    ),
    Scenario(
        "the hub is restored from a backup",
        {Kind.RESTORE: 1, Kind.LOSE_ANSWER: 1},
        _with_an_odd_hub,
    ),
    Scenario(
        "the hub forgets deletes, and hears of a copy",
        {Kind.PURGE: 1, Kind.COPY: 1},
        _with_an_odd_hub,
    ),
    Scenario(
        "the hub will not take a batch that may be in doubt",
        {Kind.REFUSE: 1, Kind.LOSE_ANSWER: 1, Kind.EDIT: 1},
        _with_an_odd_hub,
        is_large=True,
    ),
    Scenario(
        "the hub finds batches too large",
        {Kind.REFUSE: 2, Kind.LOSE_ANSWER: 1, Kind.CANCEL: 1},
        _with_large_batches,
        is_large=True,
    ),
    Scenario(
        "the device may not write",
        {Kind.FORBID: 1, Kind.LOSE_ANSWER: 1, Kind.CANCEL: 1},
        partial(_with_and_without_doubt, in_conflict),
    ),
    Scenario(
        "other programs set the store up while a session runs",
        {Kind.SET_UP: 1, Kind.TRACK_ANEW: 1, Kind.TRACK: 1},
        _with_other_programs,
    ),
    Scenario(
        "the store is cleared between sessions",
        {Kind.CLEAR: 1, Kind.CLEAR_ALL: 1, Kind.CRASH: 1},
        _with_other_programs,
    ),
    Scenario(
        "the store is reset between sessions",
        {Kind.RESET: 1, Kind.RESET_ALL: 1, Kind.CRASH: 1},
        _with_other_programs,
    ),
    Scenario(
        "records do not fit their table",
        {Kind.EDIT: 1, Kind.MIGRATE: 1, Kind.CRASH: 1},
        _that_do_not_fit,
    ),
    Scenario(
        "answers do not carry all that is in conflict",
        {Kind.EDIT: 1, Kind.LOSE_ANSWER: 1},
        _with_short_answers,
    ),
    Scenario(
        "what waits is read again, edited and retried",
        {Kind.EDIT: 1, Kind.PURGE: 1, Kind.RETRY: 1},
        _that_wait,
    ),
)
