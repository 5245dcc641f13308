"""The door between a modelled session and its device: the effects of one transaction.

The same as ``statesync.store.session_store``, for the same ``session.storage.Storage``.
"""

from __future__ import annotations

from statesync.protocol.conversation import Committed
from statesync.protocol.messages import (
    Adapt,
    BeginSession,
    DropBatch,
    Effect,
    EndSession,
    HoldBack,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
    StoreDoubt,
    StoreReason,
)
from statesync.values import Direction
from statesync.verify.evolving import evolve
from statesync.verify.modelled import downloads, uploads
from statesync.verify.modelled.adapting import adapt
from statesync.verify.modelled.device import Device, fix_limit, keep_doubt
from statesync.verify.modelled.downloads import Fetched
from statesync.verify.modelled.uploads import Batch, Verdicts
from statesync.verify.modelled.wire import Refusal
from statesync.verify.system.world import Asked, Talk

NOTHING = Committed()

OF_THE_STORE = (BeginSession, StoreBatch, StoreAnswer, Adapt)
"""Effects that act on records: they hold only for the store as it was when the session began."""


class Changed(Exception):
    """The store is not what the session has asked for, or decoded by."""


def looks_as_known(device: Device, talk: Talk) -> bool:
    """Tell whether the objects of a session are described as when it began."""
    now = dict(device.looks)
    return all(now.get(name) == known for name, known in talk.looks)


def asked_from(device: Device) -> Asked:
    """Return who the device is, and how far its object is read."""
    read = (device.cursor, device.rereading, device.reread_from, device.missed_from, device.begun)
    beside = None if device.beside is None else asked_from(device.beside)
    return Asked(device.client, read, device.scan, device.floors, device.filter, beside)


def commit(device: Device, talk: Talk, effects: tuple[Effect, ...]) -> tuple[Device, Committed]:
    """Return the device after one transaction, and what only the database knew. Raises ``Changed``."""
    if any(isinstance(effect, OF_THE_STORE) for effect in effects) and not looks_as_known(device, talk):
        raise Changed
    committed = NOTHING
    for effect in effects:
        device, came_to = _written(device, talk, effect)
        committed = came_to or committed
    return device, committed


def _written(device: Device, talk: Talk, effect: Effect) -> tuple[Device, Committed | None]:
    match effect:
        case BeginSession():
            return _begun(evolve(device, committed=()), effect)
        case StoreBatch(direction=Direction.UPLOAD):
            return uploads.stage(device, _batch(talk)), None
        case StoreAttempt():
            is_upload = talk.batch is not None
            return evolve(device, in_doubt=device.in_doubt or is_upload), None
        case StoreAnswer():
            return _answer_stored(device, talk)
        case StoreDoubt() | DropBatch() if _is_page(talk):
            return device, None  # a batch in doubt beside it stays that
        case StoreDoubt():
            return keep_doubt(device) if effect.in_doubt else evolve(device, in_doubt=False), None
        case DropBatch():
            return uploads.drop(device, in_doubt=effect.in_doubt), None
        case HoldBack():
            return uploads.hold_back(device, _batch(talk)), None
        case Adapt():
            problem = effect.problem
            epoch = None if problem.epoch is None else int(problem.epoch)
            return adapt(device, Refusal(problem.code, epoch, problem.number, problem.highest)), None
        case StoreBatch() | StoreReason() | EndSession():
            return device, None


def _is_page(talk: Talk) -> bool:
    batch = talk.conversation.batch
    return batch is not None and batch.direction is Direction.DOWNLOAD


def _begun(device: Device, effect: BeginSession) -> tuple[Device, Committed]:
    if not effect.uploads:
        return device, Committed(upload_limit=0)
    device, limit = fix_limit(device)
    return device, Committed(upload_limit=limit)


def _answer_stored(device: Device, talk: Talk) -> tuple[Device, Committed]:
    match talk.taken:
        case Verdicts():
            if talk.asked is None or talk.asked.client != device.client:
                raise Changed
            device, accepted, limit = uploads.store(device, _batch(talk), talk.taken)
            return device, Committed(accepted, limit)
        case Fetched():
            if talk.asked != asked_from(device):
                raise Changed
            holds = talk.held_before > 0 or any(each.held for each in device.committed)
            device, stored = downloads.store(device, talk.taken.page, holds=holds)
            return device, Committed(stored.records)
    raise ValueError("no answer is there to be stored")


def _batch(talk: Talk) -> Batch:
    if talk.batch is None:
        raise ValueError("no upload batch is staged")
    return talk.batch
