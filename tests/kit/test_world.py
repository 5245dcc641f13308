"""The kit's own world, on the models of a small shop: 200 histories in every run, the same ones each time.

For longer runs with new ones: ``python -m tests.kit.soak``.
"""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync import UsageError
from statesync.testing import SyncWorld

from .shop import Article, Shelf


class World(SyncWorld):
    models = [Shelf, Article]

    @rule(site=st.integers(0, 7), again=st.sampled_from(["clear", "reset"]), data=st.data())
    def start_over(self, site: int, again: str, data: st.DataObject) -> None:
        """A program empties one kind of record, of which nothing waits, to fetch it from the hub again."""
        device = self._device(site)
        alone = device.store.scope(device.remote, self._model(data))
        if not alone.pending():
            getattr(alone, again)()

    @rule(site=st.integers(0, 7))
    def take_back(self, site: int) -> None:
        """A program undoes what waits, unless some of it may have reached the hub."""
        device = self._device(site)
        with suppress(UsageError):
            self.write(device, device.store.rollback)


class CrowdedWorld(World):
    device_count = 3


QUICK = settings(
    max_examples=150,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
)

TestWorld = World.TestCase
TestWorld.settings = QUICK
TestCrowdedWorld = CrowdedWorld.TestCase
TestCrowdedWorld.settings = settings(QUICK, max_examples=50)
