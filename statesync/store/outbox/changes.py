"""What becomes of a change: it is offered, held back, sent, kept with an error, rebased, or forgotten.

Every function writes, in the caller's transaction. Whoever calls one has folded before.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from statesync.classes import frozen
from statesync.store import local_only
from statesync.store.local_only import LOCAL_KEYS
from statesync.store.outbox import settled, under_way
from statesync.store.outbox.lookup import NO_RECORD, PENDING_KEYS
from statesync.store.outbox.parking import FREE, IS_PARKED
from statesync.store.outbox.queue import Mark, Run
from statesync.store.outbox.settled import WAITING
from statesync.store.outbox.shared import IS_MERE_OFFER, OFFERED, SENT, TOLD
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, quoted

_REVISION = itemgetter(1)
"""Of a mark."""

_IS_NO_OFFER = "NOT (shared AND operation = 'insert' AND image IS NULL)"


class RemoteImage(NamedTuple):
    """The hub's record in one version; without an image it is a delete."""

    key: str
    image: str | None
    version: int


@frozen
class Rebase:
    """What a change becomes once the hub's record is known: an edit of ``image``, of version ``base``."""

    operation: str
    image: str | None
    base: int


# -- offering --------------------------------------------------------------------------------------


def offer_new(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Offer every record of an object that is tracked for the first time: no hub has any of them."""
    _offer(connection, tracked, f"{quoted(tracked.key)} IS NOT NULL", base=0, shared=0)


def offer_again(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    where: str,
    known: Mapping[str, object],
    *,
    base: int = 1,
    since: int = 0,
) -> None:
    """Offer those of an object's records that ``where`` picks, by ``known``.

    The hub has lost them, as far as this device knows, which had heard of all deletes up to ``base``. Where
    that is unknown, ``since`` says of which ones it had heard.
    """
    _offer(connection, tracked, where, known, base=base, since=since, shared=OFFERED)


def offer_all(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Offer every record of an object that is not local only, as new: for a hub that has none of them.

    It may be the same hub again, though. So a delete that waits goes up as well, and says nothing to another.
    """
    under_way.spread(connection)
    name = {"object": tracked.name}
    local_only.end_those(connection, f"key IN ({PENDING_KEYS} AND operation <> 'delete')", name)
    local_only.forget_versions(connection, tracked.name)
    connection.execute("DELETE FROM statesync_change WHERE object = :object AND operation <> 'delete'", name)
    connection.execute(
        f"UPDATE statesync_change SET base = 0, since = 0, shared = {SENT}, batch = NULL, sent = NULL, "
        f"theirs = NULL, contested = NULL, error = NULL, failed_in = NULL, {FREE} WHERE object = :object",
        name,
    )
    _offer(connection, tracked, f"{quoted(tracked.key)} NOT IN ({LOCAL_KEYS})", base=0, shared=SENT)


def _offer(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    where: str,
    known: Mapping[str, object] | None = None,
    *,
    base: int,
    since: int = 0,
    shared: int,
) -> None:
    key = quoted(tracked.key)
    connection.execute(
        f"INSERT INTO {settled.into(connection)} (object, key, operation, base, since, revision, shared) "
        f"SELECT :object, {key}, 'insert', :base, :since_then, 1, :shared FROM {in_main(tracked.table)} "
        f"WHERE {where} ORDER BY {key} ON CONFLICT DO NOTHING",
        {**(known or {}), "object": tracked.name, "base": base, "since_then": since, "shared": shared},
    )


def offer_edit(
    connection: sqlite3.Connection, name: str, key: str, edit: Rebase, *, since: int = 0, shared: int = SENT
) -> None:
    """Offer a record that has no change yet, and that some hub may have.

    ``since`` is since when a delete of it would be news, where that is not what the edit is based on.
    """
    connection.execute(
        f"INSERT INTO {settled.into(connection)} "
        "(object, key, operation, image, base, since, revision, shared) VALUES (?, ?, ?, ?, ?, ?, 1, ?)",
        (name, key, edit.operation, edit.image, edit.base, since, shared),
    )


def spare(
    connection: sqlite3.Connection, name: str, columns: Iterable[str], keys: Iterable[str] | None = None
) -> None:
    """Let changes leave ``columns`` as the hub has them: these came after the records were changed.

    Those of ``keys``, or all of an object's. A record that is new to the hub goes up whole.
    """
    rows = connection.execute(
        f"SELECT position, spared FROM {WAITING} WHERE object = :name AND image IS NOT NULL "
        "AND (:keys IS NULL OR key IN (SELECT value FROM json_each(:keys)))",
        {"name": name, "keys": None if keys is None else json.dumps(list(keys))},
    ).fetchall()
    added = set(columns)
    connection.executemany(
        "UPDATE statesync_change SET spared = ? WHERE position = ?",
        [(json.dumps(sorted(added.union(json.loads(text or "[]")))), position) for position, text in rows],
    )


def no_longer_spare(connection: sqlite3.Connection, name: str, key: str, columns: Collection[str]) -> None:
    """Let a change bring ``columns`` to the hub, also those that it has left as they are there."""
    row = connection.execute(
        f"SELECT spared FROM {WAITING} WHERE object = ? AND key = ? AND spared IS NOT NULL", (name, key)
    ).fetchone()
    if row is not None:
        left = sorted(set(json.loads(row[0])).difference(columns))
        connection.execute(
            "UPDATE statesync_change SET spared = ? WHERE object = ? AND key = ?",
            (json.dumps(left) if left else None, name, key),
        )


# -- waiting ---------------------------------------------------------------------------------------


def set_deferred(connection: sqlite3.Connection, name: str, keys: Sequence[str], *, deferred: bool) -> int:
    """Hold changes back from uploads, or let them go; return how many there were."""
    return connection.execute(
        "UPDATE statesync_change SET deferred = ? "
        "WHERE object = ? AND key IN (SELECT value FROM json_each(?))",
        (int(deferred), name, json.dumps(list(keys))),
    ).rowcount


def keep_remote_images(connection: sqlite3.Connection, name: str, remote: Iterable[RemoteImage]) -> None:
    """Keep the hub's records beside the changes of an object; what is contested stays so, by the new one."""
    connection.executemany(
        "UPDATE statesync_change SET theirs = ?, contested = CASE WHEN contested IS NOT NULL THEN ? END "
        "WHERE object = ? AND key = ?",
        [(each.image or NO_RECORD, each.version, name, each.key) for each in remote],
    )


def contest(connection: sqlite3.Connection, name: str, remote: RemoteImage) -> None:
    """Let a change wait for a decision, beside the hub's record; it is not offered until it is rebased."""
    under_way.spread(connection)
    connection.execute(
        "UPDATE statesync_change SET theirs = ?, contested = ?, batch = NULL, sent = NULL, error = NULL, "
        f"failed_in = NULL, {FREE} WHERE object = ? AND key = ?",
        (remote.image or NO_RECORD, max(remote.version, 1), name, remote.key),
    )


def lose_remote_images(connection: sqlite3.Connection, unseen: str, known: Mapping[str, object]) -> None:
    """Say that the hub has no longer what contested changes of ``:object`` stand against.

    ``unseen`` picks their keys, by ``known``.
    """
    connection.execute(
        f"UPDATE statesync_change SET theirs = '{NO_RECORD}' "
        f"WHERE object = :object AND contested IS NOT NULL AND {unseen}",
        known,
    )


def leave_epoch(connection: sqlite3.Connection, name: str) -> None:
    """Say that the versions on which an object's changes are based are those of an epoch that is over.

    They still say since when a delete of the record would be news: where the hub has nothing of it, that
    tells what was deleted from what it has lost.
    """
    connection.execute(
        f"UPDATE statesync_change SET since = base WHERE object = ? AND base > 1 AND {_IS_NO_OFFER}", (name,)
    )
    forget_versions(connection, name)


def forget_versions(connection: sqlite3.Connection, name: str) -> None:
    """Say that the versions on which an object's changes are based mean nothing any more.

    What was offered again keeps its base, which speaks of deletes alone.
    """
    connection.execute(
        "UPDATE statesync_change SET base = min(base, 1), contested = min(contested, 1) "
        f"WHERE object = ? AND {_IS_NO_OFFER}",
        (name,),
    )


def forget_versions_above(connection: sqlite3.Connection, name: str, version: int) -> None:
    """Say that nobody knows on which version a change is based where it is said to be above ``version``.

    That some hub may have had its record stays known.
    """
    connection.execute(
        "UPDATE statesync_change SET base = CASE WHEN base > :version THEN 1 ELSE base END, "
        "since = CASE WHEN since > :version THEN 1 ELSE since END WHERE object = :name",
        {"name": name, "version": version},
    )


# -- under way -------------------------------------------------------------------------------------


def mark_sent(connection: sqlite3.Connection, wire_id: str, sources: Run | Sequence[Mark]) -> None:
    """Note which revision of each change, in their order, goes up with the batch ``wire_id``."""
    if isinstance(sources, Run):
        under_way.begin(connection, wire_id, sources.first, sources.last, sources.revision)
        return
    positions: dict[int, list[int]] = {revision: [] for revision in set(map(_REVISION, sources))}
    for position, revision, _ in sources:
        positions[revision].append(position)
    connection.executemany(  # most records were changed once: this is one statement a batch, not a record
        "UPDATE statesync_change SET batch = ?, sent = ? WHERE position IN (SELECT value FROM json_each(?))",
        [(wire_id, revision, json.dumps(some)) for revision, some in positions.items()],
    )


def mark_failed(connection: sqlite3.Connection, name: str, key: str, error: str, session: str) -> None:
    """Keep a change in the outbox with its error; the next session tries it again."""
    under_way.spread(connection)
    connection.execute(
        f"UPDATE statesync_change SET error = ?, failed_in = ?, batch = NULL, sent = NULL, {FREE} "
        "WHERE object = ? AND key = ?",
        (error, session, name, key),
    )


def hold_back(connection: sqlite3.Connection, position: int, error: str, session: str) -> None:
    """Keep the change at ``position`` with its error; the next session tries it again."""
    connection.execute(
        f"UPDATE statesync_change SET error = ?, failed_in = ?, {FREE} WHERE position = ?",
        (error, session, position),
    )


def release_batch(connection: sqlite3.Connection, wire_id: str) -> None:
    """Set the changes of a batch free: they are ordinary pending changes again."""
    under_way.spread(connection)
    connection.execute("UPDATE statesync_change SET batch = NULL, sent = NULL WHERE batch = ?", (wire_id,))


def release(connection: sqlite3.Connection, records: Iterable[tuple[str, str]]) -> None:
    """Set changes that met a conflict, given as (object, key), free: the hub has had these records."""
    under_way.spread(connection)
    connection.executemany(
        f"UPDATE statesync_change SET batch = NULL, sent = NULL, shared = max(shared, {TOLD}) "
        "WHERE object = ? AND key = ?",
        records,
    )


def free_errors(connection: sqlite3.Connection, records: Iterable[tuple[str, str]]) -> None:
    """Forget what has kept changes here, given as (object, key): another round of the session offers them.

    How often the hub has refused them stays.
    """
    connection.executemany(
        "UPDATE statesync_change SET error = NULL, failed_in = NULL, parked = NULL "
        "WHERE object = ? AND key = ?",
        records,
    )


def rebase(connection: sqlite3.Connection, name: str, key: str, edit: Rebase, *, revised: bool) -> None:
    """Make a change an edit of what the hub has now, free and without an error.

    ``revised`` says that its record was changed with it, so that the change is another revision.
    """
    under_way.spread(connection)
    connection.execute(
        "UPDATE statesync_change SET image = ?, base = ?, operation = ?, revision = revision + ?, "
        "since = CASE WHEN ? > 1 THEN 0 ELSE since END, "
        "batch = NULL, sent = NULL, theirs = NULL, contested = NULL, error = NULL, failed_in = NULL, "
        f"{FREE} WHERE object = ? AND key = ?",
        (edit.image, edit.base, edit.operation, revised, edit.base, name, key),
    )


def move_to_end(connection: sqlite3.Connection, name: str, key: str) -> None:
    """Let a change wait behind all others, as if its record had been changed just now."""
    under_way.spread(connection)
    connection.execute(
        f"UPDATE {settled.into(connection)} SET position = 1 + (SELECT seq FROM sqlite_sequence "
        "WHERE name = 'statesync_change') WHERE object = ? AND key = ?",
        (name, key),
    )
    connection.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'statesync_change'")


# -- forgetting ------------------------------------------------------------------------------------


def forget_record(connection: sqlite3.Connection, name: str, key: str) -> None:
    """Forget the change of a record."""
    connection.execute("DELETE FROM statesync_change WHERE object = ? AND key = ?", (name, key))


def forget(connection: sqlite3.Connection, position: int) -> None:
    """Forget the change at ``position``."""
    connection.execute("DELETE FROM statesync_change WHERE position = ?", (position,))


def forget_object(connection: sqlite3.Connection, name: str) -> None:
    """Forget all changes of an object."""
    connection.execute("DELETE FROM statesync_change WHERE object = ?", (name,))


def withdraw_offers(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> set[str]:
    """Forget parked offers of these records of an object, which nobody has edited; return whose they were."""
    rows = connection.execute(
        f"SELECT position, key FROM {WAITING} WHERE object = ? AND {IS_MERE_OFFER} AND {IS_PARKED} "
        "AND key IN (SELECT value FROM json_each(?))",
        (name, json.dumps(list(keys))),
    ).fetchall()
    for position, _ in rows:
        forget(connection, position)
    return {key for _, key in rows}


def drop_gone(connection: sqlite3.Connection, name: str, keys: str, known: Mapping[str, object]) -> None:
    """Forget the inserts and updates of those records of an object that ``keys`` picks: they are gone."""
    connection.execute(
        f"DELETE FROM statesync_change WHERE object = :object AND operation <> 'delete' AND key IN ({keys})",
        {**known, "object": name},
    )
