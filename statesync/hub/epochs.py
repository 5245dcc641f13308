"""Devices that have seen more of a space than there is, and the epochs that begin for that.

A hub that was restored from a backup does not know what it has lost; a device that is ahead of it shows that
it has lost something. So a new epoch begins, every device reads the space again, and offers what the hub has
not. The head leaps past all that may have been given out: no version is given out twice, and a device can
tell by a record's version whether it has seen it before. It leaps at random, so that two epochs that begin
after one backup was restored twice do not give out the same versions, either.

What a device says is no more than a claim. One that no restored backup explains moves nothing, and neither
does one of a device that may not write, or of a space whose versions come to their end: the device is told
how far the space has come, forgets what it has seen above that, and reads again. A device that may write
begins an epoch, and not more often than a limit says.
"""

from __future__ import annotations

import logging
import secrets
import time
from enum import Enum
from typing import NamedTuple

from statesync.hub import spaces
from statesync.hub.db.database import Database
from statesync.hub.errors import (
    Refused,
    client_forked,
    epoch_awaited,
    epoch_changed,
    epoch_unchanged,
    nothing_here,
    versions_used_up,
    wrong_hub,
)
from statesync.hub.spaces import ClientState
from statesync.wire import MAX_VERSION, Pull, Push

_log = logging.getLogger(__name__)

EPOCH_LEAP = 1 << 32
"""Versions between two epochs, and at random up to twice as many: more than are given out between a backup
and its restoration, and few enough that a million epochs fit the integers that every JSON parser keeps."""

MOST_EPOCHS_LOST = 16
"""Epochs that may have been begun since the backup was made from which a hub is restored."""

MOST_BATCHES_LOST = 1 << 32
"""Batches of one client that may have been lost with them."""


class Step(Enum):
    """What follows for a device that may go on."""

    GO_ON = "go on"
    BEGIN_EPOCH = "begin an epoch"


class Claim(NamedTuple):
    """Where a device says that it stands.

    ``hub`` and ``epoch`` are None where it knows of none. ``number`` is its last acknowledged batch,
    ``seen`` the highest version that it knows of.
    """

    hub: str | None
    epoch: str | None
    number: int
    seen: int


def claim_of(request: Push | Pull) -> Claim:
    """Return where the sender of a request says that it stands."""
    if isinstance(request, Push):
        return Claim(request.hub, request.epoch, request.number - 1, request.head)
    feeds = request.objects.values()
    begun = [feed.scan.since for feed in feeds if feed.scan is not None]
    seen = max([request.head, *[feed.cursor for feed in feeds], *begun])
    return Claim(request.hub, request.epoch, request.number, seen)


def next_step(state: ClientState, claim: Claim, *, may_begin: bool, pause: float) -> Step | Refused:
    """Return whether the device goes on, or an epoch has to be begun first, or why neither may be.

    ``may_begin`` says that the device may write, ``pause`` how many seconds lie between two epochs. Raises
    the refusal of a device that belongs to another hub.
    """
    if claim.hub not in (None, state.hub):
        raise wrong_hub(state.hub)
    is_of_epoch = claim.epoch in (None, state.epoch)
    if is_of_epoch and claim.number < state.number:
        return client_forked(state.number)
    if claim.seen <= state.head and not (is_of_epoch and claim.number > state.number):
        return Step.GO_ON if is_of_epoch else epoch_changed(state.hub, state.epoch, state.number)
    if not may_begin or not _is_explained(state, claim) or not _has_room(state, claim.seen):
        return epoch_unchanged(state.hub, state.epoch, state.number, state.head)
    seconds = _seconds_left(state, pause)
    return epoch_awaited(seconds) if seconds > 0 else Step.BEGIN_EPOCH


def begin(database: Database, space: str, state: ClientState, seen: int) -> Refused:
    """Begin a new epoch in the locked space, past ``seen``, and return the refusal that tells of it."""
    _log.warning(
        "the space %s begins a new epoch: a device had seen version %d, or sent more, and the space is at "
        "%d, as after a restored backup; every device reads it again",
        space,
        seen,
        state.head,
    )
    return epoch_changed(state.hub, _leap(database, space, max(state.head, seen)), state.number)


def begin_by_hand(database: Database, space: str) -> None:
    """Begin a new epoch in a space, as whoever runs the hub does. Raises ``Refused``."""
    state = spaces.find(database, space, "") if spaces.lock_row(database, space) else None
    if state is None:
        raise nothing_here()
    if not _has_room(state, 0):
        raise versions_used_up()
    _leap(database, space, state.head)


def _leap(database: Database, space: str, reached: int) -> str:
    """Begin an epoch far past the version that was ``reached``, and return it."""
    head = reached + EPOCH_LEAP + secrets.randbelow(EPOCH_LEAP)
    return spaces.begin_epoch(database, space, head, int(time.time()))


def _is_explained(state: ClientState, claim: Claim) -> bool:
    """Tell whether the space may have come so far before a backup of it was restored."""
    batches, versions = claim.number - state.number, claim.seen - state.head
    return batches <= MOST_BATCHES_LOST and versions <= MOST_EPOCHS_LOST * 2 * EPOCH_LEAP


def _has_room(state: ClientState, seen: int) -> bool:
    """Tell whether another epoch fits: it needs versions to leap over, and some to give out."""
    return max(state.head, seen) <= MAX_VERSION - 3 * EPOCH_LEAP


def _seconds_left(state: ClientState, pause: float) -> float:
    """Return how long it takes until another epoch may begin; a clock that was set back holds up none."""
    passed = time.time() - state.begun
    return pause - passed if passed >= 0 else 0.0
