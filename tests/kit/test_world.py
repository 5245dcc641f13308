"""The kit's own world, on the models of a small shop: the same twenty histories in every run.

For longer runs with new ones: ``PYTHONPATH=tests python -m kit.soak``.
"""

from __future__ import annotations

from contextlib import suppress
from unittest import mock

import pytest
from attrs import evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from rig.search import examples

from statesync import UsageError
from statesync.testing import Fault, SyncWorld
from statesync.testing.moves.beside import Beside
from statesync.testing.moves.damage import DamagedPages
from statesync.testing.moves.keys import OddKeys
from statesync.testing.moves.later import Decisions
from statesync.testing.moves.local import LocalWrites
from statesync.testing.moves.misfits import Misfits
from statesync.testing.moves.refusals import Refusals
from statesync.testing.moves.restored import RestoredHub
from statesync.testing.moves.sql import RawSql
from statesync.testing.sites import WorldDevice

from .scanned import Scanned
from .shop import Article, Shelf

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

_sites = st.integers(0, 7)
_faults = st.lists(st.none() | st.sampled_from(Fault), max_size=4)


class Indexed(SyncWorld):
    """Its tables have indexes that are not unique, which may be gone while they are filled."""

    def check_at_rest(self, device: WorldDevice) -> None:
        super().check_at_rest(device)
        with device.looking() as found:
            there = found.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
            marked = found.execute("SELECT name FROM statesync_index").fetchall()
        assert {("shelf_name",), ("article_count",)} <= {*there, *marked}


class World(Scanned, Indexed, Decisions, RawSql, OddKeys, Beside, Refusals, LocalWrites):
    models = [Shelf, Article]

    @rule(site=_sites, again=st.sampled_from(["clear", "reset"]), data=st.data())
    def start_over(self, site: int, again: str, data: st.DataObject) -> None:
        """A program empties one kind of record, of which nothing waits, to fetch it from the hub again."""
        device = self._device(site)
        alone = device.store.scope(device.remote, device.own(self._model(data)))
        if not alone.pending():
            getattr(alone, again)()
            for name in alone.objects:
                self.forget_local(device, name)

    @rule(site=_sites, sold=st.booleans(), faults=_faults, cancel_at=st.none() | st.integers(1, 12))
    def sync_some(self, site: int, sold: bool, faults: list[Fault | None], cancel_at: int | None) -> None:
        """A device syncs, and wants some of the articles only."""
        narrowed = evolve(self.options, filter={"Article": {"sold": sold}})
        with mock.patch.object(self, "options", narrowed):
            self.let_sync(self._device(site), faults, cancel_at)

    @rule(site=_sites, data=st.data())
    def hold_back(self, site: int, data: st.DataObject) -> None:
        """Somebody wants a change to wait."""
        device = self._device(site)
        if pending := sorted(device.pending_keys()):
            device.store.defer(device.record(*data.draw(st.sampled_from(pending))))

    @rule(site=_sites)
    def let_go(self, site: int) -> None:
        """What was held back may go up."""
        device = self._device(site)
        device.store.mark_for_upload(*(device.record(*place) for place in device.pending_keys()))

    @rule(site=_sites)
    def take_back(self, site: int) -> None:
        """A program undoes what waits, unless some of it may have reached the hub."""
        device = self._device(site)
        waiting = device.pending_keys()
        with suppress(UsageError):
            device.store.rollback()
            for place in waiting:
                self.ledger.let_go(device, *place)

    def before_the_end(self) -> None:
        """Let go of everything."""
        for site in range(self.device_count):
            self.let_go(site)
        super().before_the_end()


class CrowdedWorld(World):
    device_count = 3


class SpoiltWorld(Scanned, DamagedPages):
    models = [Shelf, Article]


class MisfitWorld(Scanned, Misfits):
    models = [Shelf, Article]


class RestoredWorld(Scanned, Indexed, RestoredHub):
    models = [Shelf, Article]


class StrictWorld(Scanned, Refusals):
    """A world whose hub refuses most records from the start."""

    models = [Shelf, Article]

    def __init__(self) -> None:
        super().__init__()
        self.refuse_large_records(50)


QUICK = settings(
    max_examples=examples(2, 30),
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
)

TestWorld = World.TestCase
TestWorld.settings = QUICK
TestCrowdedWorld = CrowdedWorld.TestCase
TestCrowdedWorld.settings = settings(QUICK, max_examples=examples(1, 18))
TestSpoiltWorld = SpoiltWorld.TestCase
TestSpoiltWorld.settings = settings(QUICK, max_examples=examples(1, 18))
TestMisfitWorld = MisfitWorld.TestCase
TestMisfitWorld.settings = settings(QUICK, max_examples=examples(1, 18))
TestRestoredWorld = RestoredWorld.TestCase
TestRestoredWorld.settings = settings(QUICK, max_examples=examples(1, 24))
TestStrictWorld = StrictWorld.TestCase
TestStrictWorld.settings = settings(QUICK, max_examples=examples(1, 24), stateful_step_count=20)
