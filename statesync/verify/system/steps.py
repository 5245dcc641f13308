"""Everything that can happen next in a modelled world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from statesync.lifecycle import Phase
from statesync.protocol.conversation import RequestState
from statesync.protocol.messages import (
    Answered,
    BackoffOver,
    Begin,
    Built,
    CancelRequested,
    Continued,
    Event,
    GraceOver,
    LocalFailure,
    RequestFailed,
)
from statesync.values import Reason
from statesync.verify.evolving import evolve
from statesync.verify.modelled import device as database
from statesync.verify.modelled import others, ranges, uploads
from statesync.verify.modelled.device import Device
from statesync.verify.modelled.downloads import Fetched
from statesync.verify.modelled.hub import purge, restored
from statesync.verify.modelled.table import fits
from statesync.verify.modelled.wire import Change, Fields, Page, Pull, Push, PushAnswer, Request, fields
from statesync.verify.system import promises, waiting
from statesync.verify.system.driver import DISK, begun_anew, has_begun, heard, interrupted, with_device
from statesync.verify.system.happening import UNDER_THE_LOCK, Happening, Kind
from statesync.verify.system.network import late, network, reaches
from statesync.verify.system.world import Failed, Step, Talk, World

EDITED = ("x", "z")
"""The records that the user may edit or delete in a session: one that goes up, and one that comes down."""

WRITTEN_THERE = ("x", "z", "zz")
"""Those that another device may write or delete: the first, the last, and one behind all."""

GRACE, SHORTER = 10.0, 5.0


def steps(world: World) -> Iterator[Step]:
    """Yield everything that can happen next."""
    if world.late is not None and not _is_too_late(world, world.late):
        yield late(world)
    if world.talk is not None:
        yield from _driven(world, world.talk)
        yield from network(world, world.talk)
        yield from _cancelled(world, world.talk)
        yield from _broken_off(world, world.talk)
    yield from _written(world)
    yield from _by_others(world)
    yield from _at_the_hub(world)
    yield from _by_another_device(world)


def _is_too_late(world: World, request: Request) -> bool:
    """Tell whether nobody would hear of a request that nobody stands for: its device was reset."""
    is_known = any(device.client == request.client for device in world.devices)
    return not is_known and len(world.plans) < len(world.devices)


# -- the session's own -----------------------------------------------------------------------------


def _driven(world: World, talk: Talk) -> Iterator[Step]:
    """Yield what the driver may hear next, where no cancel comes first."""
    idle = evolve(talk, next=None)
    if talk.next is not None:
        yield from _heard(world, idle, talk.next, Happening(Kind.GO_ON))
        return
    if talk.reply is not None:
        yield _arrived(world, talk)
    if talk.builds:
        yield from _built(world, evolve(talk, builds=False))
    if talk.backs_off:
        over = evolve(talk, backs_off=False)
        yield from _heard(world, over, BackoffOver(), Happening(Kind.BACKOFF_OVER))
    if talk.grace is not None:
        over = evolve(talk, grace=None)
        yield from _heard(world, over, GraceOver(), Happening(Kind.GRACE_OVER))


def _heard(world: World, talk: Talk, event: Event, happening: Happening) -> Iterator[Step]:
    """Yield what comes of an event, also on a disk that refuses its transaction, and perhaps the next one."""
    yield heard(world, talk, event, happening)
    for fails in range(1, world.budget.times(Kind.ROLL_BACK) + 1):
        refused = evolve(happening, fails=fails)
        yield heard(world.after(Kind.ROLL_BACK, fails), talk, event, refused)


def _built(world: World, talk: Talk) -> Iterator[Step]:
    """Yield what comes of the index that is being built; a full disk leaves it as it was."""
    happening = Happening(Kind.BUILD)
    there = with_device(world, ranges.build_index(world.device))
    yield Step(happening, str(happening), evolve(there, talk=evolve(talk, next=Built())))
    if world.budget.times(Kind.ROLL_BACK):
        refused = evolve(happening, fails=1)
        yield heard(world.after(Kind.ROLL_BACK), talk, LocalFailure(DISK), refused)


def _arrived(world: World, talk: Talk) -> Step:
    """Check and stage the answer; nothing is stored yet, so a cancel that comes now goes first."""
    happening, reply = Happening(Kind.ARRIVE), talk.reply
    there = evolve(talk, request=None, reply=None)
    match reply:
        case Failed(error=error):
            there = evolve(there, next=RequestFailed(error))
        case PushAnswer() if talk.batch is not None:
            now, options = talk.conversation, talk.options
            up_to = None if options.downloads else now.upload_limit
            taken, answered = uploads.take(world.device, talk.batch, reply, options.policy, up_to)
            there = evolve(there, next=answered, taken=taken)
        case Page() if isinstance(talk.request, Pull):
            unbuilt = not reply.more and ranges.index_waits(world.device)
            answered = Answered(len(reply.entries), more=reply.more, unbuilt=unbuilt)
            there = evolve(there, next=answered, taken=Fetched(talk.request, reply))
    return Step(happening, str(happening), evolve(world, talk=there))


# -- accidents -------------------------------------------------------------------------------------


def _cancelled(world: World, talk: Talk) -> Iterator[Step]:
    budget, phase = world.budget, talk.conversation.phase
    if promises.broken_by_second_cancel(talk):
        again = Happening(Kind.CANCEL)
        yield Step(again, f"{again}, once more", world, promises.SAME_OUTCOME)
    if phase is Phase.CANCELLING:
        if budget.times(Kind.HURRY):
            event = CancelRequested(Reason.SHUTDOWN, SHORTER)
            yield heard(world.after(Kind.HURRY), talk, event, Happening(Kind.HURRY, grace=SHORTER))
        return
    if budget.times(Kind.CANCEL):
        for grace in (None, GRACE):
            happening = Happening(Kind.CANCEL, grace=grace)
            yield heard(world.after(Kind.CANCEL), talk, CancelRequested(Reason.USER, grace), happening)
    if budget.times(Kind.TIME_OUT) and talk.next is None:
        left, happening = world.after(Kind.TIME_OUT), Happening(Kind.TIME_OUT)
        yield heard(left, talk, CancelRequested(Reason.DEADLINE), happening)


def _broken_off(world: World, talk: Talk) -> Iterator[Step]:
    if world.budget.times(Kind.CRASH):
        yield interrupted(world.after(Kind.CRASH), talk, Happening(Kind.CRASH))
    if world.budget.times(Kind.DEFECT) and talk.conversation.phase is not Phase.IDLE:
        batch = talk.conversation.batch
        is_sent = batch is not None and batch.request is not RequestState.NOT_SENT
        event: Event = Continued() if is_sent else Begin()
        yield heard(world.after(Kind.DEFECT), talk, event, Happening(Kind.DEFECT))


def _written(world: World) -> Iterator[Step]:
    """Yield what the user may write: each time something else, so that nothing is taken for a repeat."""
    device = world.device
    for kind in (Kind.EDIT, Kind.DELETE):
        times = world.budget.times(kind)
        for key in EDITED if times else ():
            data = fields({"text": f"{key} edited {times}"}) if kind is Kind.EDIT else None
            if data is None and device.row(key) is None:
                continue
            if not fits(device.rules, device.rows, key, data):
                continue
            happening = Happening(kind, key=key, data=data)
            changed = with_device(world.after(kind), database.write(device, key, data))
            yield Step(happening, str(happening), changed)


OTHERS: dict[Kind, Callable[[Device], Device]] = {
    Kind.SET_UP: others.set_up_otherwise,
    Kind.TRACK_ANEW: others.tracked_anew,
    Kind.TRACK: others.with_one_more,
    Kind.MIGRATE: others.migrated,
    Kind.RETRY: others.retried,
    Kind.CLEAR: partial(others.cleared, discard_pending=False),
    Kind.CLEAR_ALL: partial(others.cleared, discard_pending=True),
    Kind.RESET: partial(others.reset, keep_records=True),
    Kind.RESET_ALL: partial(others.reset, keep_records=False),
    Kind.FILTER: partial(others.filtered, wanted=(("text", ("x", "y of b", "x there 1")),)),
}
"""What other programs, or other parts of this one, do to the store."""


def _by_others(world: World) -> Iterator[Step]:
    for kind, changed in OTHERS.items():
        if not world.budget.times(kind) or not _may_happen(world, kind):
            continue
        left = with_device(world.after(kind), changed(world.device))
        if kind in UNDER_THE_LOCK and not has_begun(left):
            left = begun_anew(left)
        broken = None if kind in UNDER_THE_LOCK else waiting.broken_by_others(world.device, left.device)
        yield Step(Happening(kind), str(kind), left, broken)


def _may_happen(world: World, kind: Kind) -> bool:
    if kind is Kind.CLEAR and others.waits(world.device):
        return False
    return kind not in UNDER_THE_LOCK or (world.talk is not None and not has_begun(world))


def _at_the_hub(world: World) -> Iterator[Step]:
    budget, hub, device = world.budget, world.hub, world.device
    if budget.times(Kind.RESTORE) and world.backup is not None:
        forgotten = tuple(evolve(each, epoch=0) for each in world.written)
        left = evolve(world.after(Kind.RESTORE), hub=restored(hub, world.backup), written=forgotten)
        yield Step(Happening(Kind.RESTORE), str(Kind.RESTORE), left)
    if budget.times(Kind.PURGE):
        left = evolve(world.after(Kind.PURGE), hub=purge(hub, hub.head)[0])
        yield Step(Happening(Kind.PURGE), str(Kind.PURGE), left)
    if budget.times(Kind.COPY) and device.hub is not None:
        copied = Push(device.client, device.number + 1, "copy", device.hub, device.epoch, (), 0)
        left, _ = reaches(world.after(Kind.COPY), copied)
        yield Step(Happening(Kind.COPY), str(Kind.COPY), left)
    if budget.times(Kind.OTHER_VERSION):
        left = evolve(world.after(Kind.OTHER_VERSION), hub=evolve(hub, scans=not hub.scans))
        yield Step(Happening(Kind.OTHER_VERSION), str(Kind.OTHER_VERSION), left)


def _by_another_device(world: World) -> Iterator[Step]:
    """Yield what the device that runs no session may write on the hub, where it has read what is there."""
    other = world.devices[0 if world.running else 1]
    for kind in (Kind.WRITE_THERE, Kind.DELETE_THERE):
        times = world.budget.times(kind)
        for key in WRITTEN_THERE if times else ():
            data = fields({"text": f"{key} there {times}"}) if kind is Kind.WRITE_THERE else None
            for part in other.objects:
                left = written_there(world.after(kind), part, key, data)
                if left is not None:
                    happening = Happening(kind, key=key, data=data)
                    yield Step(happening, f"{happening} of {part.object}", left)


def written_there(world: World, part: Device, key: str, data: Fields | None) -> World | None:
    """Let the device that runs no session write on the hub and know it; None where that cannot be.

    ``part`` is what it has of the object that it writes.
    """
    first, second = world.devices
    other = first if world.running else second
    if data is None and part.row(key) is None:
        return None
    change = Change(part.object, key, part.cursor, data)
    number = other.number + 1
    sent = Push(other.client, number, f"{other.name} there {number}", other.hub, other.epoch, (change,))
    left, answer = reaches(world, sent)
    if not isinstance(answer, PushAnswer) or left.hub.head == world.hub.head:
        return None
    knows = evolve(other, number=number, head=answer.head)
    if part is other:
        knows = database.put(knows, key, data)
    else:
        knows = evolve(knows, beside=database.put(part, key, data))
    return evolve(left, devices=(knows, second) if world.running else (first, knows))
