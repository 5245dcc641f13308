"""The network of the modelled world: what becomes of a request between its device and the hub."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from statesync.errors import ConnectionLost, RemoteError, Unreachable
from statesync.net.remote import refusal
from statesync.verify.evolving import evolve
from statesync.verify.modelled.device import OBJECT
from statesync.verify.modelled.hub import Hub, pull, push
from statesync.verify.modelled.wire import Answer, Push, PushAnswer, Refusal, Request
from statesync.verify.system import deleted, promises, waiting
from statesync.verify.system.happening import Happening, Kind
from statesync.verify.system.scans import promises as scanning
from statesync.verify.system.world import Ahead, Failed, Reply, Step, Talk, World, Written
from statesync.wire import FORBIDDEN, HORIZON_PASSED, Problem

FAILURES: dict[Kind, RemoteError] = {
    Kind.UNREACHABLE: Unreachable("refused", retryable=True),
    Kind.LOSE_REQUEST: ConnectionLost("no answer", retryable=True, maybe_applied=True),
    Kind.LOSE_ANSWER: ConnectionLost("no answer", retryable=True, maybe_applied=True),
    Kind.REFUSE: refusal(413, Problem("body_too_large", "no"), None),
    Kind.FORBID: refusal(403, Problem(FORBIDDEN, "no"), None),
}
"""What a request may come back with instead of an answer. Errors are compared by identity."""


def network(world: World, talk: Talk) -> Iterator[Step]:
    """Yield what may become of the requests that are under way."""
    if talk.request is not None and talk.reply is None:
        yield from _befalls(world, talk, talk.request, ahead=False)
    elif talk.ahead is not None and talk.ahead.reply is None:
        yield from _befalls(world, talk, talk.ahead.request, ahead=True)


def _befalls(world: World, talk: Talk, request: Request, *, ahead: bool) -> Iterator[Step]:
    yield _answered(world, talk, request, Happening(Kind.ANSWER, ahead=ahead))
    for kind, error in FAILURES.items():
        if not world.budget.times(kind):
            continue
        happening, left = Happening(kind, ahead=ahead), world.after(kind)
        if kind is Kind.FORBID and isinstance(request, Push):
            yield _forbidden(left, talk, request, happening)
        elif kind is Kind.LOSE_ANSWER:
            heard_of = _answered(left, talk, request, happening)
            lost = _with_reply(heard_of.target, talk, Failed(error), ahead=ahead)
            yield Step(happening, str(happening), lost, heard_of.broken)
        else:
            yield Step(happening, str(happening), _with_reply(left, talk, Failed(error), ahead=ahead))


def _answered(world: World, talk: Talk, request: Request, happening: Happening) -> Step:
    before, asked = world.hub, world
    world, answer = reaches(world, request)
    reply: Reply = Failed(error_of(answer)) if isinstance(answer, Refusal) else answer
    doubts = isinstance(answer, Refusal) and not world.is_odd
    overwritten = waiting.broken_by_push(before, world.hub, request, world.device)
    returned = deleted.broken_by_push(asked, world, request)
    unheld = scanning.broken_by_answer(before, asked.device, request, answer)
    broken = promises.NEVER_FORKED if doubts else overwritten or returned or unheld
    return Step(happening, str(happening), _with_reply(world, talk, reply, ahead=happening.ahead), broken)


def _forbidden(world: World, talk: Talk, request: Push, happening: Happening) -> Step:
    """Take the right to write away; what is late comes too late then.

    A repeat is answered all the same, unless the device only uploads: it may not read, either.
    """
    reply: Reply = Failed(FAILURES[Kind.FORBID])
    if talk.options.downloads:
        _, answer = push(world.hub, request, may_write=False)
        reply = answer if isinstance(answer, PushAnswer) else reply
    return Step(happening, str(happening), _with_reply(evolve(world, late=None), talk, reply, ahead=False))


def _with_reply(world: World, talk: Talk, reply: Reply, *, ahead: bool) -> World:
    if ahead and talk.ahead is not None:
        return evolve(world, talk=evolve(talk, ahead=Ahead(talk.ahead.request, reply)))
    return evolve(world, talk=evolve(talk, reply=reply))


def reaches(world: World, request: Request) -> tuple[World, Answer]:
    """Let the hub do what a request asks for, and note what was written."""
    before = world.hub
    if isinstance(request, Push):
        hub, answer = push(before, request)
        return evolve(world, hub=hub, written=(*world.written, *_written(before, hub))), answer
    hub, page = pull(before, request)
    return evolve(world, hub=hub), page


def _written(before: Hub, hub: Hub) -> Iterator[Written]:
    for record in hub.records:
        is_new = record.version > before.head and hub.epoch == before.epoch
        if is_new and record.object == OBJECT:
            yield Written(hub.epoch, record.key, record.data, record.writer)


def late(world: World) -> Step:
    """Let a request that nobody waits for reach the hub; where its answer goes, nobody listens."""
    happening = Happening(Kind.LATE)
    if world.late is None:
        raise ValueError("no request is late")
    there, _ = reaches(world, world.late)
    return Step(happening, str(happening), evolve(there, late=None))


@lru_cache(maxsize=256)
def error_of(answer: Refusal) -> RemoteError:
    """Return what a device makes of the hub's refusal: the same value for the same refusal."""
    status = 410 if answer.code == HORIZON_PASSED else 409
    epoch = None if answer.epoch is None else str(answer.epoch)
    problem = Problem(answer.code, "no", epoch=epoch, number=answer.number, highest=answer.highest)
    return refusal(status, problem, None)
