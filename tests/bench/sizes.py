"""How much of everything a run of the benchmark moves."""

from __future__ import annotations

from attrs import frozen


@frozen
class Sizes:
    """Numbers of records and of repetitions."""

    orders: tuple[str, ...] = ("random", "ordered")
    records: int = 100_000
    uploads: int = 20_000
    writes: int = 20_000
    repeat: int = 5
    often: int = 11
    """Repetitions of what takes less than a second, and is moved the more by what else goes on."""
    syncs: int = 200
    cancels: int = 200
    growth: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    sessions: int = 10_000
    requests: int = 1200
    shared: int = 3000
    postgres: bool = True


FULL = Sizes()
QUICK = Sizes(
    records=10_000,
    uploads=3_000,
    writes=5_000,
    repeat=3,
    often=3,
    syncs=15,
    cancels=30,
    growth=(4_000, 10_000),
    sessions=1_000,
    requests=120,
    shared=600,
    postgres=False,
)
