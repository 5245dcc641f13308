from __future__ import annotations

from hypothesis import HealthCheck, settings

from statesync.testing.world import SyncWorld

from .shop import Article, Shelf


class World(SyncWorld):
    models = [Shelf, Article]


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=10,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
