"""Everything that can happen next in a modelled world."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from statesync.errors import ConnectionLost, Unreachable
from statesync.lifecycle import Facts, Phase, Trigger
from statesync.messages import (
    Action,
    Adapt,
    Answered,
    BackoffOver,
    Begin,
    BeginSession,
    Broke,
    CancelRequested,
    Conversation,
    Drain,
    DropBatch,
    Effect,
    EndSession,
    Event,
    Finish,
    GoOn,
    GraceOver,
    Interrupt,
    Prepare,
    Prepared,
    Proceed,
    Send,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
    StoreDoubt,
    Wait,
)
from statesync.protocol import decide
from statesync.values import Direction, Reason
from statesync.verify.firing import NotTaken, Standing, take
from statesync.verify.system import promises, store
from statesync.verify.system.hub import Forked, pull, push
from statesync.verify.system.world import (
    NOTHING_HAPPENS,
    Ask,
    Device,
    Hub,
    Lost,
    Page,
    Reply,
    Request,
    Talk,
    Upload,
    Verdicts,
    World,
)

MAX_ATTEMPTS = 2

EDITED = ("x", "z")
"""The records that the user may edit during the session: one that goes up, and one that comes down."""


@frozen
class Step:
    """One thing that happens, and the promise that it breaks, if it does."""

    words: str
    target: World
    broken: str | None = None


def begin(world: World) -> World:
    """Return ``world`` with the next session about to begin."""
    conversation = Conversation(max_attempts=MAX_ATTEMPTS)
    return evolve(world, talk=Talk(conversation, awaits=Begin(replay=world.device.in_doubt)))


def steps(world: World) -> Iterator[Step]:
    """Yield everything that can happen next."""
    if world.late is not None:
        yield _late(world)
    if world.talk is None:
        return
    if world.talk.awaits is not None:
        yield _driven(world, world.talk)
    yield from _network(world, world.talk)
    yield from _accidents(world, world.talk)
    if world.talk.draining:
        yield _heard(world, world.talk, GraceOver(), "the grace is over")


# -- the driver ------------------------------------------------------------------------------------


def _driven(world: World, talk: Talk) -> Step:
    """Do what the driver does next, when no cancel came first."""
    awaited, idle = talk.awaits, evolve(talk, awaits=None)
    match awaited:
        case Prepare(round=round_):
            return _prepared(world, idle, round_)
        case GoOn():
            return _heard(world, idle, Proceed(), "the session goes on")
        case Wait():
            return _heard(world, idle, BackoffOver(), "the back-off is over")
        case Begin():
            return _heard(world, idle, awaited, f"{world.device.name} begins a session")
    raise ValueError("nothing is awaited")


def _prepared(world: World, talk: Talk, round_: int) -> Step:
    device = world.device
    looked_through = talk.looked_through if round_ == talk.round else 0
    upload = device.upload if round_ == 0 else store.next_upload(device, looked_through, talk.horizon)
    looked = evolve(talk, round=round_, looked_through=looked_through, next_upload=upload)
    event = Prepared(len(upload.changes) if upload else 0)
    return _heard(world, looked, event, f"{event.records} records are prepared")


def _heard(world: World, talk: Talk, event: Event, words: str) -> Step:
    """Let the conversation decide about an event, and do what it says as one transaction."""
    now = talk.conversation
    decision = decide(now, event)
    try:
        after, _ = take(_standing(now), decision.triggers, decision.facts)
    except NotTaken as refusal:
        return Step(f"{words}: {refusal}", world, promises.LAWFUL)
    broken = promises.broken_by_decision(talk, event, decision, after)
    device = world.device
    for effect in decision.effects:
        if isinstance(effect, Adapt):
            return Step(words, world, promises.NEVER_FORKED)
        device, talk = _written(device, talk, effect, world.policy)
    talk = evolve(talk, conversation=decision.conversation.at(after.phase, after.batch))
    acted = _with_device(evolve(world, talk=talk), device)
    for action in decision.then:
        acted, wrong = _acted(acted, action)
        broken = broken or wrong
    broken = broken or promises.broken_by_device(device)
    return Step(f"{words} ({', '.join(decision.triggers) or 'no trigger'})", acted, broken)


def _standing(now: Conversation) -> Standing:
    return Standing(now.phase, now.batch.phase if now.batch else None)


def _with_device(world: World, device: Device) -> World:
    first, second = world.devices
    return evolve(world, devices=(first, device) if world.running else (device, second))


def _written(device: Device, talk: Talk, effect: Effect, policy: str) -> tuple[Device, Talk]:
    match effect:
        case BeginSession():
            return device, evolve(talk, horizon=device.positions)
        case StoreBatch(number=number, direction=direction):
            return _with_batch(device, talk, number, direction), talk
        case StoreAttempt():
            return evolve(device, in_doubt=device.upload is not None), talk
        case StoreAnswer(direction=Direction.UPLOAD):
            through = max([talk.looked_through, *(each.position for each in _staged(device).changes)])
            stored = store.store_verdicts(device, _verdicts(talk), policy)
            return evolve(stored, open_batch=None), evolve(talk, reply=None, looked_through=through)
        case StoreAnswer():
            stored = store.store_page(device, _page(talk))
            return evolve(stored, open_batch=None), evolve(talk, reply=None)
        case StoreDoubt(doubtful=doubtful):
            return evolve(device, in_doubt=doubtful), talk
        case DropBatch(doubtful=doubtful):
            kept = device.upload if doubtful else None
            return evolve(device, in_doubt=doubtful, upload=kept, open_batch=None), talk
        case EndSession():
            return device, talk
    raise ValueError(f"the model does not know {effect}")


def _with_batch(device: Device, talk: Talk, number: int, direction: Direction) -> Device:
    opened = evolve(device, open_batch=(number, direction))
    if direction is Direction.DOWNLOAD:
        return opened
    made = device.batches_made + (talk.next_upload != device.upload)
    return evolve(opened, upload=talk.next_upload, batches_made=made)


def _staged(device: Device) -> Upload:
    if device.upload is None:
        raise ValueError("no upload batch is staged")
    return device.upload


def _verdicts(talk: Talk) -> Verdicts:
    if not isinstance(talk.reply, tuple):
        raise TypeError("no verdicts are there")
    return talk.reply


def _page(talk: Talk) -> Page:
    if not isinstance(talk.reply, Page):
        raise TypeError("no page is there")
    return talk.reply


def _acted(world: World, action: Action) -> tuple[World, str | None]:
    talk = world.talk
    if talk is None:
        raise ValueError("the session is over")
    match action:
        case Prepare() | GoOn() | Wait():
            return evolve(world, talk=evolve(talk, awaits=action)), None
        case Send(direction=direction):
            return evolve(
                world, talk=evolve(talk, request=_request(world.device, direction), reply=None)
            ), None
        case Drain():
            return evolve(world, talk=evolve(talk, draining=True)), None
        case Interrupt():
            return evolve(world, talk=evolve(talk, request=None, reply=None), late=talk.request), None
        case Finish():
            return _ended(world, talk)
    raise ValueError(f"the model does not know {action}")


def _request(device: Device, direction: Direction) -> Request:
    if direction is Direction.UPLOAD:
        return _staged(device)
    return Ask(device.name, device.number, device.cursor)


def _ended(world: World, talk: Talk) -> tuple[World, str | None]:
    phase = talk.conversation.phase
    under_way = talk.request is not None or talk.reply is not None
    broken = promises.RELEASED if under_way else promises.broken_by_end(world.device, phase)
    return _next_stage(world, phase), broken


def _next_stage(world: World, phase: Phase) -> World:
    over = evolve(
        world, talk=None, stage=world.stage + 1, budget=NOTHING_HAPPENS, ended=(*world.ended, phase)
    )
    return over if over.is_over else begin(over)


# -- the network -----------------------------------------------------------------------------------


def _network(world: World, talk: Talk) -> Iterator[Step]:
    if talk.request is not None and talk.reply is None:
        yield _answered(world, talk, talk.request)
        yield from _lost(world, talk, talk.request)
    elif talk.reply is not None:
        yield _arrived(world, talk, talk.reply)


def _answered(world: World, talk: Talk, request: Request) -> Step:
    try:
        hub, reply = _asked(world, request)
    except Forked as error:
        return Step(f"the hub refuses: {error}", world, promises.NEVER_FORKED)
    there = evolve(talk, request=None, reply=reply)
    return Step("the hub answers", evolve(world, hub=hub, talk=there))


def _asked(world: World, request: Request) -> tuple[Hub, Reply]:
    if isinstance(request, Upload):
        return push(world.hub, request)
    return world.hub, pull(world.hub, request)


def _lost(world: World, talk: Talk, request: Request) -> Iterator[Step]:
    budget = world.budget
    if budget.lost_requests:
        left = evolve(world, budget=evolve(budget, lost_requests=budget.lost_requests - 1))
        for words, maybe in (("the connection is refused", False), ("the request is lost", True)):
            yield Step(words, evolve(left, talk=evolve(talk, request=None, reply=Lost(maybe))))
    if budget.lost_answers:
        left = evolve(world, budget=evolve(budget, lost_answers=budget.lost_answers - 1))
        hub, _ = _asked(world, request)
        yield Step(
            "the answer is lost",
            evolve(left, hub=hub, talk=evolve(talk, request=None, reply=Lost(maybe_applied=True))),
        )


def _arrived(world: World, talk: Talk, reply: Reply) -> Step:
    match reply:
        case Lost(maybe_applied=maybe):
            gone = evolve(talk, reply=None)
            if maybe:
                error = ConnectionLost("no answer", retryable=True, maybe_applied=True)
                return _heard(world, gone, Broke(error), "the request has failed")
            return _heard(
                world, gone, Broke(Unreachable("refused", retryable=True)), "the request has failed"
            )
        case Page(records=records, more=more):
            return _heard(world, talk, Answered(len(records), more=more), "the page arrives")
        case verdicts:
            again = store.resent(verdicts, world.policy)
            return _heard(world, talk, Answered(len(verdicts), resend=again), "the verdicts arrive")


def _late(world: World) -> Step:
    """A request that nobody waits for reaches the hub; where its answer goes, nobody listens."""
    gone = evolve(world, late=None)
    if not isinstance(world.late, Upload):
        return Step("a late request for a page reaches the hub", gone)
    try:
        hub, _ = push(world.hub, world.late)
    except Forked:
        return Step("a late upload reaches the hub, which refuses it", gone)
    return Step("a late upload reaches the hub", evolve(gone, hub=hub))


# -- what goes wrong -------------------------------------------------------------------------------


def _accidents(world: World, talk: Talk) -> Iterator[Step]:
    budget = world.budget
    if budget.cancels and talk.conversation.phase is not Phase.CANCELLING:
        left = evolve(world, budget=evolve(budget, cancels=budget.cancels - 1))
        yield _heard(left, evolve(talk, awaits=None), CancelRequested(Reason.USER), "the user cancels")
    if promises.broken_by_second_cancel(talk):
        yield Step("the user cancels again", world, promises.SAME_OUTCOME)
    if budget.crashes:
        yield _crashed(evolve(world, budget=evolve(budget, crashes=budget.crashes - 1)), talk)
    if budget.edits:
        left = evolve(world, budget=evolve(budget, edits=budget.edits - 1))
        for key in EDITED:
            value = f"{key} edited {budget.edits}"
            edited = _with_device(left, store.edit(world.device, key, value))
            yield Step(f"the user writes {key}", edited)


def _crashed(world: World, talk: Talk) -> Step:
    """The program ends; whoever opens the store next records the session as failed (K8)."""
    device = world.device
    standing = _standing(talk.conversation)
    triggers = (Trigger.ABORT_BATCH, Trigger.FAIL) if standing.batch else (Trigger.FAIL,)
    ended, _ = take(standing, triggers, Facts(request_ended=True))
    kept = device.upload if device.in_doubt else None
    recovered = _with_device(world, evolve(device, upload=kept, open_batch=None))
    left = evolve(recovered, late=talk.request or world.late)
    # The horizon of a session that never began is not durable, and nobody asks for it again.
    broken = promises.broken_by_end(recovered.device, ended.phase)
    lawful = ended.phase is Phase.FAILED and device.in_doubt == (kept is not None)
    return Step(
        "the program crashes",
        _next_stage(left, ended.phase),
        broken or (None if lawful else promises.NEVER_RESUMED),
    )
