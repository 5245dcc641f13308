"""What reads from the start meet in a ``SyncWorld``: pages stored in parts, and hubs of two versions."""

from __future__ import annotations

from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import rule
from msgspec.structs import replace

from statesync.hub import LocalRemote
from statesync.store.cursors.cursor import MISSED_DELETES, UNLOGGED
from statesync.store.download import scans
from statesync.testing import SyncWorld
from statesync.testing.sites import read_again
from statesync.wire import Page, Pull

_ask = LocalRemote.pull

_sites = st.integers(0, 7)
_ways = st.lists(st.sampled_from(["session", "process", "crash"]), min_size=1, max_size=3)
"""What ends a part of a scan: a cancel, with a new session or a new process that goes on; or a crash."""


class Scanned(SyncWorld):
    """A world whose pages of scans answer for few rows, and whose hub may be one of the version before."""

    def __init__(self) -> None:
        super().__init__()
        self._knows_scans = True
        self._stack.enter_context(mock.patch.object(scans, "MOST_ROWS", 2))
        self._stack.enter_context(
            mock.patch.object(LocalRemote, "pull", lambda remote, request: self._pull(remote, request))
        )

    @rule(knows_scans=st.booleans())
    def change_hub(self, knows_scans: bool) -> None:
        """The hub becomes one of the version before, which passes over scans, or of this one."""
        self._knows_scans = knows_scans

    @rule(
        site=_sites,
        why=st.sampled_from([MISSED_DELETES, UNLOGGED]),
        ways=_ways,
        at=st.integers(3, 9),
        data=st.data(),
    )
    def read_in_parts(self, site: int, why: str, ways: list[str], at: int, data: st.DataObject) -> None:
        """A device reads everything again, and is broken off each time; both sides write in between."""
        for _ in range(3):
            self.create(site + 1, data)
        self.let_sync(self._device(site + 1), [], None)
        read_again(self._device(site), why)
        for way in ways:
            if way == "crash":
                self.crash(site, 12 * at, [])
            else:
                self.let_sync(self._device(site), [], at)
            if way == "process":
                self.reopen(site)
            self.every_device_is_sound()
            self.edit(site + data.draw(st.integers(0, 1)), data)
            self.let_sync(self._device(site + 1), [], None)

    def _pull(self, remote: LocalRemote, request: Pull) -> Page:
        if not self._knows_scans:
            feeds = {name: replace(feed, scan=None) for name, feed in request.objects.items()}
            request = replace(request, objects=feeds)
        return _ask(remote, request)
