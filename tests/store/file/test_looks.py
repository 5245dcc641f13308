"""When a thread looks for commits: soon where more may follow, and seldom where nothing happens."""

from __future__ import annotations

from itertools import pairwise

import pytest

from statesync.store.file import looks
from statesync.store.file.looks import Looks


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(looks, "time", clock)
    return clock


def looked(rhythm: Looks, clock: Clock, seconds: float) -> list[float]:
    """Look after each pause, and return the pauses."""
    until, pauses = clock.now + seconds, list[float]()
    while clock.now < until:
        pauses.append(rhythm.pause)
        clock.now += pauses[-1]
    return pauses


def test_an_hour_of_rest_takes_four_looks_a_second_and_not_fifty(clock: Clock) -> None:
    pauses = looked(Looks(lambda: None), clock, 3600.0)
    assert len(pauses) < 3600 * 4.1
    assert max(pauses) == 0.25, "what another process commits is found a quarter of a second later at most"


def test_what_goes_on_is_looked_for_fifty_times_a_second(clock: Clock) -> None:
    rhythm = Looks(lambda: None)
    looked(rhythm, clock, 60.0)
    rhythm.stir()
    assert set(looked(rhythm, clock, 0.3)) == {0.02}


def test_a_pause_never_grows_by_more_than_a_tenth_at_a_time(clock: Clock) -> None:
    pauses = looked(Looks(lambda: None), clock, 60.0)
    assert all(later <= earlier * 1.1 for earlier, later in pairwise(pauses))


def test_one_of_many_commits_wakes_it_and_the_rest_are_for_its_next_look(clock: Clock) -> None:
    woken: list[float] = []
    rhythm = Looks(lambda: woken.append(clock.now))
    for _ in range(100):
        rhythm.commit()
        clock.now += 0.001
    assert woken[0] == 1000.0
    assert 4 <= len(woken) <= 5
