"""The driver of the modelled world: it asks the real conversation, and does what it says.

One event is one transaction, as in section 3.3 of the design: the triggers are taken by the real charts, the
effects are written, and only then the actions are done.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from attrs import frozen

from statesync.errors import StoreChanged, StoreError, SyncFailed
from statesync.lifecycle import Facts, Phase, Trigger
from statesync.protocol.conversation import Conversation
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    Action,
    AskAhead,
    Begin,
    Build,
    ComposeAhead,
    Continue,
    Continued,
    Decision,
    Drain,
    Event,
    Finish,
    GiveHeadStart,
    Interrupt,
    LocalFailure,
    Prepare,
    Prepared,
    Send,
    Wait,
)
from statesync.values import Direction
from statesync.verify.evolving import evolve
from statesync.verify.firing import NotTaken, Phases, take
from statesync.verify.modelled import downloads, uploads
from statesync.verify.modelled.device import Device, recovered
from statesync.verify.modelled.downloads import Fetched
from statesync.verify.modelled.uploads import Batch
from statesync.verify.modelled.wire import Request
from statesync.verify.system import promises, storage
from statesync.verify.system.happening import UNDER_THE_LOCK, Happening
from statesync.verify.system.scans import promises as scanning
from statesync.verify.system.world import Ahead, Plan, Step, Talk, World

MAX_ATTEMPTS = 2

DISK = StoreError("the disk refuses it")
CHANGED = StoreChanged("the store is another one by now")


def begin(world: World) -> World:
    """Return ``world`` with the next session about to begin."""
    plan, device = world.plans[0], world.devices[world.plans[0].device]
    options = plan.options
    conversation = Conversation(options.uploads, options.downloads, MAX_ATTEMPTS)
    begin_ = Begin(replay=device.in_doubt, waiting=bool(device.outbox or device.log))
    waited = (*(each.key for each in device.outbox), *(each.key for each in device.log))
    talk = Talk(
        conversation,
        options,
        next=begin_,
        looks=device.looks,
        held_before=len(device.held),
        waited=waited,
    )
    return evolve(world, plans=world.plans[1:], running=plan.device, talk=talk)


def has_begun(world: World) -> bool:
    """Tell whether a session holds the store's lock; one that has heard nothing yet may begin later."""
    return world.talk is not None and not (
        world.talk.conversation.phase is Phase.IDLE and isinstance(world.talk.next, Begin)
    )


def begun_anew(world: World) -> World:
    """Return ``world``, in which no session has begun, with the next one about to begin as things are now."""
    if world.talk is None:
        return world
    return begin(evolve(world, plans=(Plan(world.running, world.talk.options), *world.plans)))


def phases_of(now: Conversation) -> Phases:
    """Return the phases that a conversation knows of."""
    return Phases(now.phase, now.batch.phase if now.batch else None)


def with_device(world: World, device: Device) -> World:
    """Return ``world`` with another state of the device whose turn it is."""
    first, second = world.devices
    return evolve(world, devices=(first, device) if world.running else (device, second))


# -- one event -------------------------------------------------------------------------------------


def heard(world: World, talk: Talk, event: Event, happening: Happening) -> Step:
    """Let the conversation decide about an event, and do what it says.

    ``happening.fails`` is how many transactions in a row the disk refuses from here on.
    """
    now = talk.conversation
    judged = _judged(decide, now, now.upload_error, event, is_under_way=talk.is_under_way)
    decision, after, broken = judged.decision, judged.after, judged.broken
    if isinstance(after, NotTaken):
        return Step(happening, f"{happening}: {after}", world, promises.LAWFUL)
    words = f"{happening} ({', '.join(decision.triggers) or 'no trigger'})"
    world, talk = _beside(world, talk, decision)
    if happening.fails and decision.triggers:
        failing = evolve(happening, fails=happening.fails - 1)
        if not isinstance(event, LocalFailure):
            return _rolled_back(world, talk, failing, broken, DISK)
        world, talk = stopped(world, talk)
        return interrupted(world, talk, failing)
    committed = storage.NOTHING
    if decision.triggers:
        try:
            device, committed = storage.commit(world.device, talk, decision.effects)
        except storage.Changed:
            return _rolled_back(world, talk, happening, broken, CHANGED)
        broken = broken or promises.broken_by_commit(world.device, device, talk, decision)
        broken = broken or scanning.broken_by_commit(world.hub, world.device, device, talk)
        world = with_device(world, device)
    talk = promises.told(talk, decision, committed.records)
    now = decision.conversation.after(committed, after.phase, after.batch)
    still_staged = now.batch is not None and now.batch.direction is Direction.UPLOAD
    staged, gave_up = talk.batch if still_staged else None, now.upload_error is not None
    talk = evolve(talk, conversation=now, batch=staged, gave_up=gave_up)
    if now.batch is None:
        talk = evolve(talk, taken=None)
    try:
        acted, wrong = _done(world, talk, decision)
    except storage.Changed:
        return _rolled_back(world, talk, happening, broken, CHANGED)
    broken = broken or wrong or promises.broken_by_grace(acted, event)
    return Step(happening, words, acted, broken)


@frozen
class _Judged:
    """A decision, the phases that it leads to or why it leads nowhere, and the promise that it breaks."""

    decision: Decision
    after: Phases | NotTaken
    broken: str | None


@lru_cache(maxsize=1 << 16)  # many worlds differ in their devices alone
def _judged(
    decided: Callable[[Conversation, Event], Decision],
    now: Conversation,
    _error: SyncFailed | None,
    event: Event,
    *,
    is_under_way: bool,
) -> _Judged:
    """Let a conversation decide. It does not compare by its error, so that is given too."""
    decision = decided(now, event)
    try:
        after, _ = take(phases_of(now), decision.triggers, decision.facts)
    except NotTaken as refusal:
        return _Judged(decision, refusal, None)
    broken = promises.broken_by_decision(now, event, decision, after, is_under_way=is_under_way)
    return _Judged(decision, after, broken)


def _beside(world: World, talk: Talk, decision: Decision) -> tuple[World, Talk]:
    """Start what goes on beside the transaction."""
    if not any(isinstance(each, AskAhead) for each in decision.meanwhile):
        return world, talk
    if not isinstance(talk.taken, Fetched):
        raise TypeError("no page is there to be followed")
    return world, evolve(talk, ahead=Ahead(downloads.request_ahead(talk.taken)))


def _rolled_back(
    world: World, talk: Talk, happening: Happening, broken: str | None, error: StoreError
) -> Step:
    """End the session after a transaction was rolled back; nothing is under way any more then.

    If not even that end can be written, whoever opens the store next ends it as interrupted.
    """
    world, talk = stopped(world, talk)
    ending = heard(evolve(world, talk=talk), talk, LocalFailure(error), happening)
    words = f"{happening}, and {error}; {ending.words}"
    return Step(happening, words, ending.target, broken or ending.broken)


def stopped(world: World, talk: Talk) -> tuple[World, Talk]:
    """End the requests that are under way: they may reach the hub, and nobody hears of it."""
    left = evolve(world, late=_unanswered(talk) or world.late)
    return left, evolve(talk, request=None, reply=None, ahead=None, builds=False, next=None)


def _unanswered(talk: Talk) -> Request | None:
    """Return the request that is on its way to the hub."""
    if talk.request is not None:
        return None if talk.reply is not None else talk.request
    return talk.ahead.request if talk.ahead is not None and talk.ahead.reply is None else None


def interrupted(world: World, talk: Talk, happening: Happening) -> Step:
    """End a session that could not record its end: the next opening of the store does it (K8)."""
    now = phases_of(talk.conversation)
    triggers = (Trigger.ABORT_BATCH, Trigger.FAIL) if now.batch else (Trigger.FAIL,)
    ended, _ = take(now, triggers, Facts(request_ended=True))
    left, _ = stopped(world, talk)
    device = recovered(world.device, has_batch=now.batch is not None)
    broken = promises.broken_by_end(device, ended.phase)
    if ended.phase is not Phase.FAILED or device.in_doubt != (device.payload is not None):
        broken = promises.NEVER_RESUMED
    return Step(happening, str(happening), next_session(with_device(left, device), ended.phase), broken)


# -- actions ---------------------------------------------------------------------------------------


def _done(world: World, talk: Talk, decision: Decision) -> tuple[World, str | None]:
    broken = promises.broken_by_device(world.device)
    for action in decision.actions:
        if isinstance(action, Finish):
            over, wrong = _finished(world, talk)
            return over, broken or wrong
        world, talk, wrong = _acted(world, talk, action)
        broken = broken or wrong
    return evolve(world, talk=talk), broken or promises.broken_by_conversation(talk.conversation)


def _prepared(batch: Batch | None) -> Prepared:
    if batch is None:
        return Prepared(0)
    return Prepared(len(batch.payload.changes), batch.last_position, batch.are_offers)


def _acted(world: World, talk: Talk, action: Action) -> tuple[World, Talk, str | None]:
    match action:
        case Prepare():
            if not _may_prepare(world.device, talk, action):
                raise storage.Changed
            device, batch = uploads.prepare(world.device, action, talk.options.batch_size)
            return with_device(world, device), evolve(talk, batch=batch, next=_prepared(batch)), None
        case Continue():
            return world, evolve(talk, next=Continued()), None
        case Send():
            return *_sent(world, talk, action.direction), None
        case Wait():
            return world, evolve(talk, backs_off=True), None
        case Build():
            return world, evolve(talk, builds=True), None
        case Drain(grace=float() as grace):
            left = grace if talk.grace is None else min(grace, talk.grace)
            return world, evolve(talk, grace=left), None
        case Interrupt():
            return *stopped(world, talk), None
        case Drain() | GiveHeadStart() | ComposeAhead():
            return world, talk, None
    raise ValueError(f"the model does not know {action}")


def _may_prepare(device: Device, talk: Talk, wanted: Prepare) -> bool:
    """Tell whether the objects look as they did, where anything of them would be composed."""
    return wanted.round == 0 or not uploads.waits(device, wanted) or storage.looks_as_known(device, talk)


def _sent(world: World, talk: Talk, direction: Direction) -> tuple[World, Talk]:
    """Ask for the open batch's answer, unless it was asked for ahead."""
    wanted, ahead = _request(world.device, talk, direction), talk.ahead
    talk = evolve(talk, asked=storage.asked_from(world.device))
    idle = evolve(talk, request=wanted, reply=None, ahead=None)
    if ahead is None:
        return world, idle
    if ahead.request == wanted:
        return world, evolve(idle, reply=ahead.reply)
    return evolve(world, late=_unanswered(talk) or world.late), idle


def _request(device: Device, talk: Talk, direction: Direction) -> Request:
    if direction is Direction.DOWNLOAD:
        return downloads.request(device)
    if talk.batch is None:
        raise ValueError("no upload batch is staged")
    return uploads.request(device, talk.batch)


def _finished(world: World, talk: Talk) -> tuple[World, str | None]:
    now = talk.conversation
    broken = promises.broken_by_finish(world, talk)
    world, _ = stopped(world, talk)
    return next_session(world, now.phase), broken


def next_session(world: World, phase: Phase) -> World:
    """Return ``world`` with its session over, in ``phase``, and the next one about to begin, undisturbed.

    Between the first session and the second the user may do what no session may run beside.
    """
    hub = evolve(world.hub, most=world.most_later)
    quiet = with_device(world, evolve(world.device, committed=()))
    left = world.budget.of_these(UNDER_THE_LOCK if world.ended is None else ())
    over = evolve(quiet, hub=hub, talk=None, budget=left, ended=phase)
    return begin(over) if over.plans else over
