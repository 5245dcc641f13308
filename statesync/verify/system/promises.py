"""What must hold in the modelled world, and the words for it."""

from __future__ import annotations

from collections import Counter

from statesync.lifecycle import Phase, Trigger
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    CancelRequested,
    Decision,
    Drain,
    Event,
    Finish,
    GraceOver,
    Prepare,
    Send,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
)
from statesync.values import Direction, Reason
from statesync.verify.firing import Standing
from statesync.verify.system.world import Device, Talk, World

LAWFUL = "the conversation asks for nothing that the lifecycle refuses"
NOTHING_NEW = "after cancelling nothing is opened, prepared or sent (K1)"
RECORDED_END = "no session ends with a batch open (K2)"
RELEASED = "a session is over only when no request of its own is under way (K3)"
STATISTICS = "statistics equal the journal's fold (K4)"
AT_ONCE = "a cancel with no request under way takes effect at once (K5)"
SAME_OUTCOME = "a second cancel changes nothing (K6)"
TRUTHFUL = "cancelled is never said with an upload in doubt, and the end of the grace ends it (K7)"
NEVER_RESUMED = "a session that a crash interrupted is failed, and only an unanswered upload is kept (K8)"
NOTHING_STAGED = "nothing staged survives an end but a batch in doubt; no record is downloaded twice (K9)"
NOTHING_LOST = "no local change is lost"
ONCE = "no change is applied twice"
WHOLE = "whole batches only: what is stored is what the journal shows as committed"
NEVER_FORKED = "no device ever looks like a copy of itself to the hub"
AGREED = "after two undisturbed syncs everything agrees"

STATEMENTS = (
    LAWFUL,
    NOTHING_NEW,
    RECORDED_END,
    RELEASED,
    STATISTICS,
    AT_ONCE,
    SAME_OUTCOME,
    TRUTHFUL,
    NEVER_RESUMED,
    NOTHING_STAGED,
    NOTHING_LOST,
    ONCE,
    WHOLE,
    NEVER_FORKED,
    AGREED,
)


def broken_by_decision(talk: Talk, event: Event, decision: Decision, after: Standing) -> str | None:
    """Return the promise that a decision breaks, or None."""
    finished = any(isinstance(action, Finish) for action in decision.then)
    checks = {
        NOTHING_NEW: not _begins_while_cancelling(talk, decision),
        RECORDED_END: not finished or after.batch is None,
        WHOLE: _stores_what_it_commits(decision),
        AT_ONCE: not isinstance(event, CancelRequested) or _is_at_once(talk, decision),
        TRUTHFUL: not isinstance(event, GraceOver) or finished,
    }
    return next((promise for promise, holds in checks.items() if not holds), None)


def _begins_while_cancelling(talk: Talk, decision: Decision) -> bool:
    if talk.conversation.phase is not Phase.CANCELLING:
        return False
    written = any(isinstance(effect, StoreBatch | StoreAttempt) for effect in decision.effects)
    return written or any(isinstance(action, Send | Prepare) for action in decision.then)


def _stores_what_it_commits(decision: Decision) -> bool:
    stored = sum(isinstance(effect, StoreAnswer) for effect in decision.effects)
    return stored == decision.triggers.count(Trigger.COMMIT_BATCH)


def _is_at_once(talk: Talk, decision: Decision) -> bool:
    waits = any(isinstance(action, Drain) for action in decision.then)
    return waits == (talk.request is not None or talk.reply is not None)


def broken_by_second_cancel(talk: Talk) -> bool:
    """Tell whether another cancel would change a session that is cancelling already."""
    if talk.conversation.phase is not Phase.CANCELLING:
        return False
    return decide(talk.conversation, CancelRequested(Reason.SHUTDOWN)) != Decision(talk.conversation)


def broken_by_device(device: Device) -> str | None:
    """Return the promise that a device's database breaks, or None."""
    folded = Counter[Direction]()
    for direction, records in device.committed:
        folded[direction] += records
    if (folded[Direction.UPLOAD], folded[Direction.DOWNLOAD]) != (device.uploaded, device.downloaded):
        return STATISTICS
    if len(set(device.received)) != len(device.received):
        return NOTHING_STAGED
    return None


def broken_by_end(device: Device, phase: Phase, *, has_begun: bool = True) -> str | None:
    """Return the promise that the end of a session breaks, or None.

    A session that was cancelled before it began leaves the doubt of an earlier one as it was.
    """
    if device.in_doubt and phase is not Phase.FAILED and has_begun:
        return TRUTHFUL
    if device.upload is not None and not device.in_doubt:
        return NOTHING_STAGED
    return None


def broken_at_last(world: World) -> str | None:
    """Return the promise that is broken once everything has come to rest, or None."""
    hub = tuple(sorted((record.key, record.value) for record in world.hub.records))
    if any(device.rows != hub or device.outbox or device.in_doubt for device in world.devices):
        return AGREED
    if len(set(world.hub.history)) != len(world.hub.history):
        return ONCE
    if any(_is_lost(device, world, *edit) for device in world.devices for edit in dict(device.typed).items()):
        return NOTHING_LOST
    return None


def _is_lost(device: Device, world: World, key: str, value: str) -> bool:
    return (key, value, device.name) not in world.hub.history and (key, value) not in device.lost
