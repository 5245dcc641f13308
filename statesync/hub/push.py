"""A push: one transaction that compares a batch with the records, writes what it may, and keeps the receipt.

``judge`` decides and touches nothing; ``apply_batch`` acts. What a batch may cost has an end on every side:
the bytes of stored records that are looked at, of the records and the words that the answer carries, and of
a record with the fields that it has already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
from attrs import field

from statesync.classes import define, frozen
from statesync.hub import epochs, receipts, requests, spaces
from statesync.hub.access.rights import Right, Rights
from statesync.hub.db.database import Database, Finding, Stored, Written
from statesync.hub.epochs import Step
from statesync.hub.errors import Refused, too_large, versions_used_up
from statesync.hub.limits import HubLimits, Sight
from statesync.hub.requests import PushRequest, text_of
from statesync.hub.retention import Retention
from statesync.hub.spaces import ClientState
from statesync.hub.texts.records import fields_of
from statesync.wire import (
    CONFLICT_UNREADABLE,
    MAX_VERSION,
    Accepted,
    Change,
    Conflicted,
    Push,
    Rejected,
    Verdict,
)

_UNREADABLE_ADVICE = (
    "the token does not allow to read it, so nothing can be decided here: retry() once it does, or rollback()"
)


_TOO_MANY_WORDS = "the answer has no more room for words; send fewer changes"


@define
class Effort:
    """What a batch has made the hub do so far, whatever becomes of it."""

    records: int = 0
    """Changes that were looked at."""
    size: int = 0
    """Characters of the stored records that were read for them."""


@frozen
class Terms:
    """On what terms a batch is taken: what its sender may do, and what the hub allows.

    ``rejections`` are the changes, by their place in the batch, that cannot be taken whatever is stored,
    ``unreadable`` the objects of the batch whose records its sender may not read, and ``sight`` is how much
    of what is stored it may look at.
    """

    rights: Rights
    limits: HubLimits
    rejections: Mapping[int, Rejected]
    unreadable: frozenset[str]
    sight: Sight
    effort: Effort = field(factory=Effort)


@define
class BatchVerdict:
    """What becomes of a batch: a verdict for each change, what is written, and the space's new head.

    ``carried`` are the bytes of the records that the verdicts carry, ``said`` those of their words; each is
    bounded by itself, so that what is rejected takes no record from what is in conflict. ``living`` is how
    many more records each object has that are not deleted.
    """

    head: int
    verdicts: list[Verdict] = field(factory=list)
    writes: list[Written] = field(factory=list)
    living: Counter[str] = field(factory=Counter)
    carried: int = 0
    said: int = 0


def terms_of(
    request: PushRequest, rights: Rights, objects: frozenset[str] | None, limits: HubLimits, sight: Sight
) -> Terms:
    """Return the terms for a batch; what its sender may do is looked at here, and only here.

    ``objects`` are the names of the objects that records may belong to (None: any).
    """
    names = {change.object for change in request.changes}
    unwritable = rights.lacking(Right.WRITE, names)
    rejections = requests.rejections(request.changes, objects, unwritable, limits)
    return Terms(rights, limits, rejections, frozenset(rights.lacking(Right.READ, names)), sight)


def look_up(database: Database, space: str, request: PushRequest, terms: Terms) -> Finding:
    """Ask what is stored of a batch: no more bytes of it than it may look at, and one record more."""
    numbered = enumerate(request.changes)
    keys = [(each.object, each.key) for place, each in numbered if place not in terms.rejections]
    return database.dialect.find(database.pool, space, keys, terms.sight.size) if keys else dict


def apply_batch(
    database: Database,
    space: str,
    request: PushRequest,
    terms: Terms,
    retention: Retention,
    state: ClientState,
    find: Finding,
) -> str | Refused:
    """Apply a batch in the open transaction, which holds the space's row; return the answer's text.

    ``find`` is what ``look_up`` returned under that lock. If the device cannot go on as it is, that is
    returned, after a new epoch was begun if one is due. Raises ``Refused``, and ``NoMemory`` where it has to
    look at more than there is memory for; nothing was changed then.
    """
    envelope = request.envelope
    terms.effort.records = len(request.changes)
    if is_repeat(state, envelope):
        return answer_again(database, space, request, terms.rights)
    claim = epochs.claim_of(envelope)
    step = epochs.next_step(state, claim, may_begin=True, pause=terms.limits.epoch_pause)
    if step is Step.BEGIN_EPOCH:
        return epochs.begin(database, space, state, claim.seen)
    if isinstance(step, Refused):
        return step
    if len(request.changes) > MAX_VERSION - state.head:
        raise versions_used_up()
    stored = _looked_at(database, space, terms, find())
    judged = judge(request, terms, stored, state)
    made = sum(written.deleted for written in judged.writes)
    if made:
        retention.mark_and_purge(database, space, judged.head, made)
    return _store(database, space, state, request, terms, judged)


def _looked_at(
    database: Database, space: str, terms: Terms, found: Mapping[tuple[str, str], Stored]
) -> Mapping[tuple[str, str], Stored]:
    """Return what was ``found`` with all that was left out of it, as far as the batch may look."""
    stored, sight = dict(found), terms.sight
    while True:
        terms.effort.size = sum(len(each.data) for each in stored.values() if each.data is not None)
        left_out = [key for key, each in stored.items() if each.is_left_out]
        if not left_out or not sight.grows():
            return stored
        rest = max(1, sight.size - terms.effort.size)
        stored |= database.dialect.find(database.pool, space, left_out, rest)()


def answer_again(database: Database, space: str, request: PushRequest, rights: Rights) -> str:
    """Return the text of the answer to a repeat, from its receipt; raises what that raises."""
    kept = spaces.answer_kept(database, space, request.envelope.client)
    claimed = [change.object for change in request.changes]
    return receipts.answer_again(kept, request.envelope, claimed, rights)


def judge(
    request: PushRequest, terms: Terms, stored: Mapping[tuple[str, str], Stored], state: ClientState
) -> BatchVerdict:
    """Decide every change of a batch against what is ``stored``; versions follow the space's head.

    Raises the 413 for more records in conflict than an answer may carry, where the device has to have all of
    them, and for more fields put to stored records than may be looked at.
    """
    judged, rejections, client = BatchVerdict(state.head), terms.rejections, request.envelope.client
    for place, change in enumerate(request.changes):
        verdict: Verdict | None = rejections.get(place)
        if verdict is None:
            old = stored.get((change.object, change.key))
            conflict = _conflict(change, old, client, state)
            if conflict is None:
                verdict = _accept(change, old, judged, terms.limits)
            else:
                verdict = _told(conflict, change, request.envelope, terms, judged)
        if isinstance(verdict, Rejected):
            verdict = _in_few_words(verdict, judged, terms.limits.page_bytes)
        judged.verdicts.append(verdict)
    return judged


def _told(
    conflict: Conflicted, change: Change, envelope: Push, terms: Terms, judged: BatchVerdict
) -> Conflicted | Rejected:
    """Return a conflict as its sender may hear it: with its record as long as the answer has room for it."""
    if change.object in terms.unreadable:
        return Rejected(
            CONFLICT_UNREADABLE, f"somebody else has written this record since; {_UNREADABLE_ADVICE}"
        )
    if conflict.deleted:
        return conflict
    most = terms.limits.page_bytes
    if isinstance(conflict.data, msgspec.Raw) and judged.carried < most:
        judged.carried += len(bytes(conflict.data))
        return conflict
    if envelope.offers_again:
        return Conflicted(conflict.version)
    what = "the records that are in conflict with this batch are too much for an answer; send fewer changes"
    raise too_large("answer_too_large", what, most)


def _in_few_words(rejection: Rejected, judged: BatchVerdict, most: int) -> Rejected:
    """Return a rejection with its words, as long as the answer has room for them."""
    if judged.said >= most:
        rejection = msgspec.structs.replace(rejection, message=_TOO_MANY_WORDS)
    judged.said += len(rejection.message.encode())
    return rejection


def is_repeat(state: ClientState, request: Push) -> bool:
    """Tell whether the client's receipt is of this very batch, sent to this hub and in this epoch."""
    is_here = request.hub in (None, state.hub) and request.epoch in (None, state.epoch)
    return is_here and (request.number, request.batch) == (state.number, state.batch)


def _conflict(change: Change, old: Stored | None, client: str, state: ClientState) -> Conflicted | None:
    if old is None and not (change.base or change.since):
        return None  # the commonest change, of a record that nobody has
    # Nobody has read past the head: a base above it says that the device knew the record, and no more.
    seen = change.base if change.base <= state.head else 0
    since = change.since if change.since <= state.head else 0
    if change.op == "delete" and (old is None or old.deleted):
        return None
    if old is None:
        # The device knew the record. Either it has missed its delete, which is no longer kept, or the hub has
        # lost the record with all that came after a backup: only who has heard of all such deletes can tell.
        missed = _known(change) > 0 and max(seen, since) < state.purged_through
        return Conflicted(state.purged_through, deleted=True) if missed else None
    if old.version <= seen or old.writer == client:
        return None
    if old.deleted:
        return Conflicted(old.version, deleted=True) if _known(change) else None
    return Conflicted(old.version, data=msgspec.UNSET if old.data is None else msgspec.Raw(old.data.encode()))


def _known(change: Change) -> int:
    """Return up to which version the device has heard of all deletes; 0 if nobody can have the record."""
    return max(change.base, change.since)


def _accept(
    change: Change, old: Stored | None, judged: BatchVerdict, limits: HubLimits
) -> Accepted | Rejected:
    """Write a change. The delete of a record that the hub has lost, by a backup, is kept: others have it.

    A record that is made too large by what it has already is rejected.
    """
    if change.op == "delete" and (old.deleted if old else _known(change) == 0):
        return Accepted(judged.head)  # there is nothing to delete, and nothing that a reader could miss
    deleted = change.op == "delete"
    text = None if deleted else _text(change, old, limits)
    if text is not None and len(text) > limits.record:
        message = f"with the fields that the hub has besides it is over the limit of {limits.record} bytes"
        return Rejected("record_too_large", message)
    judged.head += 1
    lives = old is not None and not old.deleted
    row = old.row if old is not None and lives else None  # a purge of this transaction takes tombstones alone
    judged.writes.append(Written(change.object, change.key, judged.head, deleted, text, row))
    judged.living[change.object] += (not deleted) - lives
    return Accepted(judged.head)


def _text(change: Change, old: Stored | None, limits: HubLimits) -> bytes:
    """Return the JSON text to keep: as it came, or with the old record's fields that it does not mention."""
    came = text_of(change) or b"{}"
    if old is None or old.deleted:
        return came
    if old.data is None:
        raise too_large("batch_too_large", "the batch changes too much that is stored", limits.body)
    before, after = fields_of(old.data) or {}, fields_of(came) or {}
    if before.keys() <= after.keys():
        return came
    return msgspec.json.encode({**before, **after})


def _judged_objects(changes: list[Change], terms: Terms) -> set[str]:
    """Return the objects of all changes that were judged by what is stored."""
    return {change.object for place, change in enumerate(changes) if place not in terms.rejections}


def _store(
    database: Database,
    space: str,
    state: ClientState,
    request: PushRequest,
    terms: Terms,
    judged: BatchVerdict,
) -> str:
    """Write the records, the space's head and the receipt; return the answer's text."""
    envelope, about = request.envelope, _judged_objects(request.changes, terms)
    answer, receipt = receipts.answer_and_receipt(
        state.hub, state.epoch, judged.head, judged.verdicts, about, carried=judged.carried > 0
    )
    if judged.writes:
        database.dialect.write(database.pool, space, envelope.client, judged.writes)
        spaces.move_head(database, space, judged.head)
        spaces.count_living(database, space, judged.living)
    spaces.keep_receipt(database, space, envelope, receipt)
    return answer
