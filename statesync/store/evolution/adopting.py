"""Taking over how tables look now: what it means for what waits, and for what has to be read again."""

from __future__ import annotations

import sqlite3
from logging import Logger, getLogger

from attrs import evolve

from statesync.classes import frozen
from statesync.errors import UnsupportedModel
from statesync.store import local_only, quarantine
from statesync.store.cursors import applied, rereads
from statesync.store.cursors.cursor import EPOCH, MISSED_DELETES
from statesync.store.evolution.places import fold_where_it_is, is_in_place, with_key_of_table
from statesync.store.schema.statements import has_table
from statesync.store.tracking import registry, triggers
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main, quoted
from statesync.store.tracking.tables.fitting import fit, table_of

logger: Logger = getLogger(__name__)


@frozen
class Takeover:
    """An object as it was ``known`` and as it is to be ``tracked``.

    ``is_lost`` says that its table is not the one that was tracked, ``is_new`` that it was made just now.
    """

    known: TrackedObject
    tracked: TrackedObject
    is_lost: bool
    is_new: bool


def lost_among(connection: sqlite3.Connection, known: Objects) -> frozenset[str]:
    """Return the names of objects whose writes may not have been seen.

    Their tables are not where they were, or their triggers are gone.
    """
    return frozenset(
        name
        for name, tracked in known.items()
        if not is_in_place(connection, tracked) or triggers.are_lost(connection, tracked)
    )


def adopt(connection: sqlite3.Connection, takeover: Takeover) -> None:
    """Write down how an object looks now, and begin to read again what may be other than it is here.

    Folds first, if anything is other. A change that waits keeps new columns as the hub has them, and one that
    the hub has refused is offered again: it may be another record to it now.
    """
    known, tracked = takeover.known, takeover.tracked
    if known != tracked or takeover.is_lost:
        fold_where_it_is(connection, known)
    added = set(tracked.column_names) - set(known.column_names)
    if known != tracked:
        registry.save(connection, tracked)
        quarantine.try_first(connection, tracked.name)
        from statesync.store.outbox import parking  # an object is seldom described anew

        parking.let_go(connection, tracked.name)
    if takeover.is_lost:
        triggers.set_aside(connection, known)  # they may stand on the table that was renamed
    triggers.install(connection, tracked)
    unread = rereads.add_unread(connection, tracked.name, added) if added else frozenset()
    if unread:
        from statesync.store.outbox import changes

        changes.spare(connection, tracked.name, added)
    if takeover.is_lost:
        # What was written unseen is found by holding all against the hub. Bases still mean what they meant.
        rereads.start_over(connection, tracked.name, MISSED_DELETES if takeover.is_new else EPOCH)
    elif added:
        from statesync.store.rereading import reread  # rare, and it takes the journal along

        reread(connection, {tracked.name: tracked}, MISSED_DELETES)


def begin(connection: sqlite3.Connection, tracked: TrackedObject, *, keep_local: bool) -> None:
    """Track an object that was not tracked before, and answer for its records: no hub has seen them.

    One that belongs to a space was tracked: a damaged page took its description. Its records are known.
    """
    registry.save(connection, tracked)
    if tracked.name in applied.spaces(connection):
        if triggers.has_log(connection, tracked):
            from statesync.store.outbox.fold import fold

            fold(connection, {tracked.name: tracked})
    elif keep_local:
        local_only.keep_all(connection, tracked)
    else:
        from statesync.store.outbox import changes

        changes.offer_new(connection, tracked)
    triggers.install(connection, tracked)


def note_records(connection: sqlite3.Connection, known: Objects) -> None:
    """Remember which records there are before the program's migrations."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS before_migration (object, key, UNIQUE (object, key))")
    connection.execute("DELETE FROM temp.before_migration")
    for name, tracked in known.items():
        if has_table(connection, tracked.table):
            connection.execute(
                f"INSERT OR IGNORE INTO temp.before_migration SELECT ?, {quoted(tracked.key)} "
                f"FROM {in_main(tracked.table)}",
                (name,),
            )


def keep_made_records(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Let the records that a migration has made be local only: nothing of one is uploaded."""
    key = quoted(tracked.key)
    local_only.keep_those(
        connection,
        f"SELECT :object, {key}, 0, NULL FROM {in_main(tracked.table)} WHERE {key} IS NOT NULL "
        f"AND {key} NOT IN (SELECT key FROM temp.before_migration WHERE object = :object AND key IS NOT "
        f"NULL)",
        {"object": tracked.name},
    )


def follow(connection: sqlite3.Connection, known: Objects, lost: frozenset[str]) -> None:
    """Take over how the tables of objects look now, without their models.

    An object without a table is left out of every session until it has one; what waits of it is kept.
    """
    for name, before in known.items():
        now = _found(connection, with_key_of_table(connection, before))
        if now is None:
            fold_where_it_is(connection, before)
            tell_gone(connection, before)
        elif name not in lost or not is_in_place(connection, before):  # else the doctor has to tell of it
            is_lost = name in lost or before.is_gone
            if is_lost:
                tell_lost(connection, before)
            adopt(connection, Takeover(before, now, is_lost, is_new=False))


def _found(connection: sqlite3.Connection, known: TrackedObject) -> TrackedObject | None:
    try:
        table = table_of(connection, known)
    except UnsupportedModel as error:
        logger.warning("%s", error)
        return None
    if table is None or table.column(known.key) is None:
        return None
    return evolve(fit(table, known, known), is_gone=False)


def tell_gone(connection: sqlite3.Connection, known: TrackedObject) -> None:
    """Say that an object has no table, and remember it."""
    logger.warning(
        "%s has no table %s any more%s; it is not synced until the table is there again, and what waits "
        "is kept",
        known.name,
        known.table,
        _whither(connection, known),
    )
    if not known.is_gone:
        registry.save(connection, evolve(known, is_gone=True))


def tell_lost(connection: sqlite3.Connection, known: TrackedObject) -> None:
    """Say that an object's table is another one than was tracked, or that its triggers were dropped."""
    logger.warning(
        "the table %s of %s, or its triggers, were dropped, renamed or made anew outside of the "
        "store%s; what waits "
        "is kept, and the records are compared with the hub's by the next sync",
        known.table,
        known.name,
        _whither(connection, known),
    )


def _whither(connection: sqlite3.Connection, known: TrackedObject) -> str:
    home = triggers.home_of(connection, known.name)
    return "" if home is None or home.lower() == known.table.lower() else f" (its records are in {home} now)"
