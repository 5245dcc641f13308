"""Storing what the hub said of an upload batch: accepted, in conflict, rejected; all in one transaction.

Conflicts are resolved before the transaction (``resolve``: a policy is the program's code, and no such
code runs while a transaction is open) and stored by compare and set on the revision that was seen then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from logging import Logger, getLogger

import msgspec
from attrs import frozen

from statesync.conflicts import Policy, Record
from statesync.store import conflict_log, local_only
from statesync.store.conflict_log import Sides
from statesync.store.file.reading import UnreadableText, read
from statesync.store.outbox import changes as outbox
from statesync.store.outbox import lookup
from statesync.store.outbox.changes import Rebase
from statesync.store.outbox.fold import fold
from statesync.store.tracking import records
from statesync.store.tracking.images import image_of, record_of_image
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.wire import Accepted, Change, Conflict, Rejected, Verdict

logger: Logger = getLogger(__name__)

_CHANGES = msgspec.json.Decoder(list[Change])

Pair = tuple[Change, Verdict]


@frozen
class Resolution:
    """What becomes of one record in conflict.

    ``revision`` is the one that was looked at: if the record was edited since, nothing is stored and the
    conflict comes up again. ``problem`` is why the policy could not decide.
    """

    tracked: TrackedObject
    key: str
    revision: int
    version: int
    base: Record | None
    local: Record | None
    remote: Record | None
    kept: Record | None
    problem: str | None = None

    @property
    def goes_up(self) -> bool:
        """Whether what is kept has to be sent to the hub."""
        return self.problem is None and self.kept != self.remote

    @property
    def sides(self) -> Sides:
        """What the conflict log keeps."""
        return Sides(self.base, self.local, self.remote, self.kept)

    @property
    def is_conflict(self) -> bool:
        """Whether anything was at stake at all: equal records are no conflict."""
        return self.local != self.remote


@frozen
class Outcome:
    """How many records of a batch were accepted, in conflict and rejected."""

    accepted: int
    conflicts: int
    rejected: int


def changes_of(payload: bytes) -> list[Change]:
    """Return the changes of an upload batch from its payload."""
    return _CHANGES.decode(payload)


def resolve(
    connection: sqlite3.Connection,
    changes: Sequence[Change],
    verdicts: Sequence[Verdict],
    objects: Objects,
    policy: Policy,
) -> list[Resolution]:
    """Ask the policy about every conflict.

    Raises ``msgspec.ValidationError`` for a hub's record that does not fit its table.
    """
    resolutions = []
    for change, verdict in zip(changes, verdicts, strict=True):
        if isinstance(verdict, Conflict) and change.object in objects:
            resolution = _resolve(connection, objects[change.object], change, verdict, policy)
            if resolution is not None:
                resolutions.append(resolution)
    return resolutions


def _resolve(
    connection: sqlite3.Connection, tracked: TrackedObject, change: Change, verdict: Conflict, policy: Policy
) -> Resolution | None:
    key = change.key
    seen = lookup.version_of(connection, tracked.name, key)
    if seen is None:  # rolled back meanwhile: there is nothing left to keep
        return None
    base, local = _readable(record_of_image(seen.image)), _local(connection, tracked, key)
    if seen.is_as_sent and local_only.among(connection, tracked.name, [key]):
        local = _sent(tracked, change)  # what stands here may have been written untracked since
    remote = None
    if not verdict.deleted and verdict.data is not msgspec.UNSET:
        remote = tracked.wire.read(verdict.data)
    problem = _problem_of(seen, local)
    if problem is not None:
        return Resolution(tracked, key, seen.revision, verdict.version, base, local, remote, local, problem)
    kept, problem = _ask(policy, base, local, remote, tracked)
    return Resolution(tracked, key, seen.revision, verdict.version, base, local, remote, kept, problem)


def _sent(tracked: TrackedObject, change: Change) -> Record | None:
    return None if change.data is msgspec.UNSET else tracked.wire.read(change.data)


def _local(connection: sqlite3.Connection, tracked: TrackedObject, key: str) -> Record | None:
    wanted = json.dumps([key])
    row = read(connection, lambda: connection.execute(tracked.sql.select, (wanted,)).fetchone())
    return None if row is None else tracked.record_of(tuple(row[1:]))


def _readable(record: Record | None) -> Record | None:
    """Leave out what no policy can look at: what a text that is no UTF-8 was before is not known."""
    if record is None:
        return None
    return {name: value for name, value in record.items() if not isinstance(value, UnreadableText)}


def _problem_of(seen: lookup.Version, local: Record | None) -> str | None:
    """Tell why a change cannot be resolved: an upload would be held back for the same reason."""
    if local is None:
        gone = "record_missing: the record went without being deleted while its change was sent"
        return None if seen.operation == "delete" else gone
    if _readable(local) != local:
        return "bad_value: it holds a text that is no UTF-8; write it anew, or take the change back"
    return None


def _ask(
    policy: Policy, base: Record | None, local: Record | None, remote: Record | None, tracked: TrackedObject
) -> tuple[Record | None, str | None]:
    if local == remote:
        return remote, None
    try:
        kept = policy(*(None if side is None else dict(side) for side in (base, local, remote)))
        return _whole(kept, local, remote, tracked), None
    except Exception as error:  # the program's code may raise anything; this one record waits for it
        logger.warning("the conflict policy failed for %s", tracked.name, exc_info=True)
        return local, f"policy_failed: {type(error).__name__}: {error}"


def _whole(
    kept: Record | None, local: Record | None, remote: Record | None, tracked: TrackedObject
) -> Record | None:
    """Return what a policy kept with the fields that it left open; raise ``ValueError`` for no record."""
    if kept is None or kept == remote:
        return kept
    odd = sorted(kept.keys() - set(tracked.column_names))
    if odd:
        raise ValueError(f"it returned columns that {tracked.name} has not: {odd}")
    unfit = sorted(name for name, value in kept.items() if not _is_storable(value))
    if unfit:
        raise ValueError(f"it returned values that SQLite cannot hold: {unfit}")
    return {**(local or {}), **(remote or {}), **kept}


def _is_storable(value: object) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, str):
        return value.isascii() or value.encode("utf-8", "replace").decode() == value
    return value is None or isinstance(value, float | bytes)


# -- storing ---------------------------------------------------------------------------------------


def store(
    connection: sqlite3.Connection,
    session: str,
    wire_id: str,
    changes: Sequence[Change],
    verdicts: Sequence[Verdict],
    resolutions: Iterable[Resolution],
    objects: Objects,
    *,
    remove_accepted: bool,
) -> Outcome:
    """Store the verdicts of one batch. In a transaction, with tracking off. Folds first."""
    fold(connection, objects)
    refused = _not_accepted(changes, verdicts)
    rejected = _store_rejected(connection, session, refused)
    for resolution in resolutions:
        _store_resolution(connection, session, resolution)
    # A conflict that was not stored (edited since) is free again and comes up in the next round.
    conflicts = [(change.object, change.key) for change, verdict in refused if isinstance(verdict, Conflict)]
    outbox.release(connection, conflicts)
    _store_accepted(connection, wire_id, changes, verdicts, objects, remove_accepted=remove_accepted)
    return Outcome(len(changes) - len(refused), len(refused) - rejected, rejected)


def _not_accepted(changes: Sequence[Change], verdicts: Sequence[Verdict]) -> list[Pair]:
    """Return the few changes that need a look each: most of a batch is accepted."""
    return [pair for pair in zip(changes, verdicts, strict=True) if not isinstance(pair[1], Accepted)]


def _store_rejected(connection: sqlite3.Connection, session: str, refused: list[Pair]) -> int:
    count = 0
    for change, verdict in refused:
        if isinstance(verdict, Rejected):
            error = f"{verdict.code}: {verdict.message}"
            outbox.mark_failed(connection, change.object, change.key, error, session)
            count += 1
    return count


def _store_resolution(connection: sqlite3.Connection, session: str, resolution: Resolution) -> None:
    """Store one resolution, by compare and set on the revision that was looked at."""
    tracked, key = resolution.tracked, resolution.key
    now = lookup.version_of(connection, tracked.name, key)
    if now is None or now.revision != resolution.revision:
        return
    if resolution.problem is not None:
        outbox.mark_failed(connection, tracked.name, key, resolution.problem, session)
        return
    is_local = bool(local_only.among(connection, tracked.name, [key]))
    if resolution.is_conflict:
        try:
            if resolution.kept is not None or not is_local:
                _write(connection, tracked, key, resolution.kept)
        except sqlite3.IntegrityError as error:  # the statement is undone, the transaction goes on
            outbox.mark_failed(connection, tracked.name, key, f"does_not_fit: {error}", session)
            return
        conflict_log.add(connection, session, tracked.name, key, resolution.sides)
    if resolution.goes_up:
        edit = Rebase(_operation(resolution), image_of(resolution.remote), max(resolution.version, 1))
        outbox.rebase(connection, tracked.name, key, edit, revised=True)
    else:
        outbox.forget_record(connection, tracked.name, key)
    if is_local and resolution.goes_up and resolution.kept is not None:
        local_only.end(connection, tracked.name, [key])
    elif is_local:
        _compare_local(connection, tracked, key, resolution.version, resolution.remote)


def _operation(resolution: Resolution) -> str:
    if resolution.kept is None:
        return "delete"
    return "insert" if resolution.remote is None else "update"


def _write(connection: sqlite3.Connection, tracked: TrackedObject, key: str, kept: Record | None) -> None:
    if kept is None:
        records.delete(connection, tracked, key)
    else:
        records.write(connection, tracked, key, kept)


def _store_accepted(
    connection: sqlite3.Connection,
    wire_id: str,
    changes: Sequence[Change],
    verdicts: Sequence[Verdict],
    objects: Objects,
    *,
    remove_accepted: bool,
) -> None:
    """Take accepted changes out of the outbox, by compare and set; those edited since stay, rebased."""
    _settle_local(connection, wire_id, changes, verdicts, objects)
    if remove_accepted:
        _remove(connection, wire_id, objects)
    outbox.forget_unedited(connection, wire_id)
    edited = lookup.changes_of_batch(connection, wire_id)
    accepted = _accepted(changes, verdicts) if edited else {}
    for name, key in edited:
        if name in objects and (name, key) in accepted:
            _rebase(connection, objects[name], *accepted[name, key])


def _accepted(
    changes: Sequence[Change], verdicts: Sequence[Verdict]
) -> dict[tuple[str, str], tuple[Change, int]]:
    return {
        (change.object, change.key): (change, verdict.version)
        for change, verdict in zip(changes, verdicts, strict=True)
        if isinstance(verdict, Accepted)
    }


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
            sent = _sent(objects[name], change)
            _compare_local(connection, objects[name], key, version, sent)


def _compare_local(
    connection: sqlite3.Connection, tracked: TrackedObject, key: str, version: int, at_hub: Record | None
) -> None:
    """Let a record that is local only be an ordinary one if it is as the hub has it, at ``version``."""
    if _local(connection, tracked, key) == at_hub:
        local_only.end(connection, tracked.name, [key])
    else:
        local_only.note_at_hub(connection, tracked.name, key, version, at_hub)


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
    sent = _sent(tracked, change)
    now = lookup.version_of(connection, tracked.name, change.key)
    is_delete = now is not None and now.operation == "delete"
    if is_delete and sent is None:  # the hub has no record either
        outbox.forget_record(connection, tracked.name, change.key)
        return
    operation = "delete" if is_delete else "insert" if sent is None else "update"
    edit = Rebase(operation, image_of(sent), max(version, 1))
    outbox.rebase(connection, tracked.name, change.key, edit, revised=False)
    outbox.move_to_end(connection, tracked.name, change.key)
