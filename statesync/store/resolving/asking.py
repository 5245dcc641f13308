"""Asking the policy what becomes of each record in conflict. Writes nothing.

A policy is the program's code, and no such code runs while a transaction is open. So it is asked before,
and what it said is stored by compare and set on the revision that was seen then (``keeping``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from logging import Logger, getLogger

import msgspec
from attrs import evolve
from peewee import Model

from statesync.classes import frozen
from statesync.conflicts import Conflict, Later, Policy, Record
from statesync.errors import words_of
from statesync.store import local_only
from statesync.store.outbox import lookup
from statesync.store.resolving.rows import RowForm, readable, record_here
from statesync.store.tracking.images import record_of_image
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.wire import Change, Conflicted, Verdict

logger: Logger = getLogger(__name__)


@frozen
class Resolution:
    """What becomes of one record in conflict: ``kept`` is a record, None for a delete, or ``LATER``.

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
    kept: Record | Later | None
    problem: str | None = None

    @property
    def waits(self) -> bool:
        """Whether somebody has to decide it later."""
        return self.problem is None and isinstance(self.kept, Later)

    @property
    def goes_up(self) -> bool:
        """Whether what is kept has to be sent to the hub."""
        return self.problem is None and not self.waits and self.kept != self.remote

    @property
    def is_conflict(self) -> bool:
        """Whether anything was at stake at all."""
        return not _is_settled(self.base, self.local, self.remote)


def resolve(
    connection: sqlite3.Connection,
    changes: Sequence[Change],
    verdicts: Sequence[Verdict],
    objects: Objects,
    models: Mapping[str, type[Model]],
    policy: Policy,
) -> list[Resolution]:
    """Ask the policy about every conflict of which both sides are known."""
    resolutions = []
    for change, verdict in zip(changes, verdicts, strict=True):
        if not isinstance(verdict, Conflicted) or verdict.lacks_record:
            continue
        if change.object in objects:
            form = RowForm(objects[change.object], models.get(change.object))
            resolution = _resolve(connection, form, change, verdict, policy)
            if resolution is not None:
                resolutions.append(resolution)
    return resolutions


def _resolve(
    connection: sqlite3.Connection, form: RowForm, change: Change, verdict: Conflicted, policy: Policy
) -> Resolution | None:
    tracked, key = form.tracked, change.key
    seen = lookup.version_of(connection, tracked.name, key)
    if seen is None:  # rolled back meanwhile: there is nothing left to keep
        return None
    base, local = readable(record_of_image(seen.image)), record_here(connection, tracked, key)
    if seen.is_as_sent and local_only.among(connection, tracked.name, [key]):
        local = sent_record(tracked, change)  # what stands here may have been written untracked since
    remote = problem = None
    try:
        if not verdict.deleted and verdict.data is not msgspec.UNSET:
            remote = _with_late_columns(tracked.wire.read(verdict.data), base, local)
    except msgspec.MsgspecError as error:
        problem = f"does_not_fit: the hub's record is of another shape: {error}"
    resolution = Resolution(tracked, key, seen.revision, verdict.version, base, local, remote, local)
    problem = problem or _problem_of(seen, local)
    if problem is not None:
        return evolve(resolution, problem=problem)
    if not resolution.is_conflict:
        return resolution
    return _asked(connection, form, policy, resolution, seen.error)


def _with_late_columns(remote: Record, base: Record | None, local: Record | None) -> Record:
    """Return the hub's record with columns that it says nothing of as they were, or came, here."""
    if base is None or local is None:
        return remote
    return {**{name: base.get(name, value) for name, value in local.items()}, **remote}


def sent_record(tracked: TrackedObject, change: Change) -> Record | None:
    """Return the record of a change as it went up; None is a delete."""
    return None if change.data is msgspec.UNSET else tracked.wire.read(change.data)


def _problem_of(seen: lookup.Version, local: Record | None) -> str | None:
    """Tell why a change cannot be resolved: an upload would be held back for the same reason."""
    if local is None:
        gone = "record_missing: the record went without being deleted while its change was sent"
        return None if seen.operation == "delete" else gone
    if readable(local) != local:
        return "bad_value: it holds a text that is no UTF-8; write it anew, or take the change back"
    return None


def _is_settled(base: Record | None, local: Record | None, remote: Record | None) -> bool:
    """Tell whether both sides came to the same, or the hub has changed nothing that the device knows."""
    if local == remote:
        return True
    if base is None or remote is None:  # without an image it is not known what the record was
        return False
    return all(column in base and base[column] == value for column, value in remote.items())


def _asked(
    connection: sqlite3.Connection, form: RowForm, policy: Policy, found: Resolution, before: str | None
) -> Resolution:
    """Ask the policy; ``before`` is the error that the record has kept from an earlier session."""
    try:
        kept = _kept(connection, form, found, policy(_conflict(form, found)))
    except Exception as error:  # the program's code may raise anything; this one record waits for it
        problem = f"policy_failed: {words_of(error)}"
        if problem != before:
            logger.warning(
                "the conflict policy failed for %s %s", found.tracked.name, found.key, exc_info=True
            )
        return evolve(found, problem=problem)
    return evolve(found, kept=kept)


def _conflict(form: RowForm, found: Resolution) -> Conflict:
    sides = (None if side is None else dict(side) for side in (found.base, found.local, found.remote))
    base, local, remote = sides
    return Conflict(
        object=found.tracked.name,
        key=found.key,
        base=base,
        local=local,
        remote=remote,
        instance=partial(form.instance, found.key),
    )


def _kept(
    connection: sqlite3.Connection, form: RowForm, found: Resolution, answer: object
) -> Record | Later | None:
    if answer is None or isinstance(answer, Later) or answer == found.remote:
        return answer
    return whole(form.record(connection, found.key, answer), found.local, found.remote)


def whole(kept: Record, local: Record | None, remote: Record | None) -> Record:
    """Return a record with the fields that it leaves open: the hub's, and the device's where it has none."""
    return {**(local or {}), **(remote or {}), **kept}
