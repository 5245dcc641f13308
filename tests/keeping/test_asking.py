"""When a hub is asked for news again: judged by what its hub sees, and what is between them."""

from __future__ import annotations

import pytest

from statesync import RemoteError, Unauthorized, Unreachable
from statesync.keeping.asking import Asking


def lost(status: int | None = None, retry_after: float | None = None) -> RemoteError:
    return RemoteError("no answer", status=status, retry_after=retry_after)


def test_at_first_a_hub_is_asked_at_once_and_may_take_its_time() -> None:
    assert (Asking().wait, Asking().at <= 0.0) == (25.0, True)


def test_a_hub_that_is_away_is_asked_less_and_less_often_and_once_a_minute_at_least() -> None:
    asking, pauses = Asking(), []
    for _ in range(12):
        asking = asking.failed(lost(), 100.0, 100.0, chance=1.0)
        pauses.append(asking.at - 100.0)
    assert pauses[:3] == [2.0, 4.0, 8.0]
    assert pauses[-1] == 60.0
    assert asking.answered(0.0).failures == 0


def test_a_hub_that_nobody_can_connect_to_for_long_is_away_and_nobody_has_cut_the_question() -> None:
    """A firewall that lets nothing through keeps each attempt to connect for ten seconds."""
    asking = Asking()
    for failures, pause in enumerate([2.0, 4.0, 8.0], 1):
        asking = asking.failed(Unreachable("no connection"), 100.0, 110.0, chance=1.0)
        assert (asking.at - 110.0, asking.wait, asking.failures) == (pause, 25.0, failures)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_nobody_comes_before_the_hub_has_asked_for_and_not_all_in_one_moment(chance: float) -> None:
    asking = Asking().failed(lost(503, 20.0), 100.0, 110.0, chance)
    assert asking.at == pytest.approx(130.0 + chance)


def test_no_hub_keeps_a_device_from_asking_for_longer_than_an_hour() -> None:
    assert Asking().failed(lost(503, 1e9), 100.0, 100.0, 0.0).at <= 100.0 + 3600.0


def test_a_proxy_that_cuts_after_twenty_seconds_is_found_out_and_costs_a_second() -> None:
    """The next question has its answer before that; once in a while a longer one is tried."""
    asking, cuts, now = Asking(), 0, 0.0
    for _ in range(100):
        if asking.wait > 20.0:
            asking = asking.failed(lost(), now, now + 20.0, chance=0.5)
            assert asking.at - (now + 20.0) <= 1.0
            cuts += 1
        else:
            asking = asking.answered(now)
        now += 20.0
        assert asking.wait >= 15.0
    assert cuts <= 30


def test_a_hub_that_has_just_ended_is_not_asked_for_no_time_at_all_ever_after() -> None:
    asking = Asking().failed(lost(), 100.0, 101.5, chance=0.5)
    assert 2.0 <= asking.wait < 3.0
    for _ in range(30):
        asking = asking.answered(0.0)
    assert asking.wait == 25.0


@pytest.mark.parametrize("status", [404, 405, 501, 401, 403])
def test_who_does_not_know_the_question_or_refuses_it_is_asked_seldom(status: int) -> None:
    asking = Asking().failed(lost(status), 100.0, 100.0, 0.5)
    assert asking.at == 3700.0
    assert asking.is_refused == (status in (401, 403))


@pytest.mark.parametrize("status", [404, 405, 501, 401, 403])
def test_a_hub_that_has_answered_before_is_asked_again_within_a_minute(status: int) -> None:
    asking, now = Asking().answered(99.0), 100.0
    for _ in range(20):
        asking = asking.failed(lost(status), now, now, 1.0)
        assert now < asking.at <= now + 60.0
        assert asking.is_refused == (status in (401, 403))
        now = asking.at
    assert not asking.answered(now).is_refused


def test_where_there_is_no_token_to_ask_with_that_is_a_refusal() -> None:
    assert Asking().failed(Unauthorized("none at present"), 100.0, 100.0, 0.5).is_refused


def test_what_answers_at_once_with_nothing_new_is_asked_once_in_a_second() -> None:
    assert Asking().answered(100.0).at == 101.0
