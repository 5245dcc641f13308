"""A hub in a ``SyncWorld`` that is restored from backups, and that forgets deletes, amid everything else.

What a restored hub has lost comes back from every device that has it. What was deleted, and forgotten by the
hub, comes back by nobody: whoever has missed the delete meets it as a conflict. And whatever of it a hub may
have had, a record that is deleted on its device is deleted there as well.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.errors import AllRejected, InDoubt, RemoteError, UsageError
from statesync.testing.faults import Fault
from statesync.testing.rest import check_at_rest, check_feed
from statesync.testing.sites import WorldDevice
from statesync.testing.world import SyncWorld, Write, update

Fate = Literal["lost", "doubted", "restored", "kept"]
Sequel = Literal["reads on", "is edited", "hub is restored"]
_Place = tuple[str, str]
_sites = st.integers(0, 7)


class RestoredHub(SyncWorld):
    """A world whose hub does not keep what it has, or had."""

    def __init__(self) -> None:
        super().__init__()
        self._forgotten: set[_Place] = set()
        self._forgotten_in_backup: set[_Place] | None = None
        self._made_anew: set[_Place] = set()

    # -- what becomes of the hub ---------------------------------------------------------------------

    @rule()
    def back_up(self) -> None:
        """Somebody makes a backup of the hub's database, if anything was ever synced with it."""
        if self.hub.epoch() is not None:
            self.hub.back_up()
            self._forgotten_in_backup = set(self._forgotten)

    @rule(syncs=st.booleans())
    def restore(self, syncs: bool) -> None:
        """The hub is restored from its backup, and whoever has seen most of it finds that out."""
        if self._forgotten_in_backup is None:
            return
        if syncs:
            self.sync_everybody()
        self._close_all()
        self.hub.restore()
        self._open_all()
        self._forgotten = set(self._forgotten_in_backup)
        furthest = max(self.devices, key=WorldDevice.head)
        self.let_sync(self._device(self.devices.index(furthest)), [], None)

    @rule()
    def forget_deletes(self) -> None:
        """The hub forgets all deletes, as if those were older than it keeps them."""
        deleted = self.hub.forget_deletes()
        self._forgotten |= deleted
        self._made_anew -= deleted

    # -- what programs do ----------------------------------------------------------------------------

    @rule(site=_sites, fate=st.sampled_from(["lost", "doubted", "restored", "kept"]), data=st.data())
    def make_and_delete(self, site: int, fate: Fate, data: st.DataObject) -> None:
        """Somebody makes a record; what becomes of it at the hub is its ``fate``; somebody deletes it."""
        device, model = self._device(site), self._model(data)
        before = set(self.keys(model, device))
        self.back_up()
        self.create(site, data)
        self.suffer(site, fate)
        for made in sorted(set(self.keys(model, device)) - before):
            self.delete_one(device, model, made)

    def suffer(self, site: int, fate: Fate) -> None:
        """Let what waits on a device go up, if its fate is not to be ``kept`` here.

        ``lost``: the hub is restored, and the device reads it again. ``doubted``: the answer is lost, the hub
        is restored from a backup that has it, and the device hears of that when it asks again. ``restored``:
        the same with a backup that has not.
        """
        device, other = self._device(site), self._device(site + 1)
        if fate == "lost":
            self.let_sync(device, [], None)
            self.restore(syncs=False)
        elif fate in ("doubted", "restored"):
            self.let_sync(device, [Fault.LOSE_ANSWER] * 2, None)
            if fate == "doubted":
                self.back_up()
            self.let_sync(other, [], None)
            self.restore(syncs=False)
            self.let_sync(device, [None, *[Fault.REFUSE] * 2], None)

    @rule(
        site=_sites,
        pages=st.integers(0, 6),
        then=st.sampled_from(["reads on", "is edited", "hub is restored"]),
        data=st.data(),
    )
    def miss_a_delete(self, site: int, pages: int, then: Sequel, data: st.DataObject) -> None:
        """A record is deleted and forgotten while a device is away, which then begins to read again."""
        home, model = self._device(site), self._model(data)
        self.sync_everybody()
        if keys := self.keys(model, home):
            key = data.draw(st.sampled_from(keys))
            self.delete_one(home, model, key)
            self.let_sync(home, [], None)
            self.forget_deletes()
            self.back_up()
            for _ in range(2):
                self.create(site, data)
            self.let_sync(home, [], None)
            changes = self._some_fields(home, model, data)
            self.come_back(site + 1, pages, then, update(model, key, changes) if changes else lambda: None)

    def come_back(self, site: int, pages: int, then: Sequel, edit: Write) -> None:
        """Let a device that was away begin to read again: so many ``pages``, of one record each."""
        away = self._device(site)
        away.remote.inject(*[None] * (pages + 1), *[Fault.REFUSE] * 2)
        with suppress(RemoteError, InDoubt, AllRejected):
            away.scope.sync(evolve(self.options, download_batch_size=1))
        away.remote.calm()
        if then == "is edited":
            self.write(away, edit)
        elif then == "hub is restored":
            self.restore(syncs=False)

    @rule(site=_sites)
    def take_back(self, site: int) -> None:
        """A program undoes what waits, unless some of it may have reached the hub."""
        device = self._device(site)
        waiting = device.pending_keys()
        with suppress(UsageError):
            device.store.rollback()
            for place in waiting:
                self.ledger.let_go(device, *place)

    @rule(site=_sites)
    def start_anew(self, site: int) -> None:
        """A program forgets its hub, and keeps its records: it offers them all, to the same hub."""
        device = self._device(site)
        if not device.has_doubt():
            device.store.reset(keep_records=True)
            self._made_anew |= device.records().keys()

    # -- what must hold ------------------------------------------------------------------------------

    def write(self, device: WorldDevice, write: Write) -> None:
        """Let a write happen; a record that is made may have the key of one that was deleted."""
        before = device.records().keys()
        super().write(device, write)
        self._made_anew |= device.records().keys() - before

    def check_at_rest(self, device: WorldDevice) -> None:
        """Hold a device to what must be true; what it had read of another epoch it has all the same."""
        check_at_rest(device)
        if device.epoch() == self.hub.epoch():
            check_feed(device, self.hub)

    def before_the_end(self) -> None:
        """Let everybody read what a restored hub has, and offer what it has lost."""
        for device in self.devices * 2:
            self.let_sync(device, [], None)
        super().before_the_end()

    def at_the_end(self) -> None:
        """Hold the world to its deletes: what was forgotten is gone, or its return is in a conflict log."""
        super().at_the_end()
        back = self._forgotten & self.hub.living() - self._made_anew
        silently = [place for place in back if not any(one.conflicts(*place) for one in self.devices)]
        assert not silently, f"what was deleted long ago has come back without a conflict: {silently}"
