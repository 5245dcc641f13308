"""The worlds in which an object is read from the start by a hub that knows scans."""

from __future__ import annotations

from statesync.protocol.messages import Prepare
from statesync.verify.evolving import evolve
from statesync.verify.modelled import downloads, others, uploads
from statesync.verify.modelled.adapting import adapt
from statesync.verify.modelled.device import OBJECT, OTHER_OBJECT, Device, fix_limit, put, write
from statesync.verify.modelled.hub import pull, purge, restored
from statesync.verify.modelled.ranges import Index
from statesync.verify.modelled.table import Rules
from statesync.verify.modelled.wire import Change, Fields, Page, Push, PushAnswer, Refusal
from statesync.verify.system.network import reaches
from statesync.verify.system.world import World
from statesync.verify.system.worlds import (
    having_read,
    in_another_epoch,
    later,
    odd,
    text,
    two_devices,
    world_of,
)
from statesync.wire import EPOCH_CHANGED, HORIZON_PASSED

FILTER = (("text", ("x", "y of b", "x there 1")),)
"""What a filter lets through."""


def _scanned(world: World) -> World:
    """Return a world whose hub knows scans."""
    return odd(evolve(world, hub=evolve(world.hub, scans=True)))


def fresh(policy: str, *offline: tuple[str, Fields | None]) -> World:
    """Device a has read nothing, and has written ``offline``; device b has x, y and z, as the hub has."""
    hub, backup, _, b = two_devices()
    a = Device("a", "a")
    for change in offline:
        a = write(a, *change)
    return _scanned(world_of(hub, backup, a, b, policy))


def _page_read(world: World) -> World:
    """Let device a read one page."""
    a, b = world.devices
    _, page = pull(world.hub, downloads.request(a))
    if not isinstance(page, Page):
        raise TypeError(f"the hub refused what a world begins with: {page}")
    a, _ = downloads.store(a, page)
    return evolve(world, devices=(evolve(a, committed=()), b))


def _uploaded(world: World, *changes: tuple[str, Fields | None]) -> World:
    """Let device a write, and upload that."""
    a, b = world.devices
    for change in changes:
        a = write(a, *change)
    a, limit = fix_limit(a)
    a, batch = uploads.prepare(a, Prepare(1, 0, limit), size=9)
    if batch is None:
        raise ValueError("there is nothing to upload")
    a = uploads.stage(a, batch)
    world, answer = reaches(world, uploads.request(a, batch))
    if not isinstance(answer, PushAnswer):
        raise TypeError(f"the hub refused what a world begins with: {answer}")
    a, _, _ = uploads.store(a, batch, uploads.take(a, batch, answer, "server_wins", None)[0])
    return evolve(world, devices=(evolve(a, committed=()), b))


def amid(policy: str) -> World:
    """Device a has scanned x; then it has made one record between x and z, and one behind all."""
    return _uploaded(_page_read(fresh(policy)), ("xx", text("xx of a")), ("zz", text("zz of a")))


def sent_before(policy: str) -> World:
    """Device a has sent w, yy and zz before it has read anything; device b has read that, and written w."""
    world = _uploaded(fresh(policy), *((key, text(f"{key} of a")) for key in ("w", "yy", "zz")))
    a, b = world.devices
    known = evolve(b, rows=tuple(sorted((*b.rows, *a.rows))), cursor=world.hub.head, head=world.hub.head)
    return later(evolve(world, devices=(a, known)), ("w", text("w of b")))


def amid_others(policy: str) -> World:
    """Device a has scanned x; then device b has deleted y and written z, and a has made w."""
    world = later(_page_read(fresh(policy)), ("y", None), ("z", text("z of b")))
    a, b = world.devices
    return evolve(world, devices=(write(a, "w", text("w of a")), b))


def resolved_amid(policy: str) -> World:
    """Device a has scanned x; then it has made the z that b has written since, and was told of that."""
    world = later(_page_read(fresh(policy)), ("z", text("z of b")))
    return _uploaded(world, ("z", text("z of a")))


def only_sent(policy: str) -> World:
    """Device a has sent w and read nothing; device b has deleted it, and the hub has forgotten that."""
    world = _uploaded(fresh(policy), ("w", text("w of a")))
    a, b = world.devices
    known = evolve(b, rows=tuple(sorted((*b.rows, *a.rows))), cursor=world.hub.head, head=world.hub.head)
    world = later(evolve(world, devices=(a, known)), ("w", None))
    return evolve(world, hub=purge(world.hub, world.hub.head)[0])


def amid_at_older(policy: str) -> World:
    """Device a has scanned x and y; then b has deleted x, the hub has forgotten that, and knows no scans."""
    world = later(_page_read(_page_read(fresh(policy))), ("x", None))
    return evolve(world, hub=evolve(purge(world.hub, world.hub.head)[0], scans=False))


def missed(policy: str) -> World:
    """Device a was away: b has deleted y, the hub has forgotten that, and b has written x and z."""
    hub, backup, a, b = two_devices(("y", None))
    world = _scanned(world_of(purge(hub, hub.head)[0], backup, a, b, policy))
    return later(world, ("x", text("x of b")), ("z", text("z of b")))


def missed_last(policy: str) -> World:
    """Device a was away: b has deleted z, the hub has forgotten that, and b has written x."""
    hub, backup, a, b = two_devices(("z", None))
    world = _scanned(world_of(purge(hub, hub.head)[0], backup, a, b, policy))
    return later(world, ("x", text("x of b")))


def missed_amid(policy: str) -> World:
    """Device a was away, has scanned x again, and then missed the delete of z, too."""
    world = missed(policy)
    a, b = world.devices
    world = _page_read(evolve(world, devices=(adapt(a, Refusal(HORIZON_PASSED)), b)))
    world = later(world, ("z", None))
    return evolve(world, hub=purge(world.hub, world.hub.head)[0])


def begun_anew(policy: str) -> World:
    """Device a has begun a second scan, since the first, which came to x, was forgotten; then b wrote z."""
    world = missed_amid(policy)
    a, b = world.devices
    return later(evolve(world, devices=(adapt(a, Refusal(HORIZON_PASSED)), b)), ("zz", text("zz of b")))


def lost(policy: str) -> World:
    """The hub was restored from a backup that lacks a w and b's z, which device a has read."""
    hub, backup, a, b = two_devices(("w", text("w of b")), ("z", text("z of b")))
    world = having_read(world_of(hub, backup, a, b, policy))
    return _scanned(in_another_epoch(evolve(world, hub=restored(hub, backup))))


def lost_amid(policy: str) -> World:
    """The same, and device a has scanned one page of what there is after it."""
    world = lost(policy)
    a, b = world.devices
    return _page_read(evolve(world, devices=(adapt(a, Refusal(EPOCH_CHANGED, world.hub.epoch, 0)), b)))


def lost_since(policy: str) -> World:
    """Device a has scanned w and x for the first time; then the hub was restored without them."""
    hub, backup, _, b = two_devices(("w", text("w of b")), ("x", text("x of b")))
    world = _scanned(world_of(hub, backup, Device("a", "a"), b, policy))
    world = _page_read(_page_read(world))
    back = evolve(world, hub=restored(world.hub, evolve(backup, scans=True)))
    return in_another_epoch(back)


def lost_own(policy: str) -> World:
    """Device a has scanned x and written it; then the hub was restored with the x of before."""
    world = _page_read(fresh(policy))
    backup = world.hub
    world = _uploaded(world, ("x", text("x of a")))
    return in_another_epoch(evolve(world, hub=restored(world.hub, backup)))


def deleted_since(policy: str) -> World:
    """The hub was restored, and y was deleted before anybody saw that, in a version that a has seen."""
    world = lost(policy)
    hub = world.hub
    low = evolve(hub, head=max(each.version for each in hub.records))
    gone = Push("c", 1, "c1", hub.id, hub.epoch, (Change(OBJECT, "y", low.head, None),))
    there, _ = reaches(evolve(world, hub=low), gone)
    return evolve(there, hub=evolve(there.hub, head=hub.head))


def filtered(policy: str) -> World:
    """Device a reads with a filter, has scanned x, and has an old z that the filter hides by now."""
    hub, backup, a, b = two_devices(("y", text("y of b")))
    a = evolve(a, filter=FILTER)
    world = _scanned(world_of(hub, backup, a, b, policy))
    a, b = world.devices
    return evolve(world, devices=(adapt(a, Refusal(HORIZON_PASSED)), b))


_RULES = Rules(refuses=(text("unfit"),), is_unique=True)


def strict(policy: str) -> World:
    """Device a has a table of which y does not fit before x is gone, and z not at all."""
    hub, backup, _, b = two_devices(("y", text("x")), ("z", text("unfit")))
    return _scanned(world_of(hub, backup, Device("a", "a", rules=_RULES), b, policy))


def strict_again(policy: str, *changes: tuple[str, Fields | None]) -> World:
    """At device a y and z wait, and are read again; b has written ``changes``."""
    hub, backup, a, b = two_devices(("y", text("x")), ("z", text("unfit")))
    world = having_read(world_of(hub, backup, evolve(a, rules=_RULES), b, policy))
    a, b = world.devices
    world = evolve(world, devices=(adapt(a, Refusal(HORIZON_PASSED)), b))
    return _scanned(later(world, *changes))


def beside_local(policy: str) -> World:
    """Device a has a record that is local only, among those that it reads for the first time."""
    world = fresh(policy)
    a, b = world.devices
    mine = ("yy", text("yy of a"))
    return evolve(world, devices=(evolve(a, rows=(mine,), local=("yy",)), b))


def damaged(policy: str) -> World:
    """Device a has lost its y, and reads the records around it again; b has written w and z since."""
    hub, backup, a, b = two_devices()
    made = [(key, text(f"{key} of b")) for key in ("w", "zz")]
    world = having_read(later(_scanned(world_of(hub, backup, a, b, policy)), *made))
    a, b = world.devices
    a = others.repaired(put(a, "y", None), "x", "z")
    return later(evolve(world, devices=(a, b)), ("w", text("w again")), ("z", text("z of b")))


def two_objects(policy: str) -> World:
    """Device a has read nothing of two objects, which have some keys in common; device b has both."""
    world = fresh(policy)
    a, b = world.devices
    tags = tuple((key, text(f"tag {key}")) for key in "xz")
    changes = tuple(Change(OTHER_OBJECT, *each[:1], 0, each[1]) for each in tags)
    sent = Push(b.client, b.number + 1, "tags", b.hub, b.epoch, changes, b.head)
    world, _ = reaches(world, sent)
    head = world.hub.head
    known = Device(b.name, b.client, object=OTHER_OBJECT, rows=tags, cursor=head)
    b = evolve(b, number=b.number + 1, cursor=head, head=head, beside=known)
    return evolve(world, devices=(evolve(a, beside=Device("a", "a", object=OTHER_OBJECT)), b))


def one_after_the_other(policy: str) -> World:
    """The same, and device a has scanned one object and begun with the other."""
    return _page_read(_page_read(_page_read(_page_read(two_objects(policy)))))


def both_at_once(policy: str) -> World:
    """The same, and the first object is to be read again, while the other one is amid a scan."""
    world = one_after_the_other(policy)
    a, b = world.devices
    again = evolve(adapt(evolve(a, beside=None), Refusal(HORIZON_PASSED)), beside=a.beside)
    return evolve(world, devices=(again, b))


def one_beside_the_feed(policy: str) -> World:
    """The same, and device a follows one object and has to read the other again, of which it has all."""
    world = two_objects(policy)
    for _ in range(5):
        world = _page_read(world)
    a, b = world.devices
    read = a if a.beside is None else evolve(a, beside=adapt(a.beside, Refusal(HORIZON_PASSED)))
    return later(evolve(world, devices=(read, b)), ("y", None))


def first_reads(policy: str) -> list[World]:
    """Return worlds in which device a reads for the first time, from the start and from amid."""
    offline = (("w", text("w of a")), ("y", text("y of a")))
    return [fresh(policy, *offline), amid_others(policy), resolved_amid(policy), amid(policy)]


def of_own(policy: str) -> list[World]:
    """Return worlds in which device a reads what it sent itself; a filter hides some of it in the last."""
    world = sent_before(policy)
    a, b = world.devices
    hides = evolve(world, devices=(evolve(a, filter=(("text", ("x", "zz of a")),)), b))
    return [world, _page_read(world), hides]


def missed_deletes(policy: str) -> list[World]:
    """Return worlds in which device a reads again what it has missed."""
    away = (missed(policy), missed_last(policy), only_sent(policy))
    return [*away, missed_amid(policy), begun_anew(policy)]


def with_an_index(policy: str) -> list[World]:
    """Return worlds in which device a reads into a table with an index that need not be kept meanwhile."""
    world = fresh(policy)
    a, b = world.devices
    first = evolve(world, devices=(evolve(a, index=Index.THERE), b))
    return [first, _page_read(first)]


def all_reads(policy: str) -> list[World]:
    """Return worlds in which device a reads for the first time, or again."""
    return [*first_reads(policy), *missed_deletes(policy)]


def after_a_backup(policy: str) -> list[World]:
    """Return worlds whose hub was restored before, amid and after a scan."""
    after = (lost(policy), lost_amid(policy), lost_since(policy), lost_own(policy), deleted_since(policy))
    return [*after, amid(policy)]


def with_misfits(policy: str) -> list[World]:
    """Return worlds with records that do not fit the table that is read into."""
    return [strict(policy), strict_again(policy), strict_again(policy, ("z", None))]


def with_filters(policy: str) -> list[World]:
    """Return worlds that have a filter, or may get one."""
    return [filtered(policy), amid(policy)]


def with_local_records(policy: str) -> list[World]:
    """Return a world with a record that is none of the hub's business."""
    return [beside_local(policy)]


def with_damage(policy: str) -> list[World]:
    """Return a world in which one range of keys is read again."""
    return [damaged(policy)]


def of_two_objects(policy: str) -> list[World]:
    """Return worlds whose devices have two objects."""
    begun = (two_objects(policy), one_after_the_other(policy), both_at_once(policy))
    return [*begun, one_beside_the_feed(policy)]


def at_any_hub(policy: str) -> list[World]:
    """Return worlds whose hub may be replaced by one of another version."""
    return [fresh(policy), amid(policy), amid_at_older(policy), missed_amid(policy)]
