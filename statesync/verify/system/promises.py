"""What must hold in the modelled world, and the words for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache

from statesync.errors import ConnectionLost
from statesync.lifecycle import SESSION, BatchPhase, Phase, Trigger
from statesync.protocol.conversation import Conversation, Doubt
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    Answered,
    AskAhead,
    BackoffOver,
    CancelRequested,
    Decision,
    Drain,
    Event,
    Finish,
    GraceOver,
    HeadStartOver,
    Prepare,
    RequestFailed,
    Send,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
)
from statesync.values import Direction, Reason
from statesync.verify.evolving import evolve
from statesync.verify.firing import Phases
from statesync.verify.modelled.device import OBJECT, Device
from statesync.verify.modelled.uploads import Verdicts
from statesync.verify.modelled.wire import Accepted, Fields
from statesync.verify.system import deleted, waiting
from statesync.verify.system.scans import promises as scanning
from statesync.verify.system.world import Talk, World

LAWFUL = "the conversation asks for nothing that the lifecycle refuses"
NOTHING_NEW = "after cancelling nothing is opened, prepared, asked for ahead or sent (K1)"
RECORDED_END = "no session ends with a batch open (K2)"
RELEASED = "a session is over only when no request of its batch is under way (K3)"
STATISTICS = "what the program was told of is what the journal shows as committed (K4)"
AT_ONCE = "a cancel with no request under way takes effect at once, also between the record and the send (K5)"
SAME_OUTCOME = "a second cancel changes nothing (K6)"
SHORTEST = "of several graces the shortest counts (K7)"
TRUTHFUL = "cancelled is never said with an upload in doubt, and the end of the grace ends it (K7)"
NEVER_RESUMED = "a session that a crash interrupted is failed, and only an unanswered upload is kept (K8)"
NOTHING_STAGED = "nothing staged survives an end but a batch in doubt; no record is downloaded twice (K9)"
REASONED = "a cancelled session keeps the reason of its first cancel (K11)"
AHEAD = "what is done ahead promises nothing: it moves and writes nothing"
STRAY = "an event that nobody waits for changes nothing, and none does after the end"
LIMIT = "an edit of a record that was taken in this session waits for the next one"
DRAINED = "an undisturbed session that is done has sent all that waited, also what waited for a doubt"
NOTHING_LOST = "no local change is lost"
ONCE = "no change is applied twice"
REJECTED = "a session whose records were all rejected is not done"
WHOLE = "whole batches only: what is stored is what the journal shows as committed"
NEVER_FORKED = "no device ever looks like a copy of itself to the hub"
DESCRIBED = "nothing is stored by another description than it was composed, asked for or decoded by"
COMPLETE = "no session says done while the device is short of records that its cursor has passed"
ARRIVED = "every record that a cursor has passed is in its table as the hub has it, or waits (Q1)"
AGREED = "after undisturbed syncs everything agrees"

STATEMENTS = (
    LAWFUL,
    NOTHING_NEW,
    RECORDED_END,
    RELEASED,
    STATISTICS,
    AT_ONCE,
    SAME_OUTCOME,
    SHORTEST,
    TRUTHFUL,
    NEVER_RESUMED,
    NOTHING_STAGED,
    REASONED,
    AHEAD,
    STRAY,
    LIMIT,
    DRAINED,
    NOTHING_LOST,
    ONCE,
    REJECTED,
    WHOLE,
    NEVER_FORKED,
    DESCRIBED,
    COMPLETE,
    ARRIVED,
    *waiting.STATEMENTS,
    *scanning.STATEMENTS,
    deleted.RETURNED,
    AGREED,
)

_GONE = ConnectionLost("gone", retryable=True, maybe_applied=True)


# -- one decision ----------------------------------------------------------------------------------


def broken_by_decision(
    now: Conversation, event: Event, decision: Decision, after: Phases, *, is_under_way: bool
) -> str | None:
    """Return the promise that a decision breaks, or None.

    ``is_under_way`` says that the end of a request has not been heard of.
    """
    finished = any(isinstance(action, Finish) for action in decision.actions)
    is_cancel = isinstance(event, CancelRequested)
    checks = {
        LAWFUL: bool(decision.triggers) or not decision.effects,
        NOTHING_NEW: now.phase is not Phase.CANCELLING or not _begins_anything(decision),
        RECORDED_END: not finished or after.batch is None,
        WHOLE: _stores_what_it_commits(decision),
        AT_ONCE: not is_cancel or now.phase is Phase.CANCELLING or _waits(decision) == is_under_way,
        TRUTHFUL: not isinstance(event, GraceOver) or finished,
        REASONED: not is_cancel or decision.conversation.cancelled_by is _first_reason(now, event),
    }
    return next((promise for promise, holds in checks.items() if not holds), None)


def _begins_anything(decision: Decision) -> bool:
    written = any(isinstance(effect, StoreBatch | StoreAttempt) for effect in decision.effects)
    asked = any(isinstance(each, AskAhead) for each in decision.meanwhile)
    return written or asked or any(isinstance(action, Send | Prepare) for action in decision.actions)


def _stores_what_it_commits(decision: Decision) -> bool:
    stored = sum(isinstance(effect, StoreAnswer) for effect in decision.effects)
    return stored == decision.triggers.count(Trigger.COMMIT_BATCH)


def _waits(decision: Decision) -> bool:
    return any(isinstance(action, Drain) for action in decision.actions)


def _first_reason(now: Conversation, event: Event) -> Reason | None:
    before = now.cancelled_by
    return event.reason if before is None and isinstance(event, CancelRequested) else before


def broken_by_second_cancel(talk: Talk) -> bool:
    """Tell whether another cancel would change a session that is cancelling already."""
    now = talk.conversation
    return now.phase is Phase.CANCELLING and _changes(decide, now, CancelRequested(Reason.SHUTDOWN))


@lru_cache(maxsize=1 << 14)
def _changes(decided: Callable[[Conversation, Event], Decision], now: Conversation, event: Event) -> bool:
    return decided(now, event) != Decision(now)


def broken_by_grace(world: World, event: Event) -> str | None:
    """Return the promise that is broken where a cancel has allowed a time and has been heard, or None."""
    if world.talk is None or not isinstance(event, CancelRequested) or event.grace is None:
        return None
    if world.talk.conversation.phase is not Phase.CANCELLING:
        return None  # it took effect at once, and the next session has begun
    return None if world.talk.grace is not None and world.talk.grace <= event.grace else SHORTEST


def broken_by_conversation(now: Conversation) -> str | None:
    """Return the promise that is broken by what a session would do ahead, or for nobody, or None."""
    return _broken_by_strays(decide, now)


@lru_cache(maxsize=1 << 14)  # many worlds differ in their devices alone
def _broken_by_strays(decided: Callable[[Conversation, Event], Decision], now: Conversation) -> str | None:
    if any(decided(now, event) != Decision(now) for event in _strays(now)):
        return STRAY
    ahead = decided(now, HeadStartOver())
    return None if not ahead.triggers and not ahead.effects and ahead.conversation == now else AHEAD


def _strays(now: Conversation) -> Iterator[Event]:
    """Yield events that nobody waits for: they come too late, or for a batch that has ended."""
    batch, is_over = now.batch, SESSION.is_final(now.phase)
    if is_over or batch is None or not batch.is_under_way:
        yield Answered(1)
        yield RequestFailed(_GONE)
    if is_over or batch is None or batch.phase is not BatchPhase.WAITING:
        yield BackoffOver()
    if batch is None or now.phase is not Phase.CANCELLING:
        yield GraceOver()
    if is_over:
        yield CancelRequested(Reason.USER)


# -- one transaction -------------------------------------------------------------------------------


def told(talk: Talk, decision: Decision, records: int) -> Talk:
    """Return ``talk`` with what the program hears of a transaction that was committed."""
    batch = decision.conversation.batch
    if batch is None or Trigger.COMMIT_BATCH not in decision.triggers:
        return talk
    up, down = talk.told
    if batch.direction is Direction.DOWNLOAD:
        return evolve(talk, told=(up, down + records))
    return evolve(talk, told=(up + records, down), accepted=(*talk.accepted, *_newly_accepted(talk)))


def _newly_accepted(talk: Talk) -> tuple[str, ...]:
    if talk.batch is None or talk.batch.is_replay or not isinstance(talk.taken, Verdicts):
        return ()
    pairs = zip(talk.batch.payload.changes, talk.taken.answer.verdicts, strict=True)
    return tuple(change.key for change, verdict in pairs if isinstance(verdict, Accepted))


def broken_by_commit(before: Device, after: Device, talk: Talk, decision: Decision) -> str | None:
    """Return the promise that is broken by a transaction, or None."""
    wrong = waiting.broken_by_commit(before, after, talk)
    if wrong is not None:
        return wrong
    now = dict(before.looks)
    stores = any(isinstance(effect, StoreBatch | StoreAnswer) for effect in decision.effects)
    if stores and any(now[name] != known for name, known in talk.looks):
        return DESCRIBED
    opens = [effect for effect in decision.effects if isinstance(effect, StoreBatch)]
    if not opens or talk.batch is None or talk.batch.is_replay:
        return None
    keys = {change.key for change in talk.batch.payload.changes}
    return LIMIT if keys & set(talk.accepted) else None


def broken_by_device(device: Device) -> str | None:
    """Return the promise that a device's database breaks, or None."""
    twice = any(len(set(each.received)) != len(each.received) for each in device.objects)
    return NOTHING_STAGED if twice else None


# -- the end of a session --------------------------------------------------------------------------


def broken_by_finish(world: World, talk: Talk) -> str | None:
    """Return the promise that is broken where a session announces its end, or None."""
    now, device = talk.conversation, world.device
    if talk.request is not None:
        return RELEASED
    stray = broken_by_conversation(now)
    if stray is not None:
        return stray
    folded = Counter[Direction]()
    for tally in device.committed:
        folded[tally.direction] += tally.records
    if (folded[Direction.UPLOAD], folded[Direction.DOWNLOAD]) != talk.told:
        return STATISTICS
    if now.phase is Phase.DONE and now.sent and now.sent == now.rejected:
        return REJECTED
    is_quiet = world.ended is not None and now.phase is Phase.DONE and not now.adaptations
    if (
        is_quiet
        and talk.options.uploads
        and (device.log or not all(each.failed for each in device.outbox if each.key in talk.waited))
    ):
        return DRAINED
    has_read_all = now.phase is Phase.DONE and talk.options.downloads
    unbuilt = scanning.broken_by_index(device, has_read_all=has_read_all)
    if unbuilt is not None:
        return unbuilt
    if has_read_all:
        wrong = _broken_by_download(device, world) or waiting.broken_by_download(device, talk)
        if wrong is not None:
            return wrong
    has_begun = now.batches > 0 or now.doubt is not Doubt.NONE
    return broken_by_end(device, now.phase, has_begun=has_begun)


def _broken_by_download(device: Device, world: World) -> str | None:
    """Return the promise that is broken where a device that has read all lacks what the hub has, or None.

    Records that the device has changed itself are left out.
    """
    if device.epoch != world.hub.epoch or device.head > world.hub.head:  # it was restored since
        return None
    return next(filter(None, (_short_of(each, world) for each in device.objects)), None)


def _short_of(device: Device, world: World) -> str | None:
    changed = {each.key for each in device.outbox} | {each.key for each in device.log}
    wanted = (each for each in world.hub.records if scanning.is_wanted(device, each))
    passed = {
        each.key: each.data for each in wanted if each.version <= device.cursor and each.key not in changed
    }
    here = {**dict(device.rows), **{each.key: each.data for each in device.held}}
    if not passed.keys() <= here.keys():
        return COMPLETE
    return None if all(here[key] == data for key, data in passed.items()) else ARRIVED


def broken_by_end(device: Device, phase: Phase, *, has_begun: bool = True) -> str | None:
    """Return the promise that the end of a session breaks, or None.

    A session that was cancelled before it began leaves the doubt of an earlier one as it was.
    """
    if device.in_doubt and phase is not Phase.FAILED and has_begun:
        return TRUTHFUL
    if device.payload is not None and not device.in_doubt:
        return NOTHING_STAGED
    return None


# -- when all is quiet -----------------------------------------------------------------------------


def broken_at_last(world: World) -> str | None:
    """Return the promise that is broken once everything has come to rest, or None."""
    stuck = next(filter(None, map(waiting.broken_at_last, world.devices)), None)
    if stuck is not None:
        return stuck
    if not all(_agrees(each, world) for device in world.devices for each in device.objects):
        return AGREED
    if len(set(world.written)) != len(world.written):
        return ONCE
    if any(_is_lost(device, world, *edit) for device in world.devices for edit in device.typed):
        return NOTHING_LOST
    return scanning.broken_at_last(world)


def _agrees(device: Device, world: World) -> bool:
    """Tell whether a device has what the hub has, in its tables or waiting, but for what the hub rejects.

    Of what its filter hides it may have what it wrote itself; of what is local only the hub has nothing.
    """
    rejected = {change.key for change in device.outbox} | {*device.local}
    wanted = {each.key for each in world.hub.records if scanning.is_wanted(device, each)}
    records = (each for each in world.hub.records if each.object == device.object)
    living = {each.key: each.data for each in records if each.data is not None}
    hub = {key: data for key, data in living.items() if key in wanted or device.row(key) == data}
    here = {**dict(device.rows), **{each.key: each.data for each in device.held}}
    at_rest = not device.in_doubt and not device.log and all(change.failed for change in device.outbox)
    return at_rest and {**here, **dict.fromkeys(rejected)} == {**hub, **dict.fromkeys(rejected)}


def _is_lost(device: Device, world: World, key: str, data: Fields | None) -> bool:
    """Tell whether the hub never had what a user entered, and no conflict log or outbox has it.

    A record that was made and deleted on the device alone is nothing.
    """
    found = world.hub.find(OBJECT, key)
    if data is None and (found is None or found.data is None):
        return False
    if any(each.key == key and each.data == data for each in world.written):
        return False
    if any(each.key == key and each.local == data for each in device.conflicts):
        return False
    return device.pending(key) is None
