"""Conflicts in a ``SyncWorld``: policies of every kind, decisions that wait, losers that are brought back.

A change that waits for a decision is neither sent nor overwritten. What is decided is what becomes of the
record, once, and both sides stay in the log. No conflict is logged where the hub had changed nothing that
the device did not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import peewee
from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.conflicts import LATER, Conflict
from statesync.errors import UsageError
from statesync.testing.faults import Fault
from statesync.testing.rest import is_as
from statesync.testing.rows import Row
from statesync.testing.sites import WorldDevice, key_of
from statesync.testing.world import SyncWorld, update
from statesync.values import ConflictEntry, SyncType

_Place = tuple[str, str]
_sites = st.integers(0, 7)
_faults = st.lists(st.none() | st.sampled_from(Fault), max_size=4)
_choices = st.sampled_from(["local", "remote", "values"])
_policies = st.sampled_from(
    ["later", "some later", "values", "instance", "delete", "fails", "server_wins", "client_wins"]
)


class Decisions(SyncWorld):
    """A world in which conflicts are decided by programs and by people, at once or later."""

    def __init__(self) -> None:
        super().__init__()
        self._decided = 0

    # -- what programs do ----------------------------------------------------------------------------

    @rule(site=_sites, policy=_policies, kind=st.sampled_from(SyncType), faults=_faults)
    def sync_by(self, site: int, policy: str, kind: SyncType, faults: list[Fault | None]) -> None:
        """A device syncs, one way or both, and a policy of the program's decides what is in conflict."""
        device = self._device(site)
        before, contested = device.records(), _contested(device)
        chosen = evolve(self.options, conflict_policy=self._policy(policy), sync_type=kind)
        with mock.patch.object(self, "options", chosen):
            self.let_sync(device, faults, None)
        assert contested <= _contested(device), f"{device.name} has decided what was to wait"
        after = device.records()
        for place in contested - device.disturbed:
            assert is_as(after.get(place), before.get(place)), f"{device.name} has overwritten {place}"

    @rule(site=_sites, policy=_policies, kind=st.sampled_from(SyncType), data=st.data())
    def contest(self, site: int, policy: str, kind: SyncType, data: st.DataObject) -> None:
        """People write or delete one record apart; all of them sync, one last."""
        device, model = self._device(site), self._model(data)
        if not self.keys(model, device):
            self._make(device, model, data)
        self.sync_everybody()
        shared = [set(self.keys(model, one)) for one in self.devices]
        if keys := sorted(set.intersection(*shared)):
            key = data.draw(st.sampled_from(keys))
            for one in self.devices:
                self._write_apart(one, model, key, is_delete=data.draw(st.integers(0, 3)) == 0)
            for other in range(1, self.device_count):
                self.let_sync(self._device(site + other), [], None)
        self.sync_by(site, policy, kind, [])

    def _make(self, device: WorldDevice, model: type[peewee.Model], data: st.DataObject) -> None:
        rows = self.rows(model, device)
        if not rows.is_empty:
            row = data.draw(rows)
            self.write(device, lambda: model.insert(row).execute())

    def _write_apart(
        self, device: WorldDevice, model: type[peewee.Model], key: Any, *, is_delete: bool
    ) -> None:
        if is_delete:
            self.write(device, lambda: model.delete().where(key_of(model) == key).execute())
        else:
            self.write(device, update(model, key, self._text(model)))

    @rule(site=_sites, choice=_choices, data=st.data())
    def settle(self, site: int, choice: str, data: st.DataObject) -> None:
        """Somebody decides a conflict that has waited."""
        device = self._device(site)
        if not device.store.conflicts(waiting=True):
            self.contest(site, "later", SyncType.FULL, data)
            data.draw(st.sampled_from([self._pass, self._edit_both, self._sync_both]))(device, data)
        if waiting := device.store.conflicts(waiting=True):
            self._settle(device, data.draw(st.sampled_from(waiting)), choice)

    @rule(site=_sites, choice=_choices, data=st.data())
    def bring_back(self, site: int, choice: str, data: st.DataObject) -> None:
        """Somebody wants a side of a conflict that was decided."""
        device = self._device(site)
        if not device.store.conflicts():
            self.contest(site, data.draw(_policies), SyncType.FULL, data)
        if decided := device.store.conflicts():
            entry = data.draw(st.sampled_from(decided))
            self.write(device, lambda: _resolve(device, entry, self._choice(device, entry, choice)))

    def _pass(self, device: WorldDevice, data: st.DataObject) -> None:
        """Let nothing come between a conflict and its decision."""

    def _edit_both(self, device: WorldDevice, data: st.DataObject) -> None:
        """Let both sides of a conflict be edited once more."""
        for entry in device.store.conflicts(waiting=True):
            model = self._model_of(entry.object)
            for one in self.devices:
                self._write_apart(one, model, entry.key, is_delete=data.draw(st.integers(0, 3)) == 0)
        self._sync_both(device, data)

    def _sync_both(self, device: WorldDevice, data: st.DataObject) -> None:  # noqa: ARG002
        """Let everybody sync, last the device that has to decide."""
        for one in self.devices:
            if one is not device:
                self.let_sync(one, [], None)
        self.let_sync(device, [], None)

    def _policy(self, which: str) -> str | Callable[[Conflict], object]:
        answers: dict[str, Callable[[Conflict], object]] = {
            "some later": lambda conflict: LATER if conflict.key < "8" else conflict.local,
            "values": lambda conflict: self._values(conflict.object),
            "instance": lambda conflict: conflict.mine or conflict.theirs,
            "delete": self._delete,
            "fails": _fail,
        }
        return answers.get(which, which)

    def _delete(self, conflict: Conflict) -> None:
        self.ledger.deleted.add((conflict.object, conflict.key))

    def _values(self, name: str) -> Row:
        return self._text(self._model_of(name))

    def _model_of(self, name: str) -> type[peewee.Model]:
        return next(one for one in self.models if one.__name__ == name)

    def _text(self, model: type[peewee.Model]) -> Row:
        """Return a text that nobody else writes, for the model's first field that takes one."""
        self._decided += 1
        text = next(one for one in model._meta.sorted_fields if isinstance(one, peewee.TextField))
        return {text.name: f"decided, number {self._decided}"}

    def _choice(self, device: WorldDevice, entry: ConflictEntry, choice: str) -> Any:
        known = device.objects[entry.object].name
        return self._values(known) if choice == "values" else choice

    def _settle(self, device: WorldDevice, entry: ConflictEntry, choice: str) -> None:
        if choice == "local" and entry.local is None and _is_lost(device, entry):
            assert _is_refused(device, entry, choice), f"{device.name} takes a lost {entry} for deleted"
            choice = "remote"
        chosen = self._choice(device, entry, choice)
        is_local = (entry.object, entry.key) in device.local_keys()
        device.store.resolve(entry, chosen)
        expected = {"local": entry.local, "remote": entry.remote}.get(choice, chosen)
        if choice == "values":
            expected = {**(entry.local or {}), **(entry.remote or {}), **chosen}
            self.ledger.claim(device, entry.object, entry.key, chosen)
        here = device.records().get((entry.object, entry.key))
        assert is_local or is_as(here, expected), f"{device.name} has not taken {choice} of {entry}: {here}"
        waits = (entry.object, entry.key) in device.pending_keys()
        assert waits == (expected != entry.remote), f"{device.name} has settled {entry}, and sends {waits}"
        assert _is_refused(device, entry, chosen), f"{device.name} has settled {entry} twice"

    # -- what must hold ------------------------------------------------------------------------------

    def check_at_rest(self, device: WorldDevice) -> None:
        """Hold a device to its conflicts: one decision a record, and none where nothing was at stake."""
        super().check_at_rest(device)
        places = [(entry.object, entry.key) for entry in device.store.conflicts(waiting=True)]
        assert len(set(places)) == len(places), f"{device.name} asks twice about a record: {places}"
        assert set(places) == _contested(device), f"{device.name} does not show what waits"
        for entry in device.store.conflicts():
            assert not _was_known(entry), f"{device.name} has made a conflict of nothing: {entry}"

    def before_the_end(self) -> None:
        """Decide all that waits, one way and the other."""
        for device in self.devices:
            for number, entry in enumerate(device.store.conflicts(waiting=True)):
                self._settle(device, entry, ("local", "remote", "values")[number % 3])
        super().before_the_end()


def _contested(device: WorldDevice) -> set[_Place]:
    return {(change.object, change.key) for change in device.store.pending() if change.in_conflict}


def _resolve(device: WorldDevice, entry: ConflictEntry, choice: Any) -> None:
    """Bring a side back, unless the record has gone since or is like that already."""
    try:
        device.store.resolve(entry, choice)
    except UsageError:
        assert not entry.waiting


def _is_lost(device: WorldDevice, entry: ConflictEntry) -> bool:
    """Tell whether a record is not there that nobody has deleted."""
    return device.waiting()[entry.object, entry.key].operation != "delete"


def _is_refused(device: WorldDevice, entry: ConflictEntry, choice: Any) -> bool:
    before = device.records()
    try:
        device.store.resolve(entry, choice)
    except UsageError:
        return device.records() == before
    return False


def _was_known(entry: ConflictEntry) -> bool:
    """Tell whether the hub had nothing that was not the device's base."""
    base = entry.base
    return base is not None and entry.remote is not None and entry.remote.items() <= base.items()


def _fail(_: Conflict) -> None:
    raise ValueError("the program's policy fails")
