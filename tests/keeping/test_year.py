"""A year of a keeper's life, under two hundred seeds."""

from __future__ import annotations

import pytest
from attrs import evolve
from rig.search import examples

from statesync.keeping import ending

from .year import Year

pytestmark = pytest.mark.long

AT_ONCE = 25


@pytest.mark.parametrize("first", range(0, examples(200), AT_ONCE))
def test_every_change_of_a_year_is_synced_and_no_session_begins_where_none_may(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        year = Year(seed)
        year.live()
        assert year.sessions > 300


def years(count: int) -> None:
    for seed in range(count):
        Year(seed).live()


def test_a_keeper_that_sleeps_after_a_failure_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ending._waiting
    monkeypatch.setattr(ending, "_waiting", lambda now, event: evolve(waiting(now, event), due=None))
    with pytest.raises(AssertionError, match="has waited"):
        years(20)


def test_a_keeper_that_obeys_any_retry_after_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "LONGEST_RETRY_AFTER", 1e12)
    with pytest.raises(AssertionError, match="has waited"):
        years(20)


def test_a_keeper_that_forgets_its_gap_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ending._waiting
    monkeypatch.setattr(ending, "_waiting", lambda now, event: evolve(waiting(now, event), earliest=0.0))
    with pytest.raises(AssertionError, match="within the gap"):
        years(20)
