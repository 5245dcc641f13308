"""A push: one transaction that compares a batch with the records, writes what it may, and keeps the receipt.

``judge`` decides and touches nothing; ``apply_batch`` acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from attrs import define, field

from statesync.hub import epochs, spaces
from statesync.hub.db.database import Database, Stored, Written
from statesync.hub.epochs import Step
from statesync.hub.errors import Refused, versions_used_up
from statesync.hub.requests import PushRequest, fields_of, text_of
from statesync.hub.retention import Retention
from statesync.hub.spaces import ClientState
from statesync.wire import (
    MAX_VERSION,
    Accepted,
    Change,
    Conflicted,
    Push,
    PushAnswer,
    Rejected,
    Verdict,
)


@define
class BatchVerdict:
    """What becomes of a batch: a verdict for each change, what is written, and the space's new head."""

    head: int
    verdicts: list[Verdict] = field(factory=list)
    writes: list[Written] = field(factory=list)


def apply_batch(
    database: Database,
    space: str,
    state: ClientState,
    request: PushRequest,
    rejections: Mapping[int, Rejected],
    retention: Retention,
    epoch_pause: float,
) -> str | Refused:
    """Apply a batch in the open transaction, which holds the space's row; return the answer's text.

    ``rejections`` are the changes, by their place in the batch, that cannot be taken whatever is stored.
    If the device cannot go on as it is, that is returned, after a new epoch was begun if one is due. Raises
    ``Refused``; nothing was changed then.
    """
    envelope = request.envelope
    if state.answer and is_repeat(state, envelope):
        return state.answer
    claim = epochs.claim_of(envelope)
    step = epochs.next_step(state, claim, may_begin=True, pause=epoch_pause)
    if step is Step.BEGIN_EPOCH:
        return epochs.begin(database, space, state, claim.seen)
    if isinstance(step, Refused):
        return step
    if len(request.changes) > MAX_VERSION - state.head:
        raise versions_used_up()
    stored = _find(database, space, request.changes, rejections)
    judged = judge(request.changes, rejections, stored, envelope.client, state)
    if any(written.deleted for written in judged.writes):
        retention.mark_and_purge(database, space, judged.head)
    return _store(database, space, state, envelope, judged)


def judge(
    changes: Iterable[Change],
    rejections: Mapping[int, Rejected],
    stored: Mapping[tuple[str, str], Stored],
    client: str,
    state: ClientState,
) -> BatchVerdict:
    """Decide every change of a batch against what is ``stored``; versions follow the space's head."""
    judged = BatchVerdict(state.head)
    for place, change in enumerate(changes):
        old = stored.get((change.object, change.key))
        verdict = (
            rejections.get(place) or _conflict(change, old, client, state) or _accept(change, old, judged)
        )
        judged.verdicts.append(verdict)
    return judged


def is_repeat(state: ClientState, request: Push) -> bool:
    """Tell whether the client's receipt is of this very batch, sent to this hub and in this epoch."""
    is_here = request.hub in (None, state.hub) and request.epoch in (None, state.epoch)
    return is_here and (request.number, request.batch) == (state.number, state.batch)


def _conflict(change: Change, old: Stored | None, client: str, state: ClientState) -> Conflicted | None:
    # Nobody has read past the head: a base above it says that the device knew the record, and no more.
    seen = change.base if change.base <= state.head else 0
    if change.op == "delete" and (old is None or old.deleted):
        return None
    if old is None:
        # The device knew the record, so it can only have missed its delete, which is no longer kept.
        missed = change.base > 0 and seen < state.purged_through
        return Conflicted(state.purged_through, deleted=True) if missed else None
    if old.version <= seen or old.writer == client:
        return None
    if old.deleted:
        return Conflicted(old.version, deleted=True) if change.base else None
    return Conflicted(old.version, data=msgspec.Raw((old.data or "{}").encode()))


def _accept(change: Change, old: Stored | None, judged: BatchVerdict) -> Accepted:
    """Write a change. The delete of a record that the hub has lost, by a backup, is kept: others have it."""
    if change.op == "delete" and (old.deleted if old else change.base == 0):
        return Accepted(judged.head)  # there is nothing to delete, and nothing that a reader could miss
    judged.head += 1
    deleted = change.op == "delete"
    text = None if deleted else _text(change, old)
    judged.writes.append(Written(change.object, change.key, judged.head, deleted, text))
    return Accepted(judged.head)


def _text(change: Change, old: Stored | None) -> str:
    """Return the JSON text to keep: as it came, or with the old record's fields that it does not mention."""
    came = text_of(change) or b"{}"
    if old is None or old.data is None:
        return came.decode()
    before, after = fields_of(old.data) or {}, fields_of(came) or {}
    if before.keys() <= after.keys():
        return came.decode()
    return msgspec.json.encode({**before, **after}).decode()


def _find(
    database: Database, space: str, changes: list[Change], rejections: Mapping[int, Rejected]
) -> Mapping[tuple[str, str], Stored]:
    keys = [(change.object, change.key) for place, change in enumerate(changes) if place not in rejections]
    return database.dialect.find(database.pool, space, keys) if keys else {}


def _store(database: Database, space: str, state: ClientState, request: Push, judged: BatchVerdict) -> str:
    """Write the records, the space's head and the receipt; return the answer's text."""
    answer = msgspec.json.encode(PushAnswer(state.hub, state.epoch, judged.head, judged.verdicts)).decode()
    if judged.writes:
        database.dialect.write(database.pool, space, request.client, judged.writes)
        spaces.move_head(database, space, judged.head)
    spaces.keep_receipt(database, space, request, answer)
    return answer
