"""What a program is told of the records of a store, or of one scope: what came in, and what became of one."""

from __future__ import annotations

from uuid import UUID

from peewee import Model

from statesync.checks import check_callback
from statesync.store.news import verdict
from statesync.store.news.changes import Changes
from statesync.store.news.desk import Desk
from statesync.store.news.observation import Observation, OnNews
from statesync.store.news.verdict import RecordVerdict
from statesync.store.parts import StoreParts
from statesync.store.selection import Selection


class ObservedSelection(Selection):
    """Some or all objects of a store, their records, and the news of them."""

    def __init__(self, parts: StoreParts, names: tuple[str, ...] | None, desk: Desk) -> None:
        super().__init__(parts, names)
        self._desk = desk

    def observe(self, what: type[Model] | str | None, callback: OnNews) -> Observation:
        """Call ``callback`` with the ``News`` of an object (a model, or its name), or (None) of all.

        It is told of each commit that has stored or deleted records, once it is there, with their keys: of a
        session's batch, ``rollback``, ``resolve``, ``clear``, ``repair`` and so on, and of what this program
        and others write. Where another process syncs, takes back or clears, or where a hundred thousand
        records have changed at once, nobody knows the keys: ``everything`` is set then. Nothing is told of
        what other processes write in ``untracked()``.

        It is called in a thread of its own, never in a transaction; ``Observation`` says what becomes of one
        that raises or blocks. The file stays open as long as anybody observes it, and a process that is
        forked meanwhile cannot use it. Raises ``UnknownObject``.
        """
        check_callback("callback", callback)
        return self._desk.observe(self._meant(what), callback)

    def changes(self, *models: type[Model] | str) -> Changes:
        """Return an async iterator over the ``News`` of these objects, or of all, from now on.

        The same as ``observe`` in a coroutine. Raises ``RuntimeError`` where no event loop runs.
        """
        names = frozenset(map(self._known_name, models)) if models else self._meant(None)
        return Changes(self._desk, names)

    def _meant(self, what: type[Model] | str | None) -> frozenset[str] | None:
        if what is not None:
            return frozenset({self._known_name(what)})
        return None if self._names is None else frozenset(self._names)

    def wait_for(
        self, what: Model | type[Model] | str, key: str | UUID | None = None, timeout: float | None = None
    ) -> RecordVerdict:
        """Wait until the change of one record waits no longer, and return what has become of it.

        ``what`` is the record, or its model or object's name with its ``key``. Begins no session. What is
        changed while it waits is waited for, too; a record that was not changed here is accepted. Raises
        ``TimeoutError`` after ``timeout`` seconds, ``UnknownObject``, also for an object that is dropped
        meanwhile, and ``BadOptions`` for a ``timeout`` that is no number. ``UsageError`` is for a key that is
        none, and where it would keep from going on what it waits for: in a transaction, and in a session's
        callback.
        """
        name, found = self._record(what, key)
        return verdict.wait_for(self._parts, name, found, timeout)
