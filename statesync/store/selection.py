"""What a program does with the records of a store, or of one scope, besides syncing them.

What the rooms of the outbox, of conflicts and of the history do is imported by the methods that ask for it: a
program that opens a store to write and read its records needs none of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from peewee import Model

from statesync.checks import check_count, check_kind, check_yes_or_no
from statesync.errors import UnknownObject, UsageError
from statesync.store import opening, quarantine
from statesync.store.parts import StoreParts
from statesync.store.tracking import triggers
from statesync.store.tracking.objects import Objects, chosen
from statesync.values import ConflictEntry, PendingChange, Quarantined, SessionInfo


class Selection:
    """Some or all objects of a store, and what can be done with their records.

    Every method raises ``StoreNotReady`` before ``setup()`` and ``StoreError`` where the database cannot be
    read or written; what a method writes is one transaction.
    """

    def __init__(self, parts: StoreParts, names: tuple[str, ...] | None) -> None:
        self._parts = parts
        self._names = names

    @property
    def objects(self) -> tuple[str, ...]:
        """The names of the objects."""
        return self._names if self._names is not None else tuple(self._parts.objects)

    # -- the outbox ----------------------------------------------------------------------------------

    def pending(self) -> list[PendingChange]:
        """Return the changes that wait for the hub, in the order in which the records were first changed.

        Deferred ones are among them, and those that the hub has refused. Only reads, and waits for no writer.
        """
        from statesync.store.outbox import preview

        names = self.objects
        with self._parts.database.snapshot() as connection:
            return preview.pending(connection, self._in_order(connection, names))

    def has_pending(self) -> bool:
        """Tell whether ``pending()`` has any change, deferred or not; made for asking often.

        Only reads, and waits for no writer.
        """
        from statesync.store.outbox import preview

        names = self.objects
        with self._parts.database.snapshot() as connection:
            return preview.has_pending(connection, self._in_order(connection, names))

    def defer(self, *records: Model) -> int:
        """Hold the changes of these records back until ``mark_for_upload``; return how many there were."""
        return self._set_deferred(records, deferred=True)

    def mark_for_upload(self, *records: Model) -> int:
        """Let deferred changes of these records go up with the next session; return how many there were."""
        return self._set_deferred(records, deferred=False)

    def _set_deferred(self, records: tuple[Model, ...], *, deferred: bool) -> int:
        from statesync.store.outbox import changes

        keys: dict[str, list[str]] = {}
        for record in records:
            name, key = self._address(record)
            keys.setdefault(name, []).append(key)
        with self._folded() as connection:
            return sum(
                changes.set_deferred(connection, name, some, deferred=deferred) for name, some in keys.items()
            )

    def retry(self, what: Model | type[Model] | str | None = None, key: str | UUID | None = None) -> int:
        """Let changes that the hub has refused go up again with the next session; return how many these are.

        Those of one record (an instance, or a model or an object's name with a ``key``), of one object (a
        model, or its name), or (None) all. Raises ``UnknownObject`` for an object that is not here, and
        ``UsageError`` for a key without an object.
        """
        from statesync.store.outbox import parking

        names, keys = self._picked(what, key)
        with self._folded() as connection:
            return sum(parking.let_go(connection, name, keys) for name in names)

    def _picked(
        self, what: Model | type[Model] | str | None, key: str | UUID | None
    ) -> tuple[tuple[str, ...], list[str] | None]:
        """Return which objects are meant, and which of their keys; None are all."""
        if isinstance(what, Model):
            if key is not None:
                raise UsageError("a record has its own key; give its model or its object's name with a key")
            name, found = self._address(what)
            return (name,), [found]
        if what is None:
            if key is not None:
                raise UsageError(f"the key {key!r} alone says no record; give the object with it")
            return tuple(self._tracked()), None
        name = self._known_name(what)
        return (name,), None if key is None else [self._parts.registry.stored_key(name, key)]

    @contextmanager
    def untracked(self) -> Iterator[None]:
        """Make the block's writes local only: one transaction that makes no changes for the hub.

        A record that is local only is neither sent nor offered, and no download touches it until the hub has
        a newer version of it. A tracked write makes an ordinary change of it. A record whose change waits
        already goes up with that change as it is then; if the block deletes it, its insert or update is
        forgotten, and the hub keeps what it has.
        """

        from statesync.store.outbox.fold import fold

        with self._folded() as connection, triggers.local_only(self._parts.database):
            yield
            fold(connection, self._parts.registry.refresh(connection))

    def rollback(self, what: Model | type[Model] | None = None) -> int:
        """Undo pending changes: of one record, of one model's records, or (None) of all.

        Each record gets back what it was before its first change, or what the hub has sent since; where that
        does not fit its table, it waits in quarantine. Returns how many records were set back. Raises
        ``UsageError``, and sets none back, where one of them may have reached the hub already (sync first),
        also one that is offered again to a hub that has lost it or to another one; where what one was before
        does not fit its table any more, or a rule of that holds it fast; and inside a transaction.
        """
        from statesync.store import starting_over

        with self._quietly() as connection:
            if isinstance(what, Model):
                return starting_over.roll_back(connection, self._parts.objects, [self._address(what)])
            names = self.objects if what is None else (self._name(what),)
            return starting_over.roll_back_all(connection, self._parts.objects, names)

    # -- starting over -------------------------------------------------------------------------------

    def clear(self, *, discard_pending: bool = False) -> None:
        """Delete these objects' records from the device; the next sync fetches all. The hub's records stay.

        Raises ``UsageError``, and deletes nothing, while changes wait, which only the device has; with
        ``discard_pending`` they are deleted too. So it does where a rule of a table, such as a trigger, holds
        a record fast. Raises ``SyncInProgress`` while a session runs, and ``BadOptions`` for a
        ``discard_pending`` that is neither True nor False.
        """
        from statesync.store import starting_over

        check_yes_or_no("discard_pending", discard_pending)
        with self._alone() as connection:
            if not discard_pending:
                starting_over.refuse_to_lose(connection, self.objects, "clear")
            starting_over.clear(connection, self._tracked())

    def reset(self, *, keep_records: bool = False, discard_pending: bool = False) -> None:
        """Forget the hub: the next sync may be with another one, as if it were the first.

        With ``keep_records`` all records stay, and all but those that are local only are offered to the next
        hub. Otherwise they are deleted
        from the device: then it raises ``UsageError``, and deletes nothing, while changes wait, which only
        the device has; with ``discard_pending`` they are deleted too; and where a rule of a table holds a
        record fast. Raises ``SyncInProgress`` while a session runs, and ``BadOptions`` for what is neither
        True nor False.
        """
        from statesync.store import starting_over

        check_yes_or_no("keep_records", keep_records)
        check_yes_or_no("discard_pending", discard_pending)
        with self._alone() as connection:
            if not (keep_records or discard_pending):
                starting_over.refuse_to_lose(connection, self.objects, "reset")
            starting_over.reset(connection, self._tracked(), keep_records=keep_records)

    def drop(self) -> None:
        """Delete these objects from the device for good: tables, triggers, pending changes.

        Raises ``UsageError``, and deletes nothing, where a rule of a table holds a record fast, and
        ``SyncInProgress`` while a session runs.
        """
        from statesync.store import starting_over

        with self._alone() as connection:
            starting_over.drop(connection, self._tracked())
        self._parts.registry.forget(self.objects)

    # -- quarantine ----------------------------------------------------------------------------------

    def quarantine(self) -> list[Quarantined]:
        """Return the records that came down and do not fit their tables, oldest first.

        They are not in their tables. Each is tried again with every download, and when the hub has a newer
        version of it; a table that is migrated, or a value that is given up here, is enough for it to fit.
        """
        names = self.objects
        with self._parts.database.snapshot() as connection:
            return quarantine.entries(connection, names)

    # -- history -------------------------------------------------------------------------------------

    def sessions(self, limit: int = 1000) -> list[SessionInfo]:
        """Return the newest ``limit`` sessions that synced any of these objects, oldest first.

        Raises ``BadOptions`` for a ``limit`` that is no count.
        """
        from statesync.store.journal import history

        check_count("limit", limit, 0)
        wanted = set(self.objects)
        with self._parts.database.errors_mapped():
            found = history.sessions(self._parts.database.raw(), limit)
        return [session for session in found if wanted & set(session.objects)]

    # -- conflicts -----------------------------------------------------------------------------------

    def conflicts(self, limit: int = 1000, *, waiting: bool = False) -> list[ConflictEntry]:
        """Return the newest ``limit`` conflicts of these objects that were resolved, oldest first.

        With ``waiting``, those that a policy left for later, with their sides as they are now. Raises
        ``BadOptions`` for a ``limit`` that is no count.
        """
        from statesync.store import conflict_log
        from statesync.store.resolving import decisions

        check_count("limit", limit, 0)
        objects = self._tracked()
        with self._parts.database.snapshot() as connection:
            if waiting:
                return decisions.waiting(connection, objects, limit)
            return conflict_log.entries(connection, objects=objects, waiting=False, limit=limit)

    def resolve(self, conflict: ConflictEntry | int, choice: object) -> None:
        """Settle a conflict that waits, or bring back what a logged one has lost.

        ``conflict`` is an entry of ``conflicts()``, or its id. ``choice`` is ``"local"``, ``"remote"``, or
        values: an instance of the model, or a mapping from fields to values. What goes up from that, goes up
        with the next session.

        Of one that waits the record becomes that side; fields that values leave out are the hub's. Of a
        logged one that side is written as an ordinary edit of the record as it is now; fields that were not
        at stake stay as they are. Raises ``UsageError``, and changes nothing, for a conflict that was
        resolved meanwhile, a record that was deleted after a logged one, and values that do not fit.
        """
        from statesync.store.resolving import decisions
        from statesync.store.resolving.rows import RowForm

        check_kind("conflict", conflict, (ConflictEntry, int), "an entry of conflicts(), or its id")
        with self._parts.database.snapshot() as connection:
            found = decisions.find(connection, self.objects, conflict)
        with self._quietly() if found.waiting else self._folded() as connection:
            entry = decisions.find(connection, self.objects, found)
            form = RowForm(self._parts.objects[entry.object], self._parts.registry.models.get(entry.object))
            if entry.waiting:
                decisions.decide(connection, form, entry, choice)
            else:
                decisions.bring_back(connection, form, entry, choice)

    # -- names ---------------------------------------------------------------------------------------

    def _tracked(self) -> Objects:
        return chosen(self._parts.registry.known, self.objects)

    def _in_order(self, connection: sqlite3.Connection, names: tuple[str, ...]) -> Objects:
        """Return the objects as they are described now, in the order in which a fold takes them."""
        self._parts.registry.refresh(connection)
        known = self._parts.registry.known  # what waits of an object without a table waits all the same
        return known if self._names is None else {n: one for n, one in known.items() if n in names}

    def _name(self, model: type[Model]) -> str:
        name = self._parts.registry.name_of(model)
        if name not in self.objects:
            raise UnknownObject(f"{name} is not in this scope, which has: {', '.join(self.objects)}")
        return name

    def _record(self, what: Model | type[Model] | str, key: str | UUID | None) -> tuple[str, str]:
        """Return the object and the key of the one record that is meant."""
        names, keys = self._picked(what, key)
        if keys is None:
            raise UsageError(f"{names[0]} alone says no record; give the key with it")
        return names[0], keys[0]

    def _known_name(self, what: type[Model] | str) -> str:
        if not isinstance(what, str):
            return self._name(what)
        known = self._parts.registry.known if self._names is None else self._names
        if what not in known:
            raise UnknownObject(f"{what} is no object here; these are: {', '.join(known)}")
        return what

    def _address(self, record: Model) -> tuple[str, str]:
        name = self._name(type(record))
        return name, self._parts.registry.key_of(name, record)

    @contextmanager
    def _quietly(self) -> Iterator[sqlite3.Connection]:
        """Write untracked and without foreign keys, so that nothing cascades into other records."""
        database = self._parts.database
        with database.without_foreign_keys(), self._folded(), triggers.untracked(database) as connection:
            yield connection

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """Write quietly what no session may run beside."""
        with self._parts.lock.held(), self._quietly() as connection:
            yield connection

    @contextmanager
    def _folded(self) -> Iterator[sqlite3.Connection]:

        from statesync.store.outbox.fold import fold

        with self._parts.database.transaction() as connection:
            opening.follow_tables(self._parts)
            fold(connection, self._parts.registry.refresh(connection))
            yield connection
