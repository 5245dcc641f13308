"""Versions of a program in a ``SyncWorld``: columns come, go and are renamed, at another time on each device.

The world's models are what all versions have. On top of them each version has columns of its own:
``note`` from the first one on, ``kind`` from the second, ``note`` no more from the third, and from the fourth
``sort`` in the place of ``kind``. An older program, and a small tool that knows the world's models alone, may
use a file at the same time as a newer one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import peewee
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.errors import UnsupportedModel
from statesync.scope import Store
from statesync.store.tracking.describe import describe
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import quoted
from statesync.testing.rows import Row
from statesync.testing.sites import WorldDevice, key_of
from statesync.testing.world import SyncWorld, update

Step = Callable[[Any], object]
Way = Literal["setup", "step", "rebuild", "by hand", "by rows"]

_sites = st.integers(0, 7)
_ways = st.sampled_from(["setup", "step", "rebuild", "by hand", "by rows"])
_TOOL = -1
"""The small tool: it knows no version's columns, and no migrations."""
_FILLED_IN = "filled in"
_VERSIONS = (("note",), ("note", "kind"), ("kind",), ("sort",))
_LAST = len(_VERSIONS) - 1


class VersionedDevice(WorldDevice):
    """A device whose program has a ``version``; its file may be further, by another program."""

    def __init__(self, name: str, path: Path, models: Sequence[type[peewee.Model]], version: int) -> None:
        super().__init__(name, path, models)
        self.version = version
        self.on_file: int = version
        self.way: Way = "setup"
        self._describe()

    def _describe(self) -> None:
        described = [describe(_model(model, self.on_file)) for model in self.models]
        self.objects: dict[str, TrackedObject] = {one.name: one for one in described}

    def own(self, model: type[peewee.Model]) -> type[peewee.Model]:
        """Return the model as this device's program has it."""
        return _model(model, self.version)

    def _set_up(self) -> None:
        set_up(self.store, self.models, self.version, self.way)

    def come_to(self, version: int) -> None:
        """Write down that the file has come to a version."""
        self.on_file = max(self.on_file, version)
        self._describe()


class Versions(SyncWorld):
    """A world in which programs of several versions meet, on one file and on several devices."""

    def __init__(self) -> None:
        super().__init__()
        self._written = 0

    def new_device(self, number: int) -> WorldDevice:
        """Return a device; every third one begins with the second version."""
        path = self.folder / f"{number}.db"
        return VersionedDevice(f"device {number}", path, self.models, 1 if number % 3 == 2 else 0)

    def _versioned(self, site: int) -> VersionedDevice:
        device = self._device(site)
        assert isinstance(device, VersionedDevice), f"{device.name} has no version"
        return device

    # -- what programs do ----------------------------------------------------------------------------

    @rule(site=_sites, way=_ways, further=st.integers(1, _LAST))
    def update_program(self, site: int, way: Way, further: int) -> None:
        """A device gets a later version of its program."""
        device = self._versioned(site)
        version = min(device.version + further, _LAST)
        if device.version < version:
            self.make_way(device)
            device.close()
            self._prepare(device, way)
            device.version = version
            device.way = way
            device.open(self.hub)
            self._came_to(device, device.version)

    @rule(site=_sites, way=_ways, edits=st.integers(0, 3), data=st.data())
    def come_later(self, site: int, way: Way, edits: int, data: st.DataObject) -> None:
        """Somebody has the next version already, and writes its new column; then a device gets it."""
        device, other = self._versioned(site), self._versioned(site + 1)
        model = self._model(data)
        if not self.rows(model, device).is_empty:
            row = data.draw(self.rows(model, device))
            self.write(device, lambda: model.insert(row).execute())
        self.sync_everybody()
        self.update_program(site + 1, "setup", 1)
        if other.version == 1:
            for key in self.keys(model, other):
                changes = self._own_columns(other.version)
                with other.store.database.bind_ctx([other.own(model)]):
                    self.write(other, update(other.own(model), key, changes))
            self.let_sync(other, [], None)
        if edits in (1, 3):
            self.write(device, self._some_edit(device, data))
        self.update_program(site, way, 1)
        if edits in (2, 3):
            self.write(device, self._some_edit(device, data))
        self.let_sync(device, [], None)

    @rule(site=_sites, way=_ways)
    def update_beside(self, site: int, way: Way) -> None:
        """The next version is set up while the program that is older goes on."""
        device = self._versioned(site)
        if device.version == device.on_file == 0:
            self.make_way(device)
            self._prepare(device, way)
            with closing(Store(device.path)) as other:
                set_up(other, self.models, 1, way)
            self._came_to(device, 1)

    @rule(site=_sites, version=st.integers(_TOOL, _LAST), syncs=st.booleans(), data=st.data())
    def use_other_version(self, site: int, version: int, syncs: bool, data: st.DataObject) -> None:
        """Another version of the program, or the small tool, writes to the file of one that is running."""
        device = self._versioned(site)
        if version > device.on_file:
            return
        with closing(Store(device.path)) as other:
            try:
                set_up(other, self.models, version, device.way)
            except UnsupportedModel:
                assert _lacks(version, device.on_file), f"{device.name} refuses version {version}"
                return
            assert not _lacks(version, device.on_file), f"{device.name} takes version {version}"
            self._write_as(device, other, version, data)
            if syncs:
                with mock.patch.object(device, "scope", other.scope(device.remote)):
                    self.let_sync(device, [], None)

    @rule(site=_sites, data=st.data())
    def write_own_columns(self, site: int, data: st.DataObject) -> None:
        """Somebody writes what only this version of the program knows."""
        device = self._versioned(site)
        self._write_as(device, device.store, device.version, data)

    def _write_as(self, device: VersionedDevice, store: Store, version: int, data: st.DataObject) -> None:
        core = self._model(data)
        model, keys, rows = _model(core, version), self.keys(core, device), self.rows(core, device)
        own = self._own_columns(version)
        with store.database.bind_ctx([model]):
            edits: bool = data.draw(st.booleans())
            if keys and edits:
                changes = own or self._some_fields(device, core, data)
                if changes:
                    self.write(device, update(model, data.draw(st.sampled_from(keys)), changes))
            elif not rows.is_empty:
                row = data.draw(rows) | own
                self.write(device, lambda: model.insert(row).execute())

    def _own_columns(self, version: int) -> Row:
        """Return a text that nobody else writes, for each of a version's own columns."""
        names = () if version == _TOOL else _VERSIONS[version]
        self._written += 1
        return {name: f"{name} {self._written}" for name in names}

    # -- what must hold ------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """Hold the world to what devices fill in in a new column: it wins over nothing that was written."""
        super().at_the_end()
        written: set[tuple[str, str]] = set()
        for name, key, kind in self.hub.values("kind"):
            is_filled_in = kind == _FILLED_IN and (name, key) in written
            if is_filled_in and not any(device.conflicts(name, key) for device in self.devices):
                raise AssertionError(f"what was filled in has won over what was written: {name} {key}")
            if kind not in (None, "plain", _FILLED_IN):
                written.add((name, key))

    # -- how the next version comes ------------------------------------------------------------------

    def _prepare(self, device: VersionedDevice, way: Way) -> None:
        """Add the column before ``setup``, as a program does that knows nothing of migrations."""
        if device.on_file == 0 and way in ("by hand", "by rows"):
            for model in self.models:
                table, key = quoted(model._meta.table_name), quoted(key_of(model).column_name)
                also = f", {key} = {key}" if way == "by rows" else ""
                with closing(sqlite3.connect(device.path)) as plain, plain:
                    plain.execute(f"ALTER TABLE {table} ADD COLUMN kind TEXT NOT NULL DEFAULT 'plain'")
                    plain.execute(f"UPDATE {table} SET kind = '{_FILLED_IN}'{also}")

    def make_way(self, device: WorldDevice) -> None:
        """Drop what would keep SQLite from making a table anew, as a program's step does; here is nothing."""

    def _came_to(self, device: VersionedDevice, version: int) -> None:
        gone = set(_VERSIONS[device.on_file]) - set(_VERSIONS[max(version, device.on_file)])
        device.come_to(version)
        for column in gone:
            self.ledger.forget_column(device, column)


def set_up(
    store: Store, models: Sequence[type[peewee.Model]], version: int, way: Way, *, takes_steps: bool = True
) -> None:
    """Be a version of the program that starts; one that ``takes_steps`` has migrations."""
    for model in models:
        store.track(_model(model, version))
    tables = [model._meta.table_name for model in models]
    due = _STEPS[: max(version, 0)] if takes_steps else ()
    store.setup(migrations=[_step(make, tables, way) for make in due])


def _step(make: Callable[[Any, Sequence[str], Way], object], tables: Sequence[str], way: Way) -> Step:
    return lambda migrator: make(migrator, tables, way)


def _kind() -> peewee.Field:
    """Return the new column; it has a default in SQL too, so that older programs can make records."""
    return peewee.TextField(default="plain", constraints=[peewee.SQL("DEFAULT 'plain'")])


def _add_kind(migrator: Any, tables: Sequence[str], way: Way) -> list[Any]:
    if way not in ("step", "rebuild"):
        return []  # the column is there, or comes by setup()
    # A program without migrations may have been here, which has added it by hand.
    lacking = [table for table in tables if not _has_kind(migrator, table)]
    return [migrator.add_column(table, "kind", _kind()) for table in lacking]


def _drop_note(migrator: Any, tables: Sequence[str], way: Way) -> list[Any]:
    return [migrator.drop_column(table, "note", legacy=way == "rebuild") for table in tables]


def _rename_kind(migrator: Any, tables: Sequence[str], way: Way) -> list[Any]:
    """Rename it where it is there: who comes from the first version at once may never have had it."""
    there = [table for table in tables if _has_kind(migrator, table)]
    renamed = [migrator.rename_column(table, "kind", "sort", legacy=way == "rebuild") for table in there]
    return renamed + [migrator.add_index(table, ("sort",)) for table in there]


def _has_kind(migrator: Any, table: str) -> bool:
    return any(column.name == "kind" for column in migrator.database.get_columns(table))


_STEPS = (_add_kind, _drop_note, _rename_kind)


def _lacks(version: int, on_file: int) -> bool:
    """Tell whether a file has lost a column that a version needs."""
    return version != _TOOL and not set(_VERSIONS[version]) <= set(_VERSIONS[on_file])


@cache
def _model(model: type[peewee.Model], version: int) -> type[peewee.Model]:
    """Return one version of a model. Each device's store binds it while it uses it."""
    makers: dict[str, Callable[[], peewee.Field]] = {
        "note": lambda: peewee.TextField(null=True),
        "kind": _kind,
        "sort": _kind,
    }
    names = () if version == _TOOL else _VERSIONS[version]
    meta = type("Meta", (), {"table_name": model._meta.table_name})
    fields: dict[str, Any] = {name: makers[name]() for name in names}
    return type(model.__name__, (model,), {"Meta": meta, "__module__": model.__module__, **fields})
