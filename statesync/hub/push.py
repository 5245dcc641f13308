"""A push: one transaction that compares a batch with the records, writes what it may, and keeps the receipt.

``settle`` decides and touches nothing; ``push`` acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from attrs import define, field

from statesync.hub.db.database import Database, Stored, Written
from statesync.hub.errors import Refused, epoch_changed
from statesync.hub.requests import Offer, fields_of, text_of
from statesync.hub.retention import Retention
from statesync.hub.spaces import Standing, begin_epoch, check_beliefs, check_not_forked
from statesync.wire import Accepted, Change, Conflict, PushAnswer, Rejected, Verdict

_RECEIPT = """
INSERT INTO receipt (space, client, number, batch, answer) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (space, client) DO UPDATE SET
    number = excluded.number, batch = excluded.batch, answer = excluded.answer
"""


@define
class Settlement:
    """What becomes of a batch: a verdict for each change, what is written, and the space's new head."""

    head: int
    verdicts: list[Verdict] = field(factory=list)
    writes: list[Written] = field(factory=list)


def push(
    database: Database,
    space: str,
    standing: Standing,
    offer: Offer,
    rejections: Mapping[int, Rejected],
    retention: Retention,
) -> str | Refused:
    """Apply a batch in the open transaction, which holds the space's row; return the answer's text.

    ``rejections`` are the changes, by their place in the batch, that cannot be taken whatever is stored.
    A refusal that is returned has begun a new epoch, which has to be committed; one that is raised has
    changed nothing.
    """
    request = offer.push
    check_beliefs(standing, request)
    if request.number == standing.number and request.batch == standing.batch and standing.answer:
        return standing.answer
    check_not_forked(standing, request.number - 1)
    if request.number > standing.number + 1 or request.head > standing.head:
        epoch = begin_epoch(database, space, max(standing.head, request.head))
        return epoch_changed(standing.hub, epoch, standing.number)
    stored = _find(database, space, offer.changes, rejections)
    settlement = settle(offer.changes, rejections, stored, request.client, standing)
    if any(written.deleted for written in settlement.writes):
        retention.keep(database, space, settlement.head)
    return _record(database, space, standing, offer, settlement)


def settle(
    changes: Iterable[Change],
    rejections: Mapping[int, Rejected],
    stored: Mapping[tuple[str, str], Stored],
    client: str,
    standing: Standing,
) -> Settlement:
    """Decide every change of a batch against what is ``stored``; versions follow the space's head."""
    settlement = Settlement(standing.head)
    for place, change in enumerate(changes):
        old = stored.get((change.object, change.key))
        verdict = (
            rejections.get(place)
            or _conflict(change, old, client, standing.horizon)
            or _accept(change, old, settlement)
        )
        settlement.verdicts.append(verdict)
    return settlement


def _conflict(change: Change, old: Stored | None, client: str, horizon: int) -> Conflict | None:
    if change.op == "delete" and (old is None or old.deleted):
        return None
    if old is None:
        # A device that knew the record can only have missed its delete, which is no longer kept.
        return Conflict(horizon, deleted=True) if 0 < change.base < horizon else None
    if old.version <= change.base or old.writer == client:
        return None
    if old.deleted:
        return Conflict(old.version, deleted=True) if change.base else None
    return Conflict(old.version, data=msgspec.Raw((old.data or "{}").encode()))


def _accept(change: Change, old: Stored | None, settlement: Settlement) -> Accepted:
    if change.op == "delete" and (old is None or old.deleted):
        return Accepted(settlement.head)  # there is nothing to delete, and nothing that a reader could miss
    settlement.head += 1
    deleted = change.op == "delete"
    text = None if deleted else _text(change, old)
    settlement.writes.append(Written(change.object, change.key, settlement.head, deleted, text))
    return Accepted(settlement.head)


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


def _record(database: Database, space: str, standing: Standing, offer: Offer, settlement: Settlement) -> str:
    request = offer.push
    answer = msgspec.json.encode(
        PushAnswer(standing.hub, standing.epoch, settlement.head, settlement.verdicts)
    ).decode()
    if settlement.writes:
        database.dialect.write(database.pool, space, request.client, settlement.writes)
        database.run("UPDATE space SET head = ? WHERE space = ?", settlement.head, space)
    database.run(_RECEIPT, space, request.client, request.number, request.batch, answer)
    return answer
