"""The hub's two kinds of error: ``Refused`` is for a device, ``HubError`` for whoever runs the hub.

Refusals with a meaning of their own are made here, so that status, code and words have one home. A request
that is refused was not applied. The one exception is ``outcome_unknown``, which says so.
"""

from __future__ import annotations

import math

from statesync.hub.texts.quoting import shortened
from statesync.wire import (
    CLIENT_FORKED,
    EPOCH_AWAITED,
    EPOCH_CHANGED,
    HORIZON_PASSED,
    MAX_VERSION,
    NOT_APPLIED,
    OUTCOME_UNKNOWN,
    VERSIONS_USED_UP,
    WRONG_HUB,
    Problem,
)


class HubError(Exception):
    """The hub cannot run as it is set up; the message says what to do."""


class HubNotReady(HubError):
    """The database has no hub schema, or an older one: ``statesync hub init`` has to run."""


class HubTooNew(HubError):
    """A newer version of this library made the database's schema."""


class BadDatabase(HubError):
    """The address leads to no database that the hub can use."""


class CannotDistribute(HubError):
    """The database cannot spread its tables over several machines."""


class Refused(Exception):
    """A request that is answered with ``status`` and ``problem``; ``retry_after`` is in seconds."""

    def __init__(self, status: int, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {problem.code}: {problem.message}")
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


def refused(status: int, code: str, message: str, retry_after: float | None = None) -> Refused:
    """Return the refusal of a request for a reason that needs no more than words."""
    return Refused(status, Problem(code, message), retry_after)


def malformed(why: str) -> Refused:
    """Return the refusal of a body that is not the document that the route asks for."""
    return refused(400, "malformed", f"the request cannot be read: {shortened(why)}")


def not_a_repeat(had: int, has: int) -> Refused:
    """Return the refusal of a batch that has another one's number and id, and is not that one."""
    message = (
        f"this batch had {had} changes when it was applied, and has {has} now; a repeat is the very same, "
        "and other changes have a batch of their own"
    )
    return refused(400, "malformed", message)


def nothing_here() -> Refused:
    """Return the 404 for a space that there is not."""
    return refused(404, "nothing_here", "nothing was ever synced with this space")


def too_large(code: str, what: str, limit: int) -> Refused:
    """Return the 413 for ``what``, which is over its limit."""
    return refused(413, code, f"{what}; the limit is {limit}")


def body_too_large(limit: int) -> Refused:
    """Return the 413 for a body over ``limit`` bytes."""
    return too_large("body_too_large", "the request's body is too large", limit)


def wrong_hub(mine: str) -> Refused:
    """Return the refusal of a device whose records came from another hub."""
    message = "this space is not the one that the device's records came from; check the address"
    return Refused(409, Problem(WRONG_HUB, message, hub=mine))


def epoch_changed(hub: str, epoch: str, number: int) -> Refused:
    """Return the refusal that makes a device read everything again, keeping its pending changes."""
    message = "this space has begun a new epoch, because it was restored; read everything again"
    return Refused(409, Problem(EPOCH_CHANGED, message, hub=hub, epoch=epoch, number=number))


def epoch_unchanged(hub: str, epoch: str, number: int, highest: int) -> Refused:
    """Return the refusal that makes a device forget what no epoch of this space explains, and read again."""
    message = (
        f"this space has given out nothing above version {highest}, and the device has seen or sent more; "
        "that counts for nothing here: read everything again"
    )
    return Refused(409, Problem(EPOCH_CHANGED, message, hub=hub, epoch=epoch, number=number, highest=highest))


def epoch_awaited(left: float) -> Refused:
    """Return the refusal of a device that would begin a new epoch, and may with so many seconds ``left``."""
    seconds = math.ceil(left)
    message = (
        "the device has seen more of this space than there is, as after a restored backup, and an epoch has "
        f"begun not long ago; sync again in {seconds} seconds, or let whoever runs the hub begin another "
        "one: statesync hub epoch"
    )
    return Refused(409, Problem(EPOCH_AWAITED, message), seconds)


def versions_used_up() -> Refused:
    """Return the refusal of what needs more versions than a space has left."""
    message = (
        f"the versions of this space end at {MAX_VERSION}, and nearly all are used up; make a new space, "
        "and let reset(keep_records=True) offer it all records"
    )
    return Refused(409, Problem(VERSIONS_USED_UP, message))


def client_forked(number: int) -> Refused:
    """Return the refusal of a device that is a copy or a backup of one that went on."""
    message = f"another device with this identity has gone on to batch {number}; take a new identity"
    return Refused(409, Problem(CLIENT_FORKED, message, number=number))


def horizon_passed(purged_through: int) -> Refused:
    """Return the refusal of a cursor that is older than the deletes that are still known."""
    message = f"deletes up to version {purged_through} are no longer kept; read everything again"
    return Refused(410, Problem(HORIZON_PASSED, message))


def survey_too_long(seconds: float) -> Refused:
    """Return the refusal of a survey that has to be answered whole, and takes too long."""
    message = (
        f"the survey reads for longer than {seconds:g} seconds, which is the limit; ask for fewer keys or "
        "columns, or with a newer statesync, which takes the answer in parts"
    )
    return refused(422, "survey_too_long", message)


def outcome_unknown(why: str = "the database was lost during a commit") -> Refused:
    """Return the refusal of a batch that may have been applied; a repeat is safe, and its answer tells."""
    return refused(503, OUTCOME_UNKNOWN, f"{why}; send the same again", 1)


def busy(why: str) -> Refused:
    """Return the 503 for a request that came while others take all that there is; nothing was done."""
    return refused(503, "busy", f"{why}; try again", 1)


def too_slow(what: str) -> Refused:
    """Return the 408 for a body that does not come as fast as it has to."""
    return refused(408, "too_slow", f"{what}; send it again, or send less at once", 1)


def not_applied() -> Refused:
    """Return the refusal of a batch on which the hub has failed, and of which it has applied nothing."""
    return refused(500, NOT_APPLIED, "the hub failed on this batch, and applied nothing of it")


def unauthorized(message: str = "a valid bearer token is needed") -> Refused:
    """Return the 401; it says the same whether a space exists or not."""
    return refused(401, "unauthorized", message)


def forbidden(message: str = "the token does not allow this") -> Refused:
    """Return the 403; it says the same whether a space exists or not."""
    return refused(403, "forbidden", message)
