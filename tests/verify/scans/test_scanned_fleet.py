"""Any number of devices that read by scans, which are broken off anywhere, at hubs of both versions.

What the fleet of ``test_fleet`` goes through, and besides: deletes are forgotten, stores are cleared, and
the hub becomes one that knows no scans, and one that does.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from rig.search import examples

from statesync.verify.evolving import evolve
from statesync.verify.modelled import downloads, hub, others
from statesync.verify.modelled.device import write
from statesync.verify.modelled.wire import Refusal
from statesync.verify.system.scans import promises as scanning
from statesync.verify.system.worlds import text

from ..test_fleet import KEYS, READER, ROUND, WRITERS, Fleet


class ScannedFleet(Fleet):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = evolve(self.hub, scans=True)
        self.backups = [self.hub]
        self.pages: int | None = None
        """After how many pages a session is cancelled."""

    @rule(name=st.sampled_from(WRITERS), key=st.sampled_from(KEYS))
    def edit(self, name: str, key: str) -> None:
        """Nobody makes a record whose key another one has: keys are unique across devices."""
        device = self.devices[name]
        if self.edits < len(KEYS) or device.row(key) is not None or device.pending(key) is not None:
            super().edit(name, key)

    @rule(name=st.sampled_from(WRITERS), before=st.sampled_from(["a", *KEYS]))
    def make(self, name: str, before: str) -> None:
        self.edits += 1
        self.devices[name] = write(self.devices[name], f"{before}{name}{self.edits}", text(str(self.edits)))

    @rule(name=st.sampled_from(WRITERS), at=st.integers(0, 5), deletes=st.booleans())
    def change_any(self, name: str, at: int, deletes: bool) -> None:
        """What was made and deleted here alone is nothing, so that only what others may have is deleted."""
        keys = [key for key, _ in self.devices[name].rows]
        key = keys[at % len(keys)] if keys else ""
        if not keys or (deletes and not any(key == known for known, _ in self.written)):
            return
        self.edits += 1
        data = None if deletes else text(f"{name} {self.edits}")
        self.devices[name] = write(self.devices[name], key, data)

    @precondition(lambda self: self.restores < 1)
    @rule(at=st.integers(0, 9))
    def restore(self, at: int) -> None:
        super().restore(at)

    @rule(name=st.sampled_from([*WRITERS, READER]), pages=st.integers(1, 2))
    def sync_in_part(self, name: str, pages: int) -> None:
        self.pages = pages
        self.sync(name)
        self.pages = None

    @rule(name=st.sampled_from(WRITERS))
    def clear(self, name: str) -> None:
        device = self.devices[name]
        if device.hub is not None and not others.waits(device):
            self.devices[name] = others.cleared(device, discard_pending=False)

    @rule()
    def purge(self) -> None:
        self.hub = hub.purge(self.hub, self.hub.head)[0]

    @rule()
    def become_a_hub_of_another_version(self) -> None:
        self.hub = evolve(self.hub, scans=not self.hub.scans)

    def _download(self, name: str) -> Refusal | None:
        count = 0
        while True:
            device = self.devices[name]
            self.hub, page = hub.pull(self.hub, downloads.request(device), may_write=name != READER)
            if isinstance(page, Refusal):
                return page
            self.devices[name] = device = downloads.store(device, page)[0]
            is_scan = bool(page.scans) and name != READER
            assert not is_scan or scanning.has_passed_all(self.hub, device), f"{name}: {scanning.PASSED}"
            count += 1
            if not page.more or count == self.pages:
                return None


def test_a_fleet_that_reads_by_scans_comes_together_whatever_breaks_them_off() -> None:
    run_state_machine_as_test(ScannedFleet, settings=settings(ROUND, max_examples=examples(40)))
