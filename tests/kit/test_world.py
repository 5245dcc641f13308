"""The kit's own world, on the models of a small shop: 200 histories in every run, the same ones each time.

For longer runs with new ones: ``python -m tests.kit.soak``.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from statesync.testing import SyncWorld

from .shop import Article, Shelf


class World(SyncWorld):
    models = [Shelf, Article]


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
