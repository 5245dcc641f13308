"""Scans of the hub against its model, and against what a device has to hold that believes every page.

So the real hub is held to what the proofs take for granted, and to the promise by itself: whoever scans, and
follows the feed from where the scan began, has in the end what the hub has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from rig.search import examples

from statesync.hub import Hub
from statesync.verify.modelled.wire import Feed, Page, Refusal, Scan, Scanned

from ..test_model import FILTER, KEYS, OBJECTS, READERS, SpaceMachine, hub_like_the_model

PLACES = ["", *KEYS]


@define
class Scanning:
    """How a device reads one object, and what it holds of it."""

    cursor: int = 0
    scan: Scan | None = field(factory=Scan)
    held: dict[str, Any] = field(factory=dict)

    def feed(self, name: str) -> Feed:
        return Feed(name, self.cursor, own=self.scan is not None and self.scan.since > 0, scan=self.scan)

    def begin_anew(self) -> None:
        self.cursor, self.scan = 0, Scan()

    def take(self, name: str, page: Page) -> None:
        """Do what a page says: replace the range that it has looked at, or follow the feed."""
        entries = {each.key: each.data for each in page.entries if each.object == name}
        scanned = dict(page.scans).get(name)
        if scanned is not None:
            self.replace(scanned, {*entries, *scanned.stubs})
        for key, data in entries.items():
            self.held.pop(key, None)
            if data is not None:
                self.held[key] = data
        self.cursor = dict(page.cursors)[name]

    def replace(self, scanned: Scanned, shown: set[str]) -> None:
        asked = self.scan
        assert asked is not None
        assert scanned.done or asked.after < scanned.last <= scanned.until, "it leads somewhere"
        gone = [key for key in self.held if asked.after < key and (scanned.done or key <= scanned.last)]
        for key in gone:
            if key not in shown:
                del self.held[key]
        if scanned.done:
            self.scan = None if scanned.since else Scan()
        else:
            self.scan = Scan(scanned.since, scanned.last, scanned.until)


BEGUN = st.builds(Scan, spares=st.booleans())
GOES_ON = st.builds(Scan, st.integers(0, 9), *[st.sampled_from(PLACES)] * 2, spares=st.booleans())
SCANS = st.none() | BEGUN | GOES_ON


class ScanMachine(SpaceMachine):
    """Asks for scans besides all the rest: any, and those of devices that go on with their own."""

    def __init__(self) -> None:
        super().__init__()
        self.scanning = {of: Scanning() for of in OBJECTS}

    @rule(
        name=st.sampled_from(READERS),
        scans=st.fixed_dictionaries(dict.fromkeys(OBJECTS, SCANS)),
        cursors=st.fixed_dictionaries({name: st.integers(0, 9) for name in OBJECTS}),
        own=st.booleans(),
        filtered=st.booleans(),
        limit=st.integers(1, 4),
    )
    def scan(
        self,
        name: str,
        scans: dict[str, Scan | None],
        cursors: dict[str, int],
        own: bool = False,
        filtered: bool = False,
        limit: int = 2,
    ) -> None:
        """Any position and any end, since any version; other objects may be in their feeds."""
        wanted = FILTER if filtered else None
        feeds = [
            Feed(of, self.version(cursors[of]), own, wanted, 0, self.sensible(scan))
            for of, scan in scans.items()
        ]
        self.ask(self.clients[name], feeds, limit)

    def sensible(self, scan: Scan | None) -> Scan | None:
        """Return a scan that a hub may be asked for."""
        if scan is None:
            return None
        since = self.version(scan.since) if scan.until else 0
        begun = Scan(spares=scan.spares)
        return (
            evolve(begun, since=since, after=min(scan.after, scan.until), until=scan.until)
            if since
            else begun
        )

    @rule(pages=st.integers(1, 6), limit=st.integers(1, 3))
    def go_on(self, pages: int, limit: int) -> None:
        """Some pages on: in the end, a device that only reads holds what the hub has."""
        objects, client = self.scanning, self.clients["dan"]
        for _ in range(pages):
            page = self.ask(client, [each.feed(of) for of, each in objects.items()], limit)
            if isinstance(page, Refusal):
                for each in objects.values():
                    each.begin_anew()
                return
            for of, each in objects.items():
                each.take(of, page)
            if not page.more:
                self.check_all_is_there()
                return

    def check_all_is_there(self) -> None:
        for of, each in self.scanning.items():
            living = {found.key: found.data for found in self.model.records if found.object == of}
            assert each.held == {key: data for key, data in living.items() if data is not None}


@pytest.fixture(scope="module")
def shared_hub(lasting_database: Any) -> Iterator[Hub]:
    yield from hub_like_the_model(lasting_database)


def test_a_space_is_scanned_as_its_model_is(shared_hub: Hub) -> None:
    class Machine(ScanMachine):
        hub = shared_hub

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples(10, 150),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )
