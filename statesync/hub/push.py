"""A push: one transaction that compares a batch with the records, writes what it may, and keeps the receipt.

``judge`` decides and touches nothing; ``apply_batch`` acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from attrs import define, field

from statesync.hub import spaces
from statesync.hub.db.database import Database, Stored, Written
from statesync.hub.requests import PushRequest, fields_of, text_of
from statesync.hub.retention import Retention
from statesync.hub.spaces import ClientState, NewEpoch
from statesync.wire import Accepted, Change, Conflicted, Push, PushAnswer, Rejected, Verdict


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
) -> str | NewEpoch:
    """Apply a batch in the open transaction, which holds the space's row; return the answer's text.

    ``rejections`` are the changes, by their place in the batch, that cannot be taken whatever is stored.
    If the device is ahead of the space, a new epoch is begun instead, and returned. Raises ``Refused``;
    nothing was changed then.
    """
    envelope = request.envelope
    spaces.check_beliefs(state, envelope)
    if state.answer and is_repeat(state, envelope):
        return state.answer
    spaces.check_not_forked(state, envelope.number - 1)
    if _is_ahead(state, envelope):
        return spaces.begin_epoch(database, space, state, max(state.head, envelope.head))
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
            rejections.get(place)
            or _conflict(change, old, client, state.purged_through)
            or _accept(change, old, judged)
        )
        judged.verdicts.append(verdict)
    return judged


def is_repeat(state: ClientState, request: Push) -> bool:
    """Tell whether the client's receipt is of this very batch."""
    return (request.number, request.batch) == (state.number, state.batch)


def _is_ahead(state: ClientState, request: Push) -> bool:
    """Tell whether the device has seen more of this space than there is: a backup was restored."""
    return request.number > state.number + 1 or request.head > state.head


def _conflict(change: Change, old: Stored | None, client: str, purged_through: int) -> Conflicted | None:
    if change.op == "delete" and (old is None or old.deleted):
        return None
    if old is None:
        # The device knew the record. Either it has missed its delete, which is no longer kept, or the hub has
        # lost the record with all that came after a backup: only who has heard of all such deletes can tell.
        known = change.base and max(change.base, change.since)
        return Conflicted(purged_through, deleted=True) if 0 < known < purged_through else None
    if old.version <= change.base or old.writer == client:
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
