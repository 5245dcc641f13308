"""Local writes in a ``SyncWorld``: what programs write in ``untracked()`` must stay on its device, and stay.

Each local write leaves a mark in each record that it writes: a text that no other record gets, and that is no
part of another mark. No mark may ever reach the hub, and what was written stays as it is until there is news:
a tracked write on the device, a newer version at the hub, or a program that starts over.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import peewee
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.classes import frozen
from statesync.conflicts import Record
from statesync.store.cursors.cursor import EPOCH, MISSED_DELETES
from statesync.testing.moves.rules import text_of
from statesync.testing.rest import is_as
from statesync.testing.rows import Row
from statesync.testing.sites import Known, WorldDevice, key_of, read_again
from statesync.testing.world import SyncWorld, Write, update

_Place = tuple[str, str, str]
_sites = st.integers(0, 7)


@frozen
class _Local:
    """What a local write has left: the record, its mark, and how often the hub had written it by then."""

    record: Record | None
    mark: str | None
    versions: int


class LocalWrites(SyncWorld):
    """A world in which programs also write records that are local only."""

    def __init__(self) -> None:
        super().__init__()
        self._local: dict[_Place, _Local] = {}
        self._marks = 0
        self._offered: set[str | None] = set()  # the marks of writes that changed what waits, too

    # -- what programs do ----------------------------------------------------------------------------

    @rule(site=_sites, data=st.data())
    def create_locally(self, site: int, data: st.DataObject) -> None:
        """A program makes a record that is none of the hub's business."""
        device, model = self._device(site), self._model(data)
        row = data.draw(self.rows(model, device)) | self._mark(model)
        self._write_locally(device, lambda: model.insert(row).execute())

    @rule(site=_sites, synced=st.booleans(), data=st.data())
    def edit_locally(self, site: int, synced: bool, data: st.DataObject) -> None:
        """A program changes a record, or all of a kind, for itself alone; it may have synced just before."""
        device, model = self._device(site), self._model(data)
        if synced:
            self.let_sync(device, [], None)
        keys = self.keys(model, device)
        key = data.draw(st.none() | st.sampled_from(keys)) if keys else None
        if key is None:
            self.edit_all_locally(device, model)
        else:
            self._write_locally(device, update(model, key, self._mark(model)))

    def edit_all_locally(self, device: WorldDevice, model: type[peewee.Model]) -> None:
        """Let a program change all of a kind by one statement; each record gets a mark of its own."""
        self._marks += 1
        mark = peewee.SQL(f"'local only, number {self._marks} of row ' || rowid || '.'")
        self._write_locally(device, lambda: model.update({text_of(model): mark}).execute())

    @rule(site=_sites, synced=st.booleans(), data=st.data())
    def delete_locally(self, site: int, synced: bool, data: st.DataObject) -> None:
        """A program deletes a record from this device alone; it may have synced just before."""
        device, model = self._device(site), self._model(data)
        if synced:
            self.let_sync(device, [], None)
        if keys := self.keys(model, device):
            key = data.draw(st.sampled_from(keys))
            self._write_locally(device, lambda: model.delete().where(key_of(model) == key).execute())

    @rule(site=_sites, why=st.sampled_from([EPOCH, MISSED_DELETES]))
    def read_again(self, site: int, why: str) -> None:
        """A device has to read everything from the start: tracking was off, or it has missed deletes."""
        read_again(self._device(site), why)

    def _edit_first(self, device: WorldDevice, model: type[peewee.Model]) -> None:
        for key in self.keys(model, device)[:1]:
            row = self._mark(model)
            self._write_locally(device, update(model, key, row))

    def _mark(self, model: type[peewee.Model]) -> Row:
        """Return a text that nobody has written, for the model's first field that takes one."""
        self._marks += 1
        return {text_of(model).name: f"local only, number {self._marks}."}

    def _write_locally(self, device: WorldDevice, write: Write) -> None:
        waiting = {(change.object, change.key): change.operation for change in device.store.pending()}
        before = device.records()
        with device.bound(), device.store.untracked(), suppress(peewee.IntegrityError):
            write()
        after = device.records()
        for name, key in _changed(before, after):
            if (name, key) not in waiting:
                self._note(device, name, key, after.get((name, key)))
            elif waiting[name, key] != "delete":  # it goes up with what its record is, or not at all
                self.ledger.let_go(device, name, key)
                self._offered.add(_mark_in(after.get((name, key))))

    def _note(self, device: WorldDevice, name: str, key: str, record: Record | None) -> None:
        is_read = device.has_read(name, key, self.hub)  # else there is news already
        versions = len(self.hub.history(device.objects[name], key)) if is_read else -1
        self._local[device.name, name, key] = _Local(record, _mark_in(record), versions)

    # -- what is news --------------------------------------------------------------------------------

    def write(self, device: WorldDevice, write: Write) -> None:
        """Let a tracked write happen: what it touches is local only no more."""
        before = device.records()
        super().write(device, write)
        for name, key in _changed(before, device.records()) | device.pending_keys():
            self._local.pop((device.name, name, key), None)

    def let_sync(self, device: WorldDevice, *how: Any, **more: Any) -> None:
        """Let a device sync. What a filter hides travels as deleted, which may be news or not."""
        for name in self.options.filter:
            self.forget_local(device, name)
        super().let_sync(device, *how, **more)

    def forget_local(self, device: WorldDevice, name: str) -> None:
        """Expect nothing any more of what is local only of an object: a program has started over with it."""
        for place in [place for place in self._local if place[:2] == (device.name, name)]:
            del self._local[place]

    # -- what must hold ------------------------------------------------------------------------------

    def before_the_end(self) -> None:
        """Hold the world to what is local only, before everybody syncs."""
        self.check_local()
        super().before_the_end()

    def at_the_end(self) -> None:
        """Hold the world to what is local only once all have synced, and once more after a whole read."""
        super().at_the_end()
        self.check_local()
        for device in self.devices:
            for model in self.models:
                self._edit_first(device, model)
            read_again(device, MISSED_DELETES)
            device.scope.sync(self.options)
        super().at_the_end()
        self.check_local()

    def check_local(self) -> None:
        """Hold every device to its local writes: none was sent, none is lost without news."""
        written = self.hub.texts()
        devices = {device.name: device for device in self.devices}
        for (who, name, key), local in self._local.items():
            device = devices[who]
            is_secret = local.mark is not None and local.mark not in self._offered
            assert not is_secret or str(local.mark) not in written, f"{who} has sent {local.mark}"
            is_news = len(self.hub.history(device.objects[name], key)) > local.versions
            here = device.records().get((name, key))
            assert is_news or is_as(here, local.record), (
                f"{who} has lost what was written locally: {name} {key}"
            )


def _mark_in(record: Record | None) -> str | None:
    texts = [value for value in (record or {}).values() if isinstance(value, str)]
    return next((text for text in texts if text.startswith("local only, number")), None)


def _changed(before: Known, after: Known) -> set[tuple[str, str]]:
    return {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
