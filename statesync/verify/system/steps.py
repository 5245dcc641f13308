"""Everything that can happen next in a modelled world."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from statesync.errors import ConnectionLost, Unreachable
from statesync.lifecycle import Facts, Phase, Trigger
from statesync.protocol.messages import Answered, Broke, CancelRequested, GraceOver
from statesync.values import Reason
from statesync.verify.firing import take
from statesync.verify.system import promises, store
from statesync.verify.system.driver import Step, driven, heard, next_stage, standing_of, with_device
from statesync.verify.system.hub import Forked, pull, push
from statesync.verify.system.world import (
    Hub,
    Lost,
    Page,
    Reply,
    Request,
    Talk,
    Upload,
    World,
)

EDITED = ("x", "z")
"""The records that the user may edit during the session: one that goes up, and one that comes down."""


def steps(world: World) -> Iterator[Step]:
    """Yield everything that can happen next."""
    if world.late is not None:
        yield _late(world)
    if world.talk is None:
        return
    if world.talk.awaits is not None:
        yield driven(world, world.talk)
    yield from _network(world, world.talk)
    yield from _accidents(world, world.talk)
    if world.talk.draining:
        yield heard(world, world.talk, GraceOver(), "the grace is over")


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
        heard_of = _answered(left, talk, request)
        gone = evolve(talk, request=None, reply=Lost(maybe_applied=True))
        yield Step("the answer is lost", evolve(heard_of.target, talk=gone), heard_of.broken)


def _arrived(world: World, talk: Talk, reply: Reply) -> Step:
    match reply:
        case Lost(maybe_applied=maybe):
            gone = evolve(talk, reply=None)
            if maybe:
                error = ConnectionLost("no answer", retryable=True, maybe_applied=True)
                return heard(world, gone, Broke(error), "the request has failed")
            return heard(world, gone, Broke(Unreachable("refused", retryable=True)), "the request has failed")
        case Page(records=records, more=more):
            return heard(world, talk, Answered(len(records), more=more), "the page arrives")
        case verdicts:
            again = store.resent(verdicts, world.policy)
            return heard(world, talk, Answered(len(verdicts), resend=again), "the verdicts arrive")


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
        yield heard(left, evolve(talk, awaits=None), CancelRequested(Reason.USER), "the user cancels")
    if promises.broken_by_second_cancel(talk):
        yield Step("the user cancels again", world, promises.SAME_OUTCOME)
    if budget.crashes:
        yield _crashed(evolve(world, budget=evolve(budget, crashes=budget.crashes - 1)), talk)
    if budget.edits:
        left = evolve(world, budget=evolve(budget, edits=budget.edits - 1))
        for key in EDITED:
            value = f"{key} edited {budget.edits}"
            edited = with_device(left, store.edit(world.device, key, value))
            yield Step(f"the user writes {key}", edited)


def _crashed(world: World, talk: Talk) -> Step:
    """The program ends; whoever opens the store next records the session as failed (K8)."""
    standing = standing_of(talk.conversation)
    triggers = (Trigger.ABORT_BATCH, Trigger.FAIL) if standing.batch else (Trigger.FAIL,)
    ended, _ = take(standing, triggers, Facts(request_ended=True))
    device = world.device
    recovered = evolve(device, upload=device.upload if device.in_doubt else None, open_batch=None)
    left = evolve(with_device(world, recovered), late=talk.request or world.late)
    broken = promises.broken_by_end(recovered, ended.phase)
    if ended.phase is not Phase.FAILED or recovered.in_doubt != (recovered.upload is not None):
        broken = promises.NEVER_RESUMED
    return Step("the program crashes", next_stage(left, ended.phase), broken)
