"""Misfits in a ``SyncWorld``: tables with rules that others have not, and unique values that move.

On some devices a table takes no two records with one text, or no long text, or no NULL, or a trigger raises.
What others write may not fit there: it waits in quarantine, in the hub's version, and everything else
arrives. Programs swap texts between records, in one transaction. Once a migration has taken the rules away,
the next syncs bring everybody to the same records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any
from unittest import mock

import peewee
from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.errors import UsageError
from statesync.lifecycle import Phase
from statesync.store.tracking.quoting import quoted
from statesync.testing.faults import Fault
from statesync.testing.moves.rules import MisfitDevice, rules_of, text_of
from statesync.testing.rest import check_held, check_placed
from statesync.testing.rows import Row
from statesync.testing.sites import WorldDevice, key_of
from statesync.testing.world import SyncWorld, Write, update
from statesync.values import Part, Quarantined, SyncType

_sites = st.integers(0, 7)
_faults = st.lists(st.none() | st.sampled_from(Fault), max_size=4)
_policies = st.sampled_from(["merge_fields", "server_wins", "client_wins"])

_TEXTS = ("long one", "a", "A", "b", "c", "d")
"""So few texts that two records often want one."""


class Misfits(SyncWorld):
    """A world in which some tables have rules that others have not."""

    def __init__(self) -> None:
        super().__init__()
        self._made = 0
        for site, device in enumerate(self.devices):
            for model in self.models if site else ():
                self._ruled(device).make_rule(rules_of(model)[0])

    def new_device(self, number: int) -> WorldDevice:
        """Return a device that has no rules yet."""
        return MisfitDevice(f"device {number}", self.folder / f"{number}.db", self.models)

    def rows(self, model: type[peewee.Model], device: WorldDevice) -> st.SearchStrategy[Row]:
        """Return the strategy for new rows, whose texts are often those of others."""
        text = text_of(model)
        texts = st.sampled_from([*_TEXTS, None] if text.null else _TEXTS)
        return st.builds(lambda row, value: {**row, text.name: value}, super().rows(model, device), texts)

    # -- what programs do ----------------------------------------------------------------------------

    @rule(site=_sites, sets_up=st.booleans(), data=st.data())
    def make_rule(self, site: int, sets_up: bool, data: st.DataObject) -> None:
        """Somebody gives a table a rule; the program finds it at once, or when it comes to it."""
        device = self._ruled(self._device(site))
        possible = [one for one in rules_of(self._model(data)) if one.name not in device.rules]
        if possible:
            device.make_rule(data.draw(st.sampled_from(possible)))
            if sets_up:
                device.store.setup(migrations=device.steps)

    @rule(site=_sites, data=st.data())
    def end_rules(self, site: int, data: st.DataObject) -> None:
        """A migration takes some rules away."""
        device = self._ruled(self._device(site))
        if device.rules:
            some = st.lists(st.sampled_from(sorted(device.rules)), min_size=1, unique=True)
            device.end_rules(data.draw(some))

    @rule(site=_sites, step=st.integers(1, 3), data=st.data())
    def move_some_texts(self, site: int, step: int, data: st.DataObject) -> None:
        """A program moves the texts of some records on by some places, in one transaction."""
        device, model = self._device(site), self._model(data)
        keys = self.keys(model, device)
        if len(keys) > 1:
            chosen = data.draw(st.lists(st.sampled_from(keys), min_size=2, unique=True))
            self.write(device, lambda: move_texts(device, model, chosen, step))

    @rule(site=_sites, how_many=st.integers(2, 5), data=st.data())
    def fill(self, site: int, how_many: int, data: st.DataObject) -> None:
        """Somebody makes some records with a text each that nobody has, and everybody gets them."""
        self._fill(site, self._model(data), how_many, data)

    def _fill(self, site: int, model: type[peewee.Model], how_many: int, data: st.DataObject) -> list[Any]:
        device, made = self._device(site), []
        if not (rows := self.rows(model, device)).is_empty:
            row = data.draw(rows)
            for _ in range(how_many):
                self._made += 1
                key = f"{row[key_of(model).name]} {self._made}"
                one = row | {key_of(model).name: key, text_of(model).name: f"{self._made}"}
                self.write(device, partial(_make, model, one))
                made.append(key)
            self.sync_everybody()
        return [key for key in made if key in self.keys(model, device)]

    @rule(site=_sites, step=st.integers(1, 3), moves=st.booleans(), data=st.data())
    def break_rules(self, site: int, step: int, moves: bool, data: st.DataObject) -> None:
        """Everybody has some records; one table gets a rule, and on another device texts move or are new."""
        model, other = self._model(data), site + 1
        keys = self._fill(other, model, 4, data)
        ruled = self._ruled(self._device(site))
        made = data.draw(st.sampled_from(rules_of(model)))
        if made.name not in ruled.rules:
            ruled.make_rule(made)
        device = self._device(other)
        if moves and len(keys) > 1:
            self.write(device, lambda: move_texts(device, model, keys, step))
        elif keys:
            text = {text_of(model).name: data.draw(st.sampled_from(_TEXTS))}
            self.write(device, update(model, data.draw(st.sampled_from(keys)), text))
        self.let_sync(device, [], None)
        self.let_sync(ruled, [], None)

    @rule(site=_sites, forgets=st.booleans(), data=st.data())
    def delete_what_waits(self, site: int, forgets: bool, data: st.DataObject) -> None:
        """Somebody deletes a record that waits in quarantine elsewhere; the hub may forget that delete."""
        held, other = self._device(site).held(), self._device(site + 1)
        models = {model.__name__: model for model in self.models}
        if there := sorted(held.keys() & other.records().keys()):
            name, key = data.draw(st.sampled_from(there))
            self.delete_one(other, models[name], key)
            self.let_sync(other, [], None)
        if forgets:
            self.hub.forget_deletes()

    @rule(
        site=_sites, deletes=st.booleans(), policy=_policies, kind=st.sampled_from(SyncType), data=st.data()
    )
    def write_what_waits(
        self, site: int, deletes: bool, policy: str, kind: SyncType, data: st.DataObject
    ) -> None:
        """Somebody writes a record whose newer version waits in quarantine, and the device syncs."""
        device = self._device(site)
        if held := device.store.quarantine():
            one = data.draw(st.sampled_from(held))
            model = next(model for model in self.models if model.__name__ == one.object)
            self.write(device, self._writing(device, model, one, deletes=deletes, data=data))
        self.sync_by_policy(site, policy, kind, [])

    def _writing(
        self,
        device: WorldDevice,
        model: type[peewee.Model],
        one: Quarantined,
        *,
        deletes: bool,
        data: st.DataObject,
    ) -> Write:
        if (one.object, one.key) not in device.records():
            row = data.draw(self.rows(model, device)) | {key_of(model).name: one.key}
            return lambda: model.insert(row).execute()
        if deletes:
            return lambda: model.delete().where(key_of(model) == one.key).execute()
        return update(model, one.key, self._some_fields(device, model, data))

    @rule(site=_sites, policy=_policies, kind=st.sampled_from(SyncType), faults=_faults)
    def sync_by_policy(self, site: int, policy: str, kind: SyncType, faults: list[Fault | None]) -> None:
        """A device syncs, one way or both, and who wins a conflict is one of three."""
        chosen = evolve(self.options, conflict_policy=policy, sync_type=kind)
        with mock.patch.object(self, "options", chosen):
            self.let_sync(self._device(site), faults, None)

    @rule(site=_sites)
    def take_back_all(self, site: int) -> None:
        """A program undoes what waits, unless some of it may have reached the hub."""
        device = self._device(site)
        with suppress(UsageError):
            self.write(device, device.store.rollback)

    @rule(site=_sites, again=st.sampled_from(["clear", "reset"]), data=st.data())
    def empty(self, site: int, again: str, data: st.DataObject) -> None:
        """A program empties one kind of record, of which nothing waits: no quarantine is left of it.

        Where a rule of the table holds one fast, all stay.
        """
        device = self._device(site)
        alone = device.store.scope(device.remote, device.own(self._model(data)))
        if not alone.pending():
            before = device.records(), device.held()
            try:
                getattr(alone, again)()
            except UsageError:
                assert (device.records(), device.held()) == before, f"{device.name} has emptied half a table"
                return
            assert alone.quarantine() == [], f"{device.name} has emptied {alone.objects}, and holds records"

    @rule(site=_sites, at=st.integers(1, 200), faults=_faults)
    def crash(self, site: int, at: int, faults: list[Fault | None]) -> None:
        """A program that syncs ends anywhere, and its journal counts what waits all the same."""
        device = self._device(site)
        before = _uncounted(device)
        super().crash(site, at, faults)
        _check_counted(device, before)

    # -- what must hold ------------------------------------------------------------------------------

    def let_sync(
        self,
        device: WorldDevice,
        faults: list[Fault | None],
        cancel_at: int | None,
        meanwhile: Write | None = None,
        *,
        during: Part = Part.UPLOAD,
        only: type[peewee.Model] | None = None,
    ) -> None:
        """Let a device sync: what comes into quarantine, and what leaves it, is in the session's journal."""
        before = _uncounted(device)
        super().let_sync(device, faults, cancel_at, meanwhile, during=during, only=only)
        _check_counted(device, before)
        is_whole = only is None and meanwhile is None and self.options.downloads
        if is_whole and device.store.sessions(1)[0].phase == Phase.DONE:
            self._ruled(device).check_fits(self.hub)

    def check_at_rest(self, device: WorldDevice) -> None:
        """Hold one device to what must be true: what waits, waits in the hub's version."""
        super().check_at_rest(device)
        check_held(device, self.hub)

    def before_the_end(self) -> None:
        """Let everybody sync with the rules as they are, and then take them away."""
        for device in self.devices:
            device.remote.calm()
        for _ in range(2):
            self.sync_everybody()
        for device in self.devices:
            self.check_at_rest(device)
            check_placed(device, self.hub)
        for device in self.devices:
            self._ruled(device).end_rules(list(self._ruled(device).rules))
        super().before_the_end()

    def at_the_end(self) -> None:
        """Hold the world, in which no table has a rule any more, to its promises: nothing waits."""
        for device in self.devices:
            held = device.store.quarantine()
            assert held == [], f"{device.name} keeps in quarantine what fits: {held}"
        super().at_the_end()

    def _ruled(self, device: WorldDevice) -> MisfitDevice:
        assert isinstance(device, MisfitDevice), f"{device.name} has no rules"
        return device


def _make(model: type[peewee.Model], row: Row) -> None:
    model.insert(row).execute()


def move_texts(device: WorldDevice, model: type[peewee.Model], keys: Sequence[Any], step: int) -> None:
    """Give each record the text of another, as one does beside a unique index: by texts that nobody has."""
    table, key, text = model._meta.table_name, key_of(model).column_name, text_of(model).column_name
    sql = f"UPDATE {quoted(table)} SET {quoted(text)} = ? WHERE {quoted(key)} = ?"
    with closing(sqlite3.connect(device.path)) as plain, suppress(sqlite3.IntegrityError), plain:
        of_key = f"SELECT {quoted(text)} FROM {quoted(table)} WHERE {quoted(key)} = ?"
        texts = [plain.execute(of_key, (one,)).fetchone()[0] for one in keys]
        plain.executemany(sql, [(f"~{number}", one) for number, one in enumerate(keys)])
        plain.executemany(sql, [(texts[(at + step) % len(keys)], one) for at, one in enumerate(keys)])


def _uncounted(device: WorldDevice) -> int:
    """Return how many records wait of which the journal does not say that they came and did not leave."""
    entries = (entry for session in device.store.sessions() for entry in device.store.journal(session.id))
    details = [entry.detail for entry in entries if entry.trigger == "commit_batch"]
    counted: int = sum(detail.get("held", 0) - detail.get("released", 0) for detail in details)
    return len(device.store.quarantine()) - counted


def _check_counted(device: WorldDevice, before: int) -> None:
    """Hold a device to Q3: a session's journal says what came into quarantine, and what left it."""
    assert _uncounted(device) == before, f"{device.name} counts what is in quarantine otherwise"
