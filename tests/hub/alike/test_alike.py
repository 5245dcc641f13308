"""A hub on SQLite and one on PostgreSQL answer alike and keep alike, whatever they are asked.

For 20,000 requests: ``PYTHONPATH=tests python -m hub.alike.soak``, or ``STATESYNC_SEARCH=125``
and ``--timeout 0`` with this file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import evolve
from rig.postgres import empty_schema
from rig.search import examples

from .pair import Pair, opened, seeds_of
from .soak import HISTORY


@pytest.fixture(scope="module")
def pair(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("alike")
    with opened({"sqlite": f"sqlite:///{folder}/hub.db", "postgres": empty_schema(postgres)}) as both:
        yield both


def test_both_databases_answer_and_keep_the_same_whatever_is_asked(pair: Pair) -> None:
    for number in range(examples(4)):
        seeds = seeds_of(number, HISTORY)
        if pair.run(seeds):
            shortest = pair.shortest(seeds)
            pytest.fail(f"history {number}, shortened to {shortest}:\n{pair.run(shortest)}")
    answered = {what for what, count in pair.seen.items() if count}
    assert {"push 200", "pull 200", "survey 200", "push 400 malformed", "pull 403 forbidden"} <= answered


def test_hubs_that_differ_are_noticed_and_the_history_is_shortened(pair: Pair) -> None:
    hub = pair.sides[1].hub
    kept = hub.limits
    hub.limits = evolve(kept, page=1, default_page=1)
    try:
        seeds = next(
            seeds for seeds in (seeds_of(number, HISTORY) for number in range(20)) if pair.run(seeds)
        )
        shortest = pair.shortest(seeds)
        told = str(pair.run(shortest))
    finally:
        hub.limits = kept
    assert len(shortest) < 8
    assert "the answers differ" in told
    assert "verb='pull'" in told
