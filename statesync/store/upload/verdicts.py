"""Storing what the hub said of an upload batch: accepted, in conflict, rejected; all in one transaction.

Conflicts have been resolved before (``resolving``). One that came without the hub's record tells only that
the change was not applied: it is offered again, and nobody is asked about it before the record has come.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from statesync.classes import frozen
from statesync.store import bases, local_only, quarantine
from statesync.store.cursors import applied
from statesync.store.journal.batches import WireBatch
from statesync.store.outbox import changes as outbox
from statesync.store.outbox import lookup, under_way
from statesync.store.outbox.changes import Rebase
from statesync.store.outbox.fold import fold_amid_upload
from statesync.store.outbox.parking import park
from statesync.store.resolving.asking import Resolution, sent_record
from statesync.store.resolving.keeping import Deadly, compare_local, store_resolution, take_spared
from statesync.store.tracking.images import image_of
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.wire import Accepted, Change, Conflicted, Rejected, Verdict

_version: Callable[[Verdict], int] = attrgetter("version")

Pair = tuple[Change, Verdict]


@frozen
class Outcome:
    """How many records of a batch were accepted, in conflict and rejected.

    Those that are offered again, because the hub's record has not come, are none of the three. ``released``
    is of how many another version need not wait in quarantine any more. ``is_calm`` says that the accepted
    ones were taken out of the outbox, and that nothing else has happened there.
    """

    accepted: int
    conflicts: int
    rejected: int
    released: int
    is_calm: bool = False


def are_accepted(verdicts: Iterable[Verdict]) -> bool:
    """Tell whether the hub has taken all, as it does of most batches."""
    return set(map(type, verdicts)) <= {Accepted}


def highest_version(verdicts: Sequence[Verdict], *, accepted: bool) -> int:
    """Return the highest version that verdicts tell of; 0 if they tell of none.

    ``accepted`` says that the hub has taken all.
    """
    if accepted:
        return max(map(_version, verdicts), default=0)
    return max((each.version for each in verdicts if not isinstance(each, Rejected)), default=0)


def store(
    connection: sqlite3.Connection,
    session: str,
    batch: WireBatch,
    verdicts: Sequence[Verdict],
    resolutions: Iterable[Resolution],
    deadly: Deadly,
    objects: Objects,
    *,
    remove_accepted: bool,
    now: float,
) -> Outcome:
    """Store the verdicts of one batch, at the time ``now``. In a transaction, tracking off. Folds first.

    Raises ``TransactionLost`` as ``store_resolution`` does.
    """
    has_folded = fold_amid_upload(connection, objects)
    waiting = quarantine.total(connection)
    refused = [] if are_accepted(verdicts) else _not_accepted(batch.changes, verdicts)
    if refused or remove_accepted or local_only.is_in_use(connection):  # then it is about single changes
        under_way.spread(connection)
    rejected = _park_rejected(connection, session, batch.id, refused, now)
    for resolution in resolutions:
        store_resolution(connection, session, resolution, deadly)
    # A conflict that was not stored (edited since) is free again and comes up in the next round.
    conflicts = [pair for pair in refused if isinstance(pair[1], Conflicted)]
    unread = _records(pair for pair in conflicts if is_unread(pair[1]))
    if conflicts:
        outbox.release(connection, _records(conflicts))
        outbox.free_errors(connection, unread)
    take_spared(connection, batch.id, objects, deadly)
    is_edited = _store_accepted(connection, batch, verdicts, objects, remove_accepted=remove_accepted)
    if waiting:
        _end_quarantine(connection, batch.changes, verdicts)
    released = waiting and waiting - quarantine.total(connection)
    is_calm = not (has_folded or refused or is_edited)
    accepted = len(verdicts) - len(refused)
    return Outcome(accepted, len(conflicts) - len(unread), rejected, released, is_calm)


def is_unread(verdict: Verdict) -> bool:
    """Tell whether a verdict is a conflict that came without the hub's record."""
    return isinstance(verdict, Conflicted) and verdict.lacks_record


def _records(pairs: Iterable[Pair]) -> list[tuple[str, str]]:
    return [(change.object, change.key) for change, _ in pairs]


def _not_accepted(changes: Sequence[Change], verdicts: Sequence[Verdict]) -> list[Pair]:
    """Return the few changes that need a look each: most of a batch is accepted."""
    return [pair for pair in zip(changes, verdicts, strict=True) if not isinstance(pair[1], Accepted)]


def _park_rejected(
    connection: sqlite3.Connection, session: str, wire_id: str, refused: list[Pair], now: float
) -> int:
    count = 0
    for change, verdict in refused:
        if isinstance(verdict, Rejected):
            park(connection, wire_id, (change.object, change.key), verdict, session, now)
            count += 1
    return count


def _store_accepted(
    connection: sqlite3.Connection,
    batch: WireBatch,
    verdicts: Sequence[Verdict],
    objects: Objects,
    *,
    remove_accepted: bool,
) -> bool:
    """Take accepted changes out of the outbox, by compare and set; those edited since stay, rebased.

    Tells whether there are any of those.
    """
    if local_only.is_in_use(connection):
        _settle_local(connection, batch.id, batch.changes, verdicts, objects)
    if remove_accepted:
        _remove(connection, batch.id, objects)
    under_way.forget_unedited(connection, batch.id)
    edited = lookup.changes_of_batch(connection, batch.id)
    accepted = _accepted(batch.changes, verdicts) if edited else {}
    for name, key in edited:
        if name in objects and (name, key) in accepted:
            _rebase(connection, objects[name], *accepted[name, key])
    for name, end in applied.ends_of_scans(connection).items():
        _note_written(connection, name, end, batch.changes, verdicts)
    return bool(edited)


def _note_written(
    connection: sqlite3.Connection,
    name: str,
    end: str,
    changes: Sequence[Change],
    verdicts: Sequence[Verdict],
) -> None:
    """Remember what the hub took of records that lie where a scan does not look, behind its ``end``.

    The feed leaves them out, and no stub tells of them.
    """
    taken = {
        key: version
        for (of, key), (change, version) in _accepted(changes, verdicts).items()
        if of == name and key > end and change.op == "upsert"
    }
    waiting = lookup.pending_among(connection, name, list(taken))
    bases.remember_those(connection, name, {key: at for key, at in taken.items() if key not in waiting})


def _accepted(
    changes: Sequence[Change], verdicts: Sequence[Verdict]
) -> dict[tuple[str, str], tuple[Change, int]]:
    return {
        (change.object, change.key): (change, verdict.version)
        for change, verdict in zip(changes, verdicts, strict=True)
        if isinstance(verdict, Accepted)
    }


def _end_quarantine(
    connection: sqlite3.Connection, changes: Sequence[Change], verdicts: Sequence[Verdict]
) -> None:
    """Let go of what waited of accepted records: the hub has ours in its place."""
    for name, key in _accepted(changes, verdicts):
        quarantine.release(connection, name, [key])


def _settle_local(
    connection: sqlite3.Connection,
    wire_id: str,
    changes: Sequence[Change],
    verdicts: Sequence[Verdict],
    objects: Objects,
) -> None:
    """Let accepted records go on being local only where the hub has not got what is here."""
    for name in {change.object for change in changes} & objects.keys():
        if not local_only.has_any(connection, name):
            continue
        accepted = {key: at for (of, key), at in _accepted(changes, verdicts).items() if of == name}
        local = local_only.among(connection, name, accepted)
        edited = lookup.edited_keys(connection, wire_id, name)
        local_only.end(connection, name, local.keys() & edited)
        for key in local.keys() - edited:
            change, version = accepted[key]
            sent = sent_record(objects[name], change)
            compare_local(connection, objects[name], key, version, sent)


def _remove(connection: sqlite3.Connection, wire_id: str, objects: Objects) -> None:
    for name, tracked in objects.items():
        keys = lookup.unedited_keys(connection, wire_id, name)
        local = local_only.among(connection, name, keys)
        keys = [key for key in keys if key not in local] if local else keys
        connection.executemany(tracked.sql.delete, [(key,) for key in keys])


def _rebase(connection: sqlite3.Connection, tracked: TrackedObject, change: Change, version: int) -> None:
    """Keep an edit that was made while its record was under way: an update of what the hub now has.

    It moves to the end of the outbox, past the position up to which the session uploads. So it waits for the
    next session.
    """
    sent = sent_record(tracked, change)
    now = lookup.version_of(connection, tracked.name, change.key)
    is_delete = now is not None and now.operation == "delete"
    if is_delete and sent is None:  # the hub has no record either
        outbox.forget_record(connection, tracked.name, change.key)
        return
    operation = "delete" if is_delete else "insert" if sent is None else "update"
    edit = Rebase(operation, image_of(sent), max(version, 1))
    outbox.rebase(connection, tracked.name, change.key, edit, revised=False)
    outbox.move_to_end(connection, tracked.name, change.key)
