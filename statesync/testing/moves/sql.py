"""SQL that is nobody's model in a ``SyncWorld``: raw writes, unique indexes, a program's triggers, lost rows.

Each table gets a column ``slot`` that no model knows, with a unique index of some kind, so that a write may
make room for itself by replacing other records. A program's triggers delete and change records besides. What
a trigger removes while statesync stores a page, and what is removed past the triggers, was deleted by nobody:
no delete of it may go up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

import peewee
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.errors import AllRejected, UsageError
from statesync.store.cursors.cursor import MISSED_DELETES
from statesync.store.tracking.quoting import quoted
from statesync.testing.rows import Row
from statesync.testing.sites import WorldDevice, key_of, read_again
from statesync.testing.world import SyncWorld, Write

_sites = st.integers(0, 7)
_slots = st.sampled_from(["a", "A", "b", "B ", "c"])
_or = st.sampled_from(["", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ROLLBACK"])
_INDEXES = (
    "(slot)",
    "(slot COLLATE NOCASE)",
    "(lower(slot))",
    "(slot) WHERE slot <> 'c'",
    "(substr(slot, 1, 1) COLLATE NOCASE, trim(slot)) WHERE slot > 'A'",
)
_ON = "(SELECT is_on FROM statesync_tracking)"
_SETTINGS = ("recursive_triggers = ON", "foreign_keys = ON", "foreign_keys = OFF")
_Statement = tuple[str, Sequence[Any]]
_EVENTS = st.sampled_from(["INSERT", "UPDATE", "DELETE"])


class RawSql(SyncWorld):
    """A world in which programs also write SQL of their own, and have triggers and indexes of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._texts = 0
        for number, device in enumerate(self.devices):
            self._add_slots(device, _INDEXES[number % len(_INDEXES)])

    def _add_slots(self, device: WorldDevice, index: str) -> None:
        device.store.database.execute_sql("CREATE TABLE removed (object TEXT, key TEXT)")  # type: ignore[no-untyped-call]
        for model in self.models:
            table = quoted(model._meta.table_name)
            device.store.database.execute_sql(f"ALTER TABLE {table} ADD COLUMN slot TEXT")  # type: ignore[no-untyped-call]
            self._index(device, model, index)

    # -- what programs do ----------------------------------------------------------------------------

    @rule(site=_sites, index=st.sampled_from(_INDEXES), data=st.data())
    def index_otherwise(self, site: int, index: str, data: st.DataObject) -> None:
        """A program makes another unique index, and sets up its store."""
        self._index(self._device(site), self._model(data), index)

    def _index(self, device: WorldDevice, model: type[peewee.Model], index: str) -> None:
        table = model._meta.table_name
        ask: Any = device.store.database.execute_sql
        ask(f"DROP INDEX IF EXISTS {quoted(f'{table}_slot')}")
        with suppress(peewee.IntegrityError):  # what is there may not fit
            ask(f"CREATE UNIQUE INDEX {quoted(f'{table}_slot')} ON {quoted(table)} {index}")
        device.store.setup()

    @rule(site=_sites, how=_or, slot=_slots, data=st.data())
    def insert_by_sql(self, site: int, how: str, slot: str, data: st.DataObject) -> None:
        """A program inserts a record into a slot that another one may have."""
        device, model = self._device(site), self._model(data)
        self._stock(device, model, data)
        if not (rows := self.rows(model, device)).is_empty:
            row = data.draw(rows)
            if data.draw(st.booleans()) and (keys := self.keys(model, device)):
                row[key_of(model).name] = data.draw(st.sampled_from(keys))
            self._write_by_sql(device, [_insert(model, row, how, slot)], data)

    @rule(site=_sites, how=_or, slots=st.lists(_slots, min_size=1, max_size=3), data=st.data())
    def update_by_sql(self, site: int, how: str, slots: list[str], data: st.DataObject) -> None:
        """A program moves records to other slots, or gives one another key; or it changes its mind."""
        device, model = self._device(site), self._model(data)
        self._stock(device, model, data)
        if keys := self.keys(model, device):
            made = [self._updating(model, keys, how, slot, data) for slot in slots]
            self._write_by_sql(device, made, data)

    def _stock(self, device: WorldDevice, model: type[peewee.Model], data: st.DataObject) -> None:
        """Have records in some slots, which the hub knows or does not know."""
        rows = self.rows(model, device)
        if len(self.keys(model, device)) < 3 and not rows.is_empty:
            for slot in ("a", "b", "c"):
                self._write_by_sql(device, [_insert(model, data.draw(rows), "OR IGNORE", slot)], data)
        if data.draw(st.booleans()):
            self.let_sync(device, [], None)

    def _updating(
        self, model: type[peewee.Model], keys: list[Any], how: str, slot: str, data: st.DataObject
    ) -> _Statement:
        table, key = quoted(model._meta.table_name), quoted(key_of(model).column_name)
        chosen = data.draw(st.none() | st.sampled_from(keys)) if keys else None
        which, given = ("TRUE", ()) if chosen is None else (f"{key} = ?", (chosen,))
        if chosen is not None and data.draw(st.booleans()):
            other = data.draw(st.sampled_from([*keys, f"renamed {chosen}"[:255]]))
            return f"UPDATE {how} {table} SET {key} = ? WHERE {which}", (other, *given)
        self._texts += 1
        text = next(one for one in model._meta.sorted_fields if isinstance(one, peewee.TextField))
        return (
            f"UPDATE {how} {table} SET slot = ?, {quoted(text.column_name)} = ? WHERE {which}",
            (slot, f"by SQL, number {self._texts}", *given),
        )

    def _write_by_sql(
        self, device: WorldDevice, statements: Sequence[_Statement], data: st.DataObject
    ) -> None:
        setting = data.draw(st.sampled_from(_SETTINGS))
        is_kept = data.draw(st.integers(0, 4)) > 0
        self.write(device, lambda: _run(device, setting, statements, is_kept=is_kept))

    @rule(site=_sites, event=_EVENTS, deletes=st.booleans(), is_own=st.booleans(), data=st.data())
    def make_trigger(self, site: int, event: str, deletes: bool, is_own: bool, data: st.DataObject) -> None:
        """A program makes a trigger, for its own writes or for what comes from the hub."""
        device, on, to = self._device(site), self._model(data), self._model(data)
        name = quoted(f"program_{on.__name__}_{event}")
        device.store.database.execute_sql(f"DROP TRIGGER IF EXISTS {name}")  # type: ignore[no-untyped-call]
        itself = on is to and event != "DELETE" and data.draw(st.booleans())
        which = f"{quoted(key_of(on).column_name)} = NEW.{quoted(key_of(on).column_name)}" if itself else None
        body = _removing(on, to, event) if deletes or not is_own else self._changing(to, which)
        device.store.database.execute_sql(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER {name} AFTER {event} ON {quoted(on._meta.table_name)} "
            f"WHEN {_ON} {'=' if not is_own else '<>'} 0 BEGIN {body} END"
        )

    def _changing(self, model: type[peewee.Model], which: str | None) -> str:
        """Return SQL that changes one record once: the very one that was written, or the youngest."""
        self._texts += 1
        text = next(one for one in model._meta.sorted_fields if isinstance(one, peewee.TextField))
        table, column = quoted(model._meta.table_name), quoted(text.column_name)
        which = which or f"rowid = (SELECT max(rowid) FROM {table})"
        made = f"by a trigger, number {self._texts}"
        return f"UPDATE {table} SET {column} = '{made}' WHERE {which} AND {column} IS NOT '{made}';"

    @rule(site=_sites, data=st.data())
    def lose_records(self, site: int, data: st.DataObject) -> None:
        """Records whose changes wait are removed past the triggers, as by a damaged page."""
        device, model = self._device(site), self._model(data)
        self._stock(device, model, data)
        if data.draw(st.booleans()):
            self._write_by_sql(device, [self._updating(model, self.keys(model, device), "", "c", data)], data)
        waiting = sorted(place for place, change in device.pending().items() if change.operation != "delete")
        if waiting:
            for name, key in data.draw(st.lists(st.sampled_from(waiting), min_size=1, unique=True)):
                self._lose(device, name, key)

    def _lose(self, device: WorldDevice, name: str, key: str) -> None:
        tracked = device.objects[name]
        with closing(sqlite3.connect(device.path)) as plain, plain:
            plain.execute("UPDATE statesync_tracking SET is_on = 0")
            plain.execute(f"DELETE FROM {quoted(tracked.table)} WHERE {quoted(tracked.key)} = ?", (key,))
            plain.execute("UPDATE statesync_tracking SET is_on = 1")
        self._note_lost(device, name, key)

    # -- what was lost -------------------------------------------------------------------------------

    def write(self, device: WorldDevice, write: Write) -> None:
        """Let a write happen; what a trigger removes while statesync itself writes is lost, not deleted."""
        super().write(device, write)
        self._find_removed(device)

    def let_sync(self, device: WorldDevice, *how: Any, **more: Any) -> None:
        """Let a device sync; what a trigger removes with that is lost before anything is looked at."""
        super().let_sync(device, *how, **more)
        self._find_removed(device)

    def check_at_rest(self, device: WorldDevice) -> None:
        """Hold a device to what must be true, but for what a trigger has removed."""
        self._find_removed(device)
        super().check_at_rest(device)

    def _find_removed(self, device: WorldDevice) -> None:
        with device.looking() as found:
            gone = set(found.execute("SELECT object, key FROM removed")) - device.disturbed
        for name, key in gone:
            self._note_lost(device, name, key)

    def _note_lost(self, device: WorldDevice, name: str, key: str) -> None:
        device.disturbed.add((name, key))
        self.ledger.let_go(device, name, key)

    def before_the_end(self) -> None:
        """Set right what was lost, as a person would who is told that records are missing."""
        for device in self.devices:
            self.make_way(device)
            self._find_removed(device)
            self._take_back_lost(device)
            if device.disturbed:
                read_again(device, MISSED_DELETES)
        super().before_the_end()

    def make_way(self, device: WorldDevice) -> None:
        """Drop the program's triggers: SQLite makes no table anew that one of them names."""
        ask: Any = device.store.database.execute_sql
        for (name,) in ask(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'program%'"
        ).fetchall():
            ask(f"DROP TRIGGER {quoted(name)}")

    def _take_back_lost(self, device: WorldDevice) -> None:
        here = device.records()
        with suppress(UsageError, AllRejected):  # some may have reached the hub: they are settled first
            device.scope.sync(self.options)
        for place, change in device.pending().items():
            if change.operation != "delete" and place not in here:
                device.store.rollback(device.record(*place))


def _insert(model: type[peewee.Model], row: Row, how: str, slot: str) -> _Statement:
    fields = [field for field in model._meta.sorted_fields if field.name in row]
    names = ", ".join(quoted(field.column_name) for field in fields)
    values = [_stored(field, row[field.name]) for field in fields]
    marks = ", ".join("?" * (len(values) + 1))
    return (
        f"INSERT {how} INTO {quoted(model._meta.table_name)} ({names}, slot) VALUES ({marks})",
        (*values, slot),
    )


def _stored(field: peewee.Field, value: Any) -> Any:
    stored: Any = field.db_value(value)  # type: ignore[no-untyped-call]
    if isinstance(stored, bytearray | memoryview):
        return bytes(stored)
    return stored if isinstance(stored, str | int | float | bytes | None) else str(stored)


def _removing(on: type[peewee.Model], to: type[peewee.Model], event: str) -> str:
    """Return SQL that removes one record besides the one that was written, and notes it if nobody asked."""
    table, key = quoted(to._meta.table_name), quoted(key_of(to).column_name)
    written = f"{'OLD' if event == 'DELETE' else 'NEW'}.{quoted(key_of(on).column_name)}"
    first = (
        f"(SELECT {key} FROM {table} WHERE {key} <> {written} AND {key} NOT IN "
        f"(SELECT key FROM statesync_local) ORDER BY rowid LIMIT 1)"
    )
    return (
        f"INSERT INTO removed SELECT '{to.__name__}', {key} FROM {table} "
        f"WHERE {key} = {first} AND {_ON} = 0; "
        f"DELETE FROM {table} WHERE {key} = {first};"
    )


def _run(device: WorldDevice, setting: str, statements: Sequence[_Statement], *, is_kept: bool) -> None:
    with closing(sqlite3.connect(device.path, isolation_level=None)) as plain:
        plain.execute(f"PRAGMA {setting}")
        plain.execute("BEGIN IMMEDIATE")
        for sql, values in statements:
            with suppress(sqlite3.IntegrityError):
                plain.execute(sql, values)
        if plain.in_transaction:  # OR ROLLBACK has ended it
            plain.execute("COMMIT" if is_kept else "ROLLBACK")
