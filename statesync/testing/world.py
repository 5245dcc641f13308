"""``SyncWorld``: a property test of a whole world of devices and a hub, on the user's own models.

Needs the extra ``testing``, and ``os.fork`` for the crashes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, cast
from unittest import mock

import peewee
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from statesync.errors import AllRejected, InDoubt, RemoteError, SyncCancelled
from statesync.store.indexes import building
from statesync.testing.crashes import CrashPoints, Watch
from statesync.testing.faults import Fault
from statesync.testing.ledger import Ledger
from statesync.testing.moves.clock import WorldClock
from statesync.testing.moves.meanwhile import Follower
from statesync.testing.rest import check_at_rest, check_converged, check_feed
from statesync.testing.rows import Row, record_strategy
from statesync.testing.sites import WorldDevice, WorldHub, key_of
from statesync.values import Part, SyncOptions

_MEMORY = Path("/dev/shm")

Write = Callable[[], object]

_sites = st.integers(0, 7)
_faults = st.lists(st.none() | st.sampled_from(Fault), max_size=4)


class SyncWorld(RuleBasedStateMachine):
    """A hub and devices with real databases, to which everything happens: subclass it and name your models.

    ::

        from statesync.testing import SyncWorld

        class World(SyncWorld):
            models = [Airport, Runway]

        TestWorld = World.TestCase

    Hypothesis then makes up histories of creates, edits, deletes, bulk SQL writes and syncs on several
    devices, with cancels and crashes at any point, lost requests and answers, and jumps of the clock. After
    each step every device at rest must be sound: no session without an end, a journal that agrees with
    the phases and the statistics, whole pages only. In the end the faults cease, everybody syncs, and all
    must hold the same, no batch may have been applied twice, and no write may be lost: each was on the hub,
    or is in a conflict log.

    Override ``rows`` for rows with rules of their own, and add rules and invariants as in any
    ``RuleBasedStateMachine``. ``TestCase.settings`` is Hypothesis' way to say how many histories are tried.
    """

    models: ClassVar[Sequence[type[peewee.Model]]] = ()
    """Your models. They need not be set up, and are bound to each device while it uses them."""
    device_count: ClassVar[int] = 2
    """How many devices there are, up to 8."""
    options: ClassVar[SyncOptions] = SyncOptions(upload_batch_size=2, download_batch_size=3, max_attempts=2)
    """How the devices sync: small batches, so that few records already make several."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._clock = WorldClock()
        self._stack.enter_context(self._clock.rules())
        self._stack.enter_context(mock.patch.object(building, "WORTH_IT", 1))
        memory = _MEMORY if _MEMORY.is_dir() else None
        self.folder: Path = Path(tempfile.mkdtemp(prefix="statesync-", dir=memory))
        self._stack.callback(shutil.rmtree, self.folder)
        self.hub: WorldHub = WorldHub(self.folder / "hub.db")
        self._stack.callback(self.hub.close)
        self.devices: list[WorldDevice] = [self.new_device(number) for number in range(self.device_count)]
        for device in self.devices:
            device.open(self.hub)
            self._stack.callback(device.close)
        self.ledger: Ledger = Ledger()
        self._touched: set[WorldDevice] = set()

    def new_device(self, number: int) -> WorldDevice:
        """Return a device that is not open yet."""
        return WorldDevice(f"device {number}", self.folder / f"{number}.db", self.models)

    def rows(self, model: type[peewee.Model], device: WorldDevice) -> st.SearchStrategy[Row]:
        """Return the strategy for new rows; foreign keys name rows that are on the device.

        It is empty (``st.nothing()``) while there is no parent that a row needs: then no row is made.
        """
        parents = {
            field.name: self._parents(field, device)
            for field in model._meta.sorted_fields
            if isinstance(field, peewee.ForeignKeyField)
        }
        return record_strategy(model, **parents)

    def _parents(self, field: peewee.ForeignKeyField, device: WorldDevice) -> st.SearchStrategy[Any]:
        keys = self.keys(field.rel_model, device)
        named = st.sampled_from(keys) if keys else st.nothing()
        return st.none() | named if field.null else named

    def keys(self, model: type[peewee.Model], device: WorldDevice) -> list[Any]:
        """Return the keys of the rows of ``model`` on ``device``, in order."""
        with device.bound():
            key = key_of(model)
            return [row[0] for row in cast(Iterable[Any], model.select(key).order_by(key).tuples())]

    # -- what people do ------------------------------------------------------------------------------

    @rule(site=_sites, data=st.data())
    def create(self, site: int, data: st.DataObject) -> None:
        """Somebody makes a record."""
        device = self._device(site)
        possible = [model for model in self.models if not self.rows(model, device).is_empty]
        if possible:
            model = data.draw(st.sampled_from(possible))
            row = data.draw(self.rows(model, device))
            self.write(device, lambda: model.insert(row).execute())

    @rule(site=_sites, data=st.data())
    def edit(self, site: int, data: st.DataObject) -> None:
        """Somebody changes some fields of a record."""
        device = self._device(site)
        self.write(device, self._some_edit(device, data))

    @rule(site=_sites, data=st.data())
    def replace(self, site: int, data: st.DataObject) -> None:
        """A program overwrites a record with INSERT OR REPLACE."""
        device, model = self._device(site), self._model(data)
        keys, rows = self.keys(model, device), self.rows(model, device)
        if keys and not rows.is_empty:
            row = data.draw(rows) | {key_of(model).name: data.draw(st.sampled_from(keys))}
            self.write(device, lambda: model.insert(row).on_conflict_replace().execute())

    @rule(site=_sites, data=st.data())
    def write_in_bulk(self, site: int, data: st.DataObject) -> None:
        """One SQL statement changes some columns of every record."""
        device, model = self._device(site), self._model(data)
        if changes := self._some_fields(device, model, data):
            self.write(device, lambda: model.update(changes).execute())

    @rule(site=_sites, data=st.data())
    def delete(self, site: int, data: st.DataObject) -> None:
        """Somebody deletes a record."""
        device, model = self._device(site), self._model(data)
        if keys := self.keys(model, device):
            self.delete_one(device, model, data.draw(st.sampled_from(keys)))

    def delete_one(self, device: WorldDevice, model: type[peewee.Model], key: Any) -> None:
        """Let somebody delete one record."""
        self.write(device, lambda: model.delete().where(key_of(model) == key).execute())

    @rule(data=st.data())
    def edit_apart(self, data: st.DataObject) -> None:
        """The same record is changed on every device that has it, by people who do not know of each other."""
        model = self._model(data)
        keys = sorted({key for device in self.devices for key in self.keys(model, device)})
        if keys:
            key = data.draw(st.sampled_from(keys))
            for site, device in enumerate(self.devices):
                if changes := self._some_fields(self._device(site), model, data):
                    self.write(device, update(model, key, changes))

    # -- what programs and networks do ---------------------------------------------------------------

    @rule(site=_sites, faults=_faults, cancel_at=st.none() | st.integers(1, 12))
    def sync(self, site: int, faults: list[Fault | None], cancel_at: int | None) -> None:
        """A device syncs; requests suffer ``faults``, and event number ``cancel_at`` makes it cancel."""
        self.let_sync(self._device(site), faults, cancel_at)

    @rule()
    def sync_everybody(self) -> None:
        """Every device syncs, and nothing comes in between."""
        for site in range(self.device_count):
            self.let_sync(self._device(site), [], None)

    @rule(site=_sites, faults=_faults, data=st.data())
    def sync_and_edit(self, site: int, faults: list[Fault | None], data: st.DataObject) -> None:
        """A device syncs, and somebody changes a record, rather one that goes up, during the first upload."""
        device = self._device(site)
        write = self._some_edit(device, data, prefer_pending=True)
        self.let_sync(device, faults, None, lambda: self.write(device, write))

    @rule(site=_sites, faults=_faults, data=st.data())
    def sync_one_object(self, site: int, faults: list[Fault | None], data: st.DataObject) -> None:
        """A device syncs one kind of record, and somebody changes any record during the first download."""
        device, one = self._device(site), self._model(data)
        write = self._some_edit(device, data)
        self.let_sync(device, faults, None, lambda: self.write(device, write), during=Part.DOWNLOAD, only=one)

    @rule(site=_sites, at=st.integers(1, 200), faults=_faults)
    def crash(self, site: int, at: int, faults: list[Fault | None]) -> None:
        """A program that opens its store and syncs ends at its point number ``at``, if it has so many."""
        device = self._device(site)
        self._close_all()
        CrashPoints(lambda watch: self._live(device, faults, watch)).run_to(at)
        self._open_all()

    @rule(site=_sites)
    def reopen(self, site: int) -> None:
        """A program ends, and is started again."""
        device = self._device(site)
        device.close()
        device.open(self.hub)

    @rule(years=st.sampled_from([-10, 0, 10]))
    def jump(self, years: int) -> None:
        """The wall clock jumps, to so many years off."""
        self._clock.jump(years)

    # -- what must hold ------------------------------------------------------------------------------

    @invariant()
    def every_device_is_sound(self) -> None:
        """Hold every device to what must be true whenever no session runs."""
        while self._touched:
            device = self._touched.pop()
            with device.looking():
                self.check_at_rest(device)

    def check_at_rest(self, device: WorldDevice) -> None:
        """Hold one device, on which no session runs, to what must be true."""
        check_at_rest(device)
        check_feed(device, self.hub)

    def teardown(self) -> None:
        """End the faults, let everybody sync, and hold the world to its promises; then close it in any case.

        What is left open by a history that fails is in use for ever, and so would make the next ones fail.
        """
        with self._stack:
            self.before_the_end()
            for device in self.devices:
                device.remote.calm()
            for _ in range(2):
                for device in self.devices:
                    device.scope.sync(self.options)
            self.at_the_end()

    def before_the_end(self) -> None:
        """Take away what would keep a device from agreeing with the hub; here is nothing."""

    def at_the_end(self) -> None:
        """Hold the world, in which everybody has synced, to its promises."""
        check_converged(self.devices, self.hub)
        wrong = self.ledger.lost({device.name: device for device in self.devices}, self.hub)
        wrong += self.ledger.made_up(self.hub)
        assert not wrong, "\n".join(wrong)

    # -- how -----------------------------------------------------------------------------------------

    def _device(self, site: int) -> WorldDevice:
        device = self.devices[site % len(self.devices)]
        self._touched.add(device)
        return device

    def _model(self, data: st.DataObject) -> type[peewee.Model]:
        return data.draw(st.sampled_from(list(self.models)))

    def _some_fields(self, device: WorldDevice, model: type[peewee.Model], data: st.DataObject) -> Row:
        """Return new values of some fields; of none while there is no parent that a row needs."""
        rows = self.rows(model, device)
        if rows.is_empty:
            return {}
        row = data.draw(rows)
        names = sorted(row.keys() - {key_of(model).name})
        chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        return {name: row[name] for name in chosen}

    def _some_edit(self, device: WorldDevice, data: st.DataObject, *, prefer_pending: bool = False) -> Write:
        """Return what changes a record, or does nothing where there is none."""
        model = self._model(data)
        keys = self.keys(model, device)
        if prefer_pending:
            pending = {key for _, key in device.pending_keys()}
            keys = [key for key in keys if str(key) in pending] or keys
        if not keys:
            return lambda: None
        key, changes = data.draw(st.sampled_from(keys)), self._some_fields(device, model, data)
        return update(model, key, changes) if changes else lambda: None

    def write(self, device: WorldDevice, write: Write) -> None:
        """Let a write happen, and enter what it did to which records into the ledger."""
        before, pending = device.records(), device.pending_keys()
        with device.bound(), suppress(peewee.IntegrityError):
            write()
        after = device.records()
        for name, key in before.keys() | after.keys():
            self.ledger.note(
                device,
                name,
                key,
                before.get((name, key)),
                after.get((name, key)),
                was_pending=(name, key) in pending,
                has_left=(name, key) not in after and self.hub.has_had(name, key, device.clients),
            )

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
        """Let a device sync, all or ``only`` one model; it suffers ``faults``, and cancels at an event.

        ``meanwhile`` happens when the first batch of ``during`` has been started.
        """
        device.remote.inject(*faults)
        scope = device.store.scope(device.remote, device.own(only)) if only else device.scope
        follow = Follower(scope, cancel_at, meanwhile, during)
        with suppress(SyncCancelled, RemoteError, InDoubt, AllRejected):
            scope.sync(self.options, follow)
        device.remote.calm()
        device.note_client()

    def _live(self, device: WorldDevice, faults: list[Fault | None], watch: Watch) -> None:
        """Be the program of ``device``, in a process of its own."""
        self.hub.open()
        device.open(self.hub, watch)
        self.let_sync(device, faults, None)
        device.close()
        self.hub.close()

    def _close_all(self) -> None:
        for device in self.devices:
            device.close()
        self.hub.close()

    def _open_all(self) -> None:
        self.hub.open()
        for device in self.devices:
            device.open(self.hub)


def update(model: type[peewee.Model], key: Any, changes: Row) -> Write:
    """Return the write that changes one record."""
    return lambda: model.update(changes).where(key_of(model) == key).execute()
