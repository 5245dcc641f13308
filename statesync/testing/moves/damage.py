"""Damaged pages in a ``SyncWorld``: a disk spoils a page of a device's file, and the program repairs it.

What the repair says is gone may be gone on the device, and the changes that waited there with it. Everything
else holds as before: no record is deleted at the hub or overwritten by that, and the next sync heals.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.errors import StoreCorrupt
from statesync.scope import Store
from statesync.testing.moves.local import LocalWrites
from statesync.testing.sites import Known, WorldDevice

_SESSIONS = 4
"""So many new sessions, and none is looked at whose journal was damaged."""
_JOURNAL = {"statesync_session", "statesync_transition", "statesync_batch"}

_Waiting = dict[tuple[str, str], str]
_sites = st.integers(0, 7)


class DamagedPages(LocalWrites):
    """A world in which disks spoil pages too, now and then."""

    @rule(
        site=_sites, page=st.integers(0, 1 << 16), zeros=st.booleans(), is_now=st.sampled_from([0, 0, 0, 1])
    )
    def damage(self, site: int, page: int, zeros: bool, is_now: int) -> None:
        """A page of a closed file is spoilt; its program finds that, repairs the file, and syncs."""
        if is_now:
            device = self._device(site)
            waiting = {(one.object, one.key): one.operation for one in device.store.pending()}
            device.close()
            gone = spoil_and_repair(device.path, page, zeros=zeros)
            device.open(self.hub)
            self._expect_less(device, waiting, gone)
            self._heal(device, waiting, gone)

    def _expect_less(self, device: WorldDevice, waiting: _Waiting, gone: set[str]) -> None:
        """Let go of what may be gone with the tables that have lost rows."""
        for name, tracked in device.objects.items():
            if gone & {tracked.table, tracked.log, "statesync_change"}:
                for place in waiting:
                    if place[0] == name:
                        self.ledger.let_go(device, *place)
            if "statesync_local" in gone:  # what was local only is ordinary now, and the hub has none of it
                device.once_local |= {
                    (of, key) for who, of, key in self._local if (who, of) == (device.name, name)
                }
            if gone & {tracked.table, "statesync_local"}:
                self.forget_local(device, name)
        if "statesync_conflict" in gone:
            self.ledger.forget(device)

    def _heal(self, device: WorldDevice, waiting: _Waiting, gone: set[str]) -> None:
        """Let the device sync, and hold the hub to what it had."""
        before = self.hub.records(device.objects)
        for _ in range(_SESSIONS if gone & _JOURNAL else 1):
            self.let_sync(device, [], None)
        _check_kept(before, self.hub.records(device.objects), waiting)
        found = device.store.examine()
        assert found == [], f"{device.name} is not sound after its repair: {found}"


def spoil_and_repair(path: Path, page: int, *, zeros: bool) -> set[str]:
    """Spoil a page of a closed file, and repair it; return the tables that have lost rows.

    What SQLite does not see, and what is beyond repair, is undone: there a backup is what helps.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    sound = path.read_bytes()
    begin = page % (len(sound) // size) * size
    spoilt = (
        bytes(size)
        if zeros
        else b"".join(blake2b(b"%d %d" % (page, at)).digest() for at in range(0, size, 64))
    )
    damaged = sound[:begin] + spoilt + sound[begin + size :]
    path.write_bytes(damaged)
    try:
        if not _is_sound(path):
            with Store(path) as store:
                return {complaint.about for complaint in store.repair()}
    except StoreCorrupt:
        assert path.read_bytes() == damaged, f"{path.name} is beyond repair, and was changed all the same"
    path.write_bytes(sound)
    return set()


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except sqlite3.DatabaseError:
        return False


def _check_kept(before: Known, after: Known, waiting: _Waiting) -> None:
    for place, record in before.items():
        is_as_before = after.get(place) == record
        may_be_gone = waiting.get(place) == "delete"
        assert is_as_before or place in waiting, f"a repair has changed {place} at the hub"
        assert place in after or may_be_gone, f"a repair has deleted {place} at the hub"
