"""The driver of the modelled world: it asks the real conversation, and does what it says.

One event is one transaction, as in section 3.3 of the design: the triggers are taken by the real charts, the
effects are written, and only then the actions are done.
"""

from __future__ import annotations

from attrs import evolve, frozen

from statesync.lifecycle import Phase
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    Action,
    Adapt,
    BackoffOver,
    Begin,
    BeginSession,
    Conversation,
    Drain,
    DropBatch,
    Effect,
    EndSession,
    Event,
    Finish,
    GoOn,
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
from statesync.values import Direction
from statesync.verify.firing import NotTaken, Standing, take
from statesync.verify.system import promises, store
from statesync.verify.system.world import (
    NOTHING_HAPPENS,
    Ask,
    Device,
    Page,
    Request,
    Talk,
    Upload,
    Verdicts,
    World,
)

MAX_ATTEMPTS = 2


@frozen
class Step:
    """One thing that happens, and the promise that it breaks, if it does."""

    words: str
    target: World
    broken: str | None = None


def begin(world: World) -> World:
    """Return ``world`` with the next session about to begin."""
    conversation, device = Conversation(max_attempts=MAX_ATTEMPTS), world.device
    begin_ = Begin(replay=device.in_doubt, waiting=bool(device.outbox))
    return evolve(world, talk=Talk(conversation, awaits=begin_))


def driven(world: World, talk: Talk) -> Step:
    """Do what the driver does next, where no cancel comes first."""
    awaited, idle = talk.awaits, evolve(talk, awaits=None)
    match awaited:
        case Prepare(round=round_):
            return _prepared(world, idle, round_)
        case GoOn():
            return heard(world, idle, Proceed(), "the session goes on")
        case Wait():
            return heard(world, idle, BackoffOver(), "the back-off is over")
        case Begin():
            return heard(world, idle, awaited, f"{world.device.name} begins a session")
    raise ValueError("nothing is awaited")


def _prepared(world: World, talk: Talk, round_: int) -> Step:
    device = world.device
    looked_through = talk.looked_through if round_ == talk.round else 0
    upload = device.upload if round_ == 0 else store.next_upload(device, looked_through, talk.horizon)
    looked = evolve(talk, round=round_, looked_through=looked_through, next_upload=upload)
    event = Prepared(len(upload.changes) if upload else 0)
    return heard(world, looked, event, f"{event.records} records are prepared")


def heard(world: World, talk: Talk, event: Event, words: str) -> Step:
    """Let the conversation decide about an event, and do what it says as one transaction."""
    now = talk.conversation
    decision = decide(now, event)
    try:
        after, _ = take(standing_of(now), decision.triggers, decision.facts)
    except NotTaken as refusal:
        return Step(f"{words}: {refusal}", world, promises.LAWFUL)
    broken = promises.broken_by_decision(talk, event, decision, after)
    device = world.device
    for effect in decision.effects:
        if isinstance(effect, Adapt):
            return Step(words, world, promises.NEVER_FORKED)
        device, talk = _written(device, talk, effect, world.policy)
    talk = evolve(talk, conversation=decision.conversation.at(after.phase, after.batch))
    acted = with_device(evolve(world, talk=talk), device)
    for action in decision.then:
        acted, wrong = _acted(acted, action)
        broken = broken or wrong
    broken = broken or promises.broken_by_device(device)
    return Step(f"{words} ({', '.join(decision.triggers) or 'no trigger'})", acted, broken)


def standing_of(now: Conversation) -> Standing:
    """Return the phases that a conversation knows of."""
    return Standing(now.phase, now.batch.phase if now.batch else None)


def with_device(world: World, device: Device) -> World:
    """Return ``world`` with another state of the device whose turn it is."""
    first, second = world.devices
    return evolve(world, devices=(first, device) if world.running else (device, second))


def _written(device: Device, talk: Talk, effect: Effect, policy: str) -> tuple[Device, Talk]:
    match effect:
        case BeginSession(uploads=uploads):
            return device, evolve(talk, horizon=device.positions if uploads else 0)
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
    now = talk.conversation
    begun = now.replaying or now.batches > 0
    broken = promises.broken_by_end(world.device, now.phase, has_begun=begun)
    if talk.request is not None or talk.reply is not None:
        broken = promises.RELEASED
    return next_stage(world, now.phase), broken


def next_stage(world: World, phase: Phase) -> World:
    """Return ``world`` with its session over, in ``phase``, and the next one about to begin."""
    over = evolve(
        world, talk=None, stage=world.stage + 1, budget=NOTHING_HAPPENS, ended=(*world.ended, phase)
    )
    return over if over.is_over else begin(over)
