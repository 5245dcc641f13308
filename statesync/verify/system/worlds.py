"""The worlds in which runs begin: two devices, a hub, and what has happened to them so far."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from statesync.protocol.messages import Prepare
from statesync.verify.evolving import evolve
from statesync.verify.modelled import downloads, uploads
from statesync.verify.modelled.adapting import adapt, reread
from statesync.verify.modelled.device import (
    MISSED_DELETES,
    OBJECT,
    Device,
    add_change,
    fix_limit,
    keep_doubt,
    learn,
    put,
    with_change,
    write,
)
from statesync.verify.modelled.hub import EPOCH_LEAP, Hub, pull, purge, push
from statesync.verify.modelled.table import Rules
from statesync.verify.modelled.wire import Change, Fields, Page, Push, PushAnswer, Refusal, fields
from statesync.verify.system.happening import Budget
from statesync.verify.system.network import reaches
from statesync.verify.system.world import Options, Plan, World, Written
from statesync.wire import CLIENT_FORKED

MOST = 40
"""Bytes that a record may have on the hub in the session that is disturbed."""

_A, _B = 0, 1


def text(words: str) -> Fields:
    """Return a record."""
    return fields({"text": words})


def offered(hub: Hub, device: Device, *changes: tuple[str, Fields | None]) -> tuple[Hub, Device]:
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


def two_devices(*later: tuple[str, Fields | None], keys: str = "xyz") -> tuple[Hub, Hub, Device, Device]:
    """Return a hub, its backup from before ``later``, and two devices that both had x, y and z, or ``keys``.

    Device b has written ``later`` since, and the hub has that already.
    """
    seed = Device("seed", "seed", hub="hub", epoch=1)
    first = [(key, text(key)) for key in keys]
    hub, seed = offered(Hub(most=MOST), seed, *first)
    a, b = (
        learn(evolve(Device(name, name), rows=seed.rows, cursor=hub.head), hub.id, hub.epoch, hub.head)
        for name in "ab"
    )
    backup = hub
    for change in later:
        hub, b = offered(hub, b, change)
    return hub, backup, a, b


def world_of(hub: Hub, backup: Hub, a: Device, b: Device, policy: str) -> World:
    """Return a world in which device a has two sessions, and then device b one."""
    every = Options(policy=policy)
    return World(hub, (a, b), (Plan(_A, every), Plan(_A, every), Plan(_B, every)), Budget(), backup=backup)


def in_conflict(policy: str) -> World:
    """Device a has edited x and y; device b has edited y and z, and the hub has that already.

    So two upload batches and up to two pages lie before a, and y is in conflict.
    """
    hub, backup, a, b = two_devices(("y", text("y of b")), ("z", text("z of b")))
    a = write(write(a, "x", text("x of a")), "y", text("y of a"))
    return world_of(hub, backup, a, b, policy)


def deleted(policy: str) -> World:
    """Device a has edited x and deleted z, device b has deleted y and edited z: edits meet deletes."""
    hub, backup, a, b = two_devices(("y", None), ("z", text("z of b")))
    a = write(write(write(a, "x", text("x of a")), "z", None), "y", text("y of a"))
    return world_of(hub, backup, a, b, policy)


def rejected(policy: str, *, all_of_them: bool) -> World:
    """Device a has an x that is too large for the hub, and perhaps a y that is not."""
    hub, backup, a, b = two_devices(("z", text("z of b")))
    a = write(a, "x", text("x of a, which is too large for this hub"))
    if not all_of_them:
        a = write(a, "y", text("y of a"))
    return world_of(hub, backup, a, b, policy)


def with_doubt(world: World) -> tuple[World, World]:
    """Return ``world`` with a's first batch in doubt: the hub has not heard of it, and has applied it."""
    a, b = world.devices
    a, limit = fix_limit(a)
    a, batch = uploads.prepare(a, Prepare(1, 0, limit), size=1)
    if batch is None:
        raise ValueError("there is nothing to be in doubt of")
    unsure = keep_doubt(uploads.stage(a, batch))
    unheard = evolve(world, devices=(unsure, b))
    return unheard, reaches(unheard, uploads.request(a, batch))[0]


def with_and_without_doubt(make: Callable[[str], World], policy: str) -> list[World]:
    """Return the world that ``make`` makes, and both that it is with its first batch in doubt."""
    clean = make(policy)
    return [clean, *with_doubt(clean)]


def with_short_answers(policy: str) -> list[World]:
    """Return worlds whose hub answers a batch with one of its two records in conflict."""
    hub, backup, a, b = two_devices(("x", text("x of b")), ("y", text("y of b")))
    a = write(write(a, "x", text("x of a")), "y", text("y of a"))
    both = Options(policy=policy, batch_size=2)
    world = world_of(evolve(hub, carries=1), backup, a, b, policy)
    world = evolve(world, plans=(Plan(_A, both), *world.plans[1:]))
    up = evolve(world, plans=(Plan(_A, evolve(both, downloads=False)), *world.plans[1:]))
    return [world, *with_doubt(world), up]


def in_one_direction(policy: str) -> list[World]:
    """Return worlds whose first session only downloads, or only uploads."""
    ways = (Options(downloads=False, policy=policy), Options(uploads=False, policy=policy))
    worlds = with_and_without_doubt(in_conflict, policy)
    return [evolve(world, plans=(Plan(_A, way), *world.plans[1:])) for way in ways for world in worlds]


def with_an_odd_hub(policy: str) -> list[World]:
    """Return worlds whose hub may give a reason to read again; it takes longer until everybody agrees."""
    worlds = [*with_and_without_doubt(in_conflict, policy), deleted(policy)]
    return [
        evolve(world, is_odd=True, plans=(*world.plans, *world.plans[1:], world.plans[1])) for world in worlds
    ]


def with_other_programs(policy: str) -> list[World]:
    """Return worlds in which the store changes under a session; one more of them, until everybody agrees."""
    applied = with_doubt(in_conflict(policy))[1]
    return [evolve(world, plans=(*world.plans, *world.plans[1:])) for world in (applied, deleted(policy))]


def with_rejections(policy: str) -> list[World]:
    """Return worlds in which the hub takes some changes, or none."""
    some, every = (rejected(policy, all_of_them=all_of_them) for all_of_them in (False, True))
    up = evolve(every, plans=(Plan(_A, Options(downloads=False, policy=policy)), *every.plans[1:]))
    return [some, every, up]


def with_large_batches(policy: str) -> list[World]:
    """Return worlds whose batches can be cut."""
    large = Options(policy=policy, batch_size=2)
    worlds = with_and_without_doubt(in_conflict, policy)
    return [evolve(world, is_odd=True, plans=(Plan(_A, large), *world.plans[1:])) for world in worlds]


def with_rights_that_end(policy: str) -> list[World]:
    """Return worlds whose hub may refuse all that a device writes, also once it has taken a batch of its.

    The device keeps that batch in doubt while it reads on. It stays who it is, so that what has changed since
    never meets its own older write as a conflict.
    """
    worlds = with_and_without_doubt(in_conflict, policy)
    up = Options(downloads=False, policy=policy)
    return [*worlds, evolve(worlds[-1], plans=(Plan(_A, up), *worlds[-1].plans))]


def having_read(world: World) -> World:
    """Return a world whose device a has read all that the hub has."""
    a, b = world.devices
    while not dict(a.rows) or a.cursor < world.hub.head:
        _, page = pull(world.hub, downloads.request(a))
        if not isinstance(page, Page):
            raise TypeError(f"the hub refused what a world begins with: {page}")
        a, _ = downloads.store(a, page)
    return evolve(world, devices=(evolve(a, committed=()), b))


def later(world: World, *changes: tuple[str, Fields | None]) -> World:
    """Let device b write on the hub."""
    a, b = world.devices
    hub = world.hub
    for change in changes:
        hub, b = offered(hub, b, change)
    written = tuple(Written(hub.epoch, key, data, b.client) for key, data in changes)
    return evolve(world, hub=hub, devices=(a, b), written=(*world.written, *written))


_RULES = Rules(refuses=(text("unfit"),), is_unique=True)
"""Rules of device a's table alone: the hub and device b take every record."""


def _strict(policy: str, *later: tuple[str, Fields | None]) -> World:
    hub, backup, a, b = two_devices(*later)
    return world_of(hub, backup, evolve(a, rules=_RULES), b, policy)


def moving(policy: str) -> World:
    """Device b has swapped the values of x and y, over two pages, and has a z that does not fit a's table."""
    return _strict(policy, ("x", text("y")), ("y", text("x")), ("z", text("unfit")))


def held(policy: str) -> World:
    """At device a a y waits behind x, and a z that does not fit; it has edited y. Device b has deleted x."""
    world = having_read(_strict(policy, ("y", text("x")), ("z", text("unfit"))))
    a, b = world.devices
    edited = evolve(world, devices=(write(a, "y", text("y of a")), b))
    return later(edited, ("x", None))


def refused(policy: str) -> World:
    """At device a a z waits that device b has deleted since, and an x that the hub has refused."""
    world = having_read(_strict(policy, ("z", text("unfit"))))
    a, b = world.devices
    a, _ = fix_limit(write(a, "x", text("x of a, which is too large for this hub")))
    a = with_change(a, "x", partial(evolve, failed=True, parked=1))
    return later(evolve(world, devices=(a, b)), ("z", None))


def that_do_not_fit(policy: str) -> list[World]:
    """Return worlds with records that do not fit their table; one more session, until everybody agrees."""
    worlds = (moving(policy), held(policy))
    return [evolve(world, plans=(*world.plans, *world.plans[1:])) for world in worlds]


def that_wait(policy: str) -> list[World]:
    """Return worlds in which records and changes wait, and whose hub may give a reason to read again."""
    worlds = (refused(policy), held(policy))
    return [
        evolve(world, is_odd=True, plans=(*world.plans, *world.plans[1:], world.plans[1])) for world in worlds
    ]


# -- deletes of what the hub may have, and of what it has forgotten ------------------------------------


def made(policy: str) -> World:
    """Device a has made x, which waits; both have y and z."""
    hub, backup, a, b = two_devices(keys="yz")
    return world_of(hub, backup, write(a, "x", text("x of a")), b, policy)


def in_another_epoch(world: World) -> World:
    """Return a world whose hub was restored from a backup that has all of it; somebody has found that."""
    hub = world.hub
    restored = evolve(hub, epoch=hub.epochs + 1, epochs=hub.epochs + 1, head=hub.head + EPOCH_LEAP)
    return evolve(world, hub=restored)


def offered_again(policy: str) -> World:
    """Device a has an x that a restored hub has lost, has read all again, and offers it."""
    hub, backup, a, b = two_devices(keys="yz")
    known = a.cursor
    world = in_another_epoch(world_of(hub, backup, a, b, policy))
    a = learn(
        evolve(a, cursor=world.hub.head, epoch=world.hub.epoch), hub.id, world.hub.epoch, world.hub.head
    )
    a = add_change(put(a, "x", text("x of a")), "x", "insert", None, known, shared=True)
    return evolve(world, devices=(a, b))


def sent_by_a_copy(policy: str) -> World:
    """A copy of device a, which has its name, has sent the x that waits on it; a has heard of that."""
    world = made(policy)
    a, b = world.devices
    change = Change(OBJECT, "x", 0, a.row("x"))
    there, _ = reaches(world, Push(a.client, a.number + 1, "copy", a.hub, a.epoch, (change,), a.head))
    return evolve(there, devices=(adapt(a, Refusal(CLIENT_FORKED, number=a.number + 1)), b))


def made_twice(policy: str) -> World:
    """Both have made x, and the hub has that of b, which device a has seen."""
    return having_read(later(made(policy), ("x", text("x of b"))))


def forgotten(policy: str) -> World:
    """Device b has deleted x and edited y and z, and the hub has forgotten the delete; a was away."""
    hub, backup, a, b = two_devices()
    world = later(world_of(hub, backup, a, b, policy), ("x", None))
    forgetful = evolve(world, hub=purge(world.hub, world.hub.head)[0])
    return later(forgetful, ("z", text("z of b")), ("y", text("y of b")))


def half_read(policy: str) -> World:
    """Device a has begun to read again what it has missed, and has come past the delete of x."""
    world = forgotten(policy)
    a, b = world.devices
    a = reread(a, MISSED_DELETES)
    _, page = pull(world.hub, downloads.request(a))
    if not isinstance(page, Page):
        raise TypeError(f"the hub refused what a world begins with: {page}")
    a, _ = downloads.store(a, page)
    return evolve(world, devices=(evolve(a, committed=()), b))


def only_sent(policy: str) -> World:
    """Device a has sent x and read nothing; device b has deleted it, and the hub has forgotten that."""
    hub, backup, a, b = two_devices(keys="yz")
    a = evolve(a, rows=(), cursor=0, head=0)
    hub, a = offered(hub, a, ("x", text("x of a")))
    b = evolve(b, cursor=hub.head, head=hub.head, rows=tuple(sorted((*b.rows, *a.rows))))
    world = later(world_of(hub, backup, evolve(a, cursor=0), b, policy), ("x", None))
    return evolve(world, hub=purge(world.hub, world.hub.head)[0])


def that_may_be_there(policy: str) -> list[World]:
    """Return worlds in which a hub may have the x that waits at device a, each for another reason."""
    doubtful = map(in_another_epoch, with_doubt(made(policy)))
    others = (offered_again(policy), sent_by_a_copy(policy), made_twice(policy))
    return [odd(world) for world in (*doubtful, *others)]


def that_were_forgotten(policy: str) -> list[World]:
    """Return worlds in which device a has missed a delete that the hub has forgotten."""
    worlds = (forgotten(policy), half_read(policy), only_sent(policy))
    return [odd(half_read(policy)), *(odd(in_another_epoch(world)) for world in worlds)]


def odd(world: World) -> World:
    """Return a world whose hub may give reasons to read again; it takes longer until everybody agrees."""
    return evolve(world, is_odd=True, plans=(*world.plans, *world.plans[1:], world.plans[1]))
