"""A year of a keeper's life: seventy-five seeds in the ordinary run, and 1,200 in the longer one of CI."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from attrs import evolve
from rig.search import examples

from statesync.keeping import ending
from statesync.lifecycle import KeeperPhase
from statesync.testing import KeeperOptions, KeeperWorld

pytestmark = pytest.mark.long

AT_ONCE = 25


@pytest.mark.parametrize("first", range(0, examples(25, 1200), AT_ONCE))
def test_every_change_of_a_year_is_synced_and_no_session_begins_where_none_may(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        year = KeeperWorld(seed)
        year.live()
        assert year.sessions > 60


def years(count: int) -> None:
    for seed in range(count):
        KeeperWorld(seed).live()


@pytest.mark.sabotage
def test_a_keeper_that_sleeps_after_a_failure_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ending._waiting
    monkeypatch.setattr(ending, "_waiting", lambda now, event: evolve(waiting(now, event), due=None))
    with pytest.raises(AssertionError, match="has waited"):
        years(20)


@pytest.mark.sabotage
def test_a_keeper_that_obeys_any_retry_after_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "LONGEST_RETRY_AFTER", 1e12)
    with pytest.raises(AssertionError, match="has waited"):
        years(60)


@pytest.mark.sabotage
def test_a_keeper_that_forgets_its_gap_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ending._waiting
    monkeypatch.setattr(ending, "_waiting", lambda now, event: evolve(waiting(now, event), earliest=0.0))
    with pytest.raises(AssertionError, match="within the gap"):
        years(20)


# -- a program's own world -----------------------------------------------------------------------------------


class Till(KeeperWorld):
    """A till that syncs every hour, on the wire alone, and is carried into the cellar now and then."""

    days = 20.0
    cellars = 0
    checks = 0

    def options(self) -> KeeperOptions:
        return KeeperOptions(every=3600, on_change=True, conditions=("on_the_wire",))

    def events(self) -> Mapping[Callable[[], None], int]:
        return {self.change: 10, self.cellar: 5, self.sleep: 1}

    def cellar(self) -> None:
        self.cellars += 1
        self.change()
        self.conditions_fail_and_hold()

    def check(self) -> None:
        self.checks += 1
        assert self.phase is not KeeperPhase.STOPPED


def test_a_program_has_a_world_of_its_own() -> None:
    till = Till(3)
    till.live()
    assert till.cellars > 0
    assert till.checks >= till.cellars
    assert till.sessions > 20 * 20
    assert till.waiting < 10
    again = Till(3)
    again.live()
    assert (again.sessions, again.now) == (till.sessions, till.now)


def test_what_a_program_expects_of_its_world_is_held_against_it() -> None:
    class Impatient(Till):
        def check(self) -> None:
            assert not self.waiting, "a change waits"

    with pytest.raises(AssertionError, match="a change waits"):
        Impatient(3).live()
