"""Upload batches of the modelled device: which is next, and what becomes of the hub's verdicts.

Conflicts are resolved when the answer comes (``take``) and stored later, in one transaction (``store``): an
edit may fall in between.
"""

from __future__ import annotations

from functools import partial

from attrs import frozen

from statesync import conflicts
from statesync.protocol.messages import Answered, Prepare
from statesync.values import Direction
from statesync.verify.evolving import evolve
from statesync.verify.modelled import quarantine, table
from statesync.verify.modelled.device import (
    OBJECT,
    Device,
    Overruled,
    Payload,
    Pending,
    Tally,
    fix_limit,
    fold,
    keep_doubt,
    learn,
    put,
    read_until,
    release,
    settle,
    with_change,
)
from statesync.verify.modelled.wire import (
    Accepted,
    Change,
    Conflict,
    Fields,
    Push,
    PushAnswer,
    Rejected,
    fields,
)


@frozen(slots=False, cache_hash=True)
class Batch:
    """The upload batch that stands ready: held by the session, forgotten by a crash.

    ``revisions`` are positions and revisions of its changes; none for one that goes up again (``is_replay``).
    ``are_offers`` says that nobody made any of them here.
    """

    payload: Payload
    last_position: int
    revisions: tuple[tuple[int, int], ...]
    is_replay: bool
    are_offers: bool = False


@frozen(slots=False, cache_hash=True)
class Resolution:
    """What becomes of one record in conflict. ``revision`` is the one that was looked at."""

    key: str
    revision: int
    version: int
    base: Fields | None
    local: Fields | None
    remote: Fields | None
    kept: Fields | None

    @property
    def goes_up(self) -> bool:
        """Whether what is kept has to be sent to the hub."""
        return self.kept != self.remote


@frozen(slots=False, cache_hash=True)
class Verdicts:
    """The hub's answer to an upload batch, checked, with its conflicts resolved; not stored yet."""

    answer: PushAnswer
    resolutions: tuple[Resolution, ...]


# -- what is next ----------------------------------------------------------------------------------


def prepare(device: Device, wanted: Prepare, size: int) -> tuple[Device, Batch | None]:
    """Look for the next batch of ``size`` changes; round 0 is the one that is in doubt."""
    if wanted.round == 0:
        return device, _replay(device)
    if not waits(device, wanted):
        return device, None
    device = fold(device)
    some = [each for each in device.outbox if wanted.after < each.position <= wanted.up_to]
    some = [each for each in some if not each.is_parked and (wanted.round == 1 or not each.failed)]
    some = some[: size if wanted.at_most is None else min(size, wanted.at_most)]
    if not some:
        return device, None
    changes = tuple(_offer(device, each) for each in some)
    payload = Payload(f"{device.name}{device.batches + 1}", device.number + 1, changes)
    revisions = tuple((each.position, each.revision) for each in some)
    are_offers = all(each.is_mere_offer for each in some)
    return device, Batch(payload, some[-1].position, revisions, is_replay=False, are_offers=are_offers)


def _offer(device: Device, change: Pending) -> Change:
    """Return what goes up of a change; a delete that goes up at all says that others may have the record."""
    data = device.row(change.key)
    is_unknown = data is None and not change.base
    since = max(change.since, 1) if is_unknown else change.since
    return Change(OBJECT, change.key, change.base, data, since)


def waits(device: Device, wanted: Prepare) -> bool:
    """Tell whether any change stands where the next batch is looked for."""
    return any(wanted.after < each.position <= wanted.up_to for each in device.outbox)


def _replay(device: Device) -> Batch | None:
    if not device.in_doubt or device.payload is None:
        return None
    return Batch(device.payload, 0, (), is_replay=True)


def request(device: Device, batch: Batch) -> Push:
    """Return the request of the staged batch."""
    sent = batch.payload
    return Push(device.client, sent.number, sent.batch, device.hub, device.epoch, sent.changes, device.head)


def stage(device: Device, batch: Batch) -> Device:
    """Keep the batch's exact payload, and mark its changes as under way."""
    revisions = dict(batch.revisions)
    marked = (
        evolve(each, batch=batch.payload.batch, sent=revisions[each.position])
        if each.position in revisions
        else each
        for each in device.outbox
    )
    made = device.batches + (not batch.is_replay)
    return evolve(device, outbox=tuple(marked), payload=batch.payload, batches=made)


# -- what was answered -----------------------------------------------------------------------------


def take(
    device: Device, batch: Batch, answer: PushAnswer, policy: str, last_up_to: int | None
) -> tuple[Verdicts, Answered]:
    """Check the answer and resolve its conflicts; writes nothing.

    ``last_up_to`` is the upload limit of a session that only uploads: it is told whether nothing waits
    behind this batch.
    """
    changes = batch.payload.changes
    conflicts = [
        _resolution(device, change.key, verdict, policy)
        for change, verdict in zip(changes, answer.verdicts, strict=True)
        if isinstance(verdict, Conflict) and not verdict.lacks_record
    ]
    resolutions = tuple(each for each in conflicts if each is not None)
    answered = Answered(
        len(changes),
        rejected=sum(isinstance(verdict, Rejected) for verdict in answer.verdicts),
        resend=sum(each.goes_up for each in resolutions),
        unread=sum(isinstance(verdict, Conflict) and verdict.lacks_record for verdict in answer.verdicts),
        last=last_up_to is not None and not batch.is_replay and _is_last(device, batch, last_up_to),
    )
    return Verdicts(answer, resolutions), answered


def _is_last(device: Device, batch: Batch, up_to: int) -> bool:
    behind = [each for each in device.outbox if batch.last_position < each.position <= up_to]
    return all(each.is_parked for each in behind)


def _resolution(device: Device, key: str, verdict: Conflict, policy: str) -> Resolution | None:
    change = device.pending(key)
    if change is None:
        return None
    base, local, remote = change.image, device.row(key), verdict.data
    kept = _kept(policy, key, base, local, remote) if _is_at_stake(base, local, remote) else local
    return Resolution(key, change.revision, verdict.version, base, local, remote, kept)


def _is_at_stake(base: Fields | None, local: Fields | None, remote: Fields | None) -> bool:
    """Tell whether anything was: not where both came to the same, or the hub has changed nothing."""
    return local != remote and (base is None or base != remote)


def _kept(
    policy: str, key: str, base: Fields | None, local: Fields | None, remote: Fields | None
) -> Fields | None:
    before, mine, theirs = (None if side is None else dict(side) for side in (base, local, remote))
    asked = conflicts.Conflict(object="record", key=key, base=before, local=mine, remote=theirs)
    chosen = conflicts.POLICIES[policy](asked)
    return fields({**(mine or {}), **(theirs or {}), **chosen}) if isinstance(chosen, dict) else None


def store(device: Device, batch: Batch, verdicts: Verdicts) -> tuple[Device, int, int | None]:
    """Store all verdicts of a batch in one transaction.

    Returns the device, how many records were accepted, and the upload limit where it is fixed anew: edits
    that were made before a doubt was settled have moved to the end of the outbox.
    """
    device, answer = fold(device), verdicts.answer
    refused, held = 0, len(device.held)
    for change, verdict in zip(batch.payload.changes, answer.verdicts, strict=True):
        if isinstance(verdict, Rejected):
            device = _park(device, change.key, batch.payload.batch)
        refused += not isinstance(verdict, Accepted)
    for resolution in verdicts.resolutions:
        device = _resolve(device, resolution)
    for change, verdict in zip(batch.payload.changes, answer.verdicts, strict=True):
        if isinstance(verdict, Conflict):
            device = with_change(device, change.key, partial(evolve, batch=None, sent=None, shared=True))
            if verdict.lacks_record:  # another round of the session offers it
                device = with_change(device, change.key, partial(evolve, failed=False, parked=None))
        elif isinstance(verdict, Accepted):
            device = _acknowledge(device, batch.payload.batch, change, verdict)
            device = quarantine.release(device, [change.key])  # the hub has ours in its place
            device = _note_written(device, change, verdict)
    accepted = len(batch.payload.changes) - refused
    device = settle(learn(device, answer.hub, answer.epoch, answer.head))
    tally = Tally(Direction.UPLOAD, accepted, released=held - len(device.held))
    device = evolve(device, number=batch.payload.number, committed=(*device.committed, tally))
    if not batch.is_replay:
        return device, accepted, None
    device, limit = fix_limit(device)
    return device, accepted, limit


def _park(device: Device, key: str, batch: str) -> Device:
    """Keep a rejected change in the revision that went up; one that was edited since is offered again."""
    change = device.pending(key)
    if change is None or change.batch != batch:
        return device
    parked = evolve(change, failed=True, parked=change.sent, batch=None, sent=None)
    return with_change(device, key, lambda _: parked)


def _resolve(device: Device, resolution: Resolution) -> Device:
    """Store one resolution, unless the record was edited since: then the conflict comes up again.

    So it does, in the next session, where the table does not take what is kept.
    """
    change = device.pending(resolution.key)
    if change is None or change.revision != resolution.revision:
        return device
    if _is_at_stake(resolution.base, resolution.local, resolution.remote):
        if not table.fits(device.rules, device.rows, resolution.key, resolution.kept):
            failed = partial(evolve, failed=True, parked=None, batch=None, sent=None)
            return with_change(device, resolution.key, failed)
        device = put(device, resolution.key, resolution.kept)
        lost = Overruled(
            resolution.key, resolution.base, resolution.local, resolution.remote, resolution.kept
        )
        device = evolve(device, conflicts=(*device.conflicts, lost))
    follows = partial(_rebased, resolution) if resolution.goes_up else lambda _: None
    followed = with_change(device, resolution.key, follows)
    return _learn(quarantine.release(followed, [resolution.key]), resolution)


def _learn(device: Device, resolution: Resolution) -> Device:
    """Remember which version of a record has come, where the feed has not come so far."""
    if resolution.remote is None or resolution.version <= read_until(device, resolution.key):
        return device
    return _is_ahead(device, resolution.key, resolution.version)


def _note_written(device: Device, change: Change, verdict: Accepted) -> Device:
    """Remember what the hub took of a record that lies where a scan does not look.

    The feed leaves it out, and no stub tells of it.
    """
    is_behind = device.scan is not None and not device.part and change.key > device.scan.until
    if not is_behind or change.data is None or device.pending(change.key) is not None:
        return device
    return _is_ahead(device, change.key, verdict.version)


def _is_ahead(device: Device, key: str, version: int) -> Device:
    return evolve(device, ahead=tuple(sorted({**dict(device.ahead), key: version}.items())))


def _rebased(resolution: Resolution, change: Pending) -> Pending:
    operation = "insert" if resolution.remote is None else "update"
    revised = _is_at_stake(resolution.base, resolution.local, resolution.remote)
    return evolve(
        change,
        image=resolution.remote,
        base=max(resolution.version, 1),
        since=0 if resolution.version > 1 else change.since,
        operation="delete" if resolution.kept is None else operation,
        revision=change.revision + revised,
        failed=False,
        parked=None,
        beside=False,
    )


def _acknowledge(device: Device, batch: str, change: Change, verdict: Accepted) -> Device:
    """Take an accepted change out of the outbox; one that was edited since stays, and waits at the end."""
    pending = device.pending(change.key)
    if pending is None or pending.batch != batch:
        return device
    if pending.revision == pending.sent:
        return with_change(device, change.key, lambda _: None)
    exists = device.row(change.key) is not None
    if change.data is None and not exists:  # the hub has no record either
        return with_change(device, change.key, lambda _: None)
    operation = "insert" if change.data is None else "update"
    moved = evolve(
        pending,
        position=device.positions + 1,
        image=change.data,
        base=max(verdict.version, 1),
        since=0 if verdict.version > 1 else pending.since,
        operation=operation if exists else "delete",
        batch=None,
        sent=None,
        failed=False,
        parked=None,
        beside=False,
    )
    device = with_change(device, change.key, lambda _: moved)
    return evolve(device, positions=device.positions + 1)


def hold_back(device: Device, batch: Batch) -> Device:
    """Park what is staged: the hub does not take it, not even alone."""
    for change in batch.payload.changes:
        device = _park(device, change.key, batch.payload.batch)
    return device


def drop(device: Device, *, in_doubt: bool) -> Device:
    """Forget what was staged, except for the payload of a batch in doubt."""
    if in_doubt or device.payload is None:
        return keep_doubt(device) if in_doubt else evolve(device, in_doubt=False)
    return settle(release(device, device.payload.batch))
