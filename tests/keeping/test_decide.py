"""What a keeper does about every event, case by case, under a clock of the test's own."""

from __future__ import annotations

import pytest

from statesync.errors import BadOptions
from statesync.keeping.ending import back_off
from statesync.keeping.messages import (
    Changed,
    ConditionsAsked,
    Nudged,
    SessionEnded,
    Signalled,
    StopAsked,
    Ticked,
    TokenRenewed,
)
from statesync.keeping.options import KeeperOptions
from statesync.lifecycle import KeeperPhase, SessionEnd
from statesync.testing.keeping.life import Life

NO_GAP = KeeperOptions(every=300, min_gap=0, debounce=0.5)
GAP = KeeperOptions(every=300, min_gap=10, debounce=0.5)
ON_WIFI = KeeperOptions(every=300, min_gap=0, conditions=("on_wifi",))
LIVE = KeeperOptions(every=300, min_gap=0, live=True)
FAILS = frozenset({"on_wifi"})

RESTING, LISTENING, SYNCING, BACKING_OFF, HELD, NEEDS_TOKEN, STOPPING, STOPPED = KeeperPhase


def rested(options: KeeperOptions = NO_GAP) -> Life:
    """A keeper whose first session is done, and whose gap is over."""
    return Life(options).ends().passes(options.min_gap)


# -- beginning -----------------------------------------------------------------------------------------------


def test_it_syncs_as_soon_as_it_is_started() -> None:
    life = Life(GAP)
    assert (life.phase, life.times("begin")) == (SYNCING, [life.at])


def test_it_syncs_again_when_its_interval_is_over_and_not_before() -> None:
    life = rested().passes(299.9)
    assert life.begun() == 1
    assert life.passes(0.1).begun() == 2


def test_the_interval_counts_from_the_end_of_a_session() -> None:
    life = Life(NO_GAP).passes(200).ends().passes(299)
    assert life.begun() == 1
    assert life.passes(1).begun() == 2


def test_a_nudge_begins_a_session_at_once() -> None:
    assert rested().tell(Nudged()).phase is SYNCING


def test_the_hub_s_signal_does_so_where_it_is_listened_for() -> None:
    life = rested(LIVE)
    assert life.phase is LISTENING
    assert life.tell(Signalled()).phase is SYNCING
    assert rested().tell(Signalled()).phase is RESTING


# -- local changes -------------------------------------------------------------------------------------------


def test_a_change_begins_a_session_once_no_other_has_come_for_a_moment() -> None:
    life = rested().tell(Changed()).passes(0.4).tell(Changed()).passes(0.4)
    assert life.begun() == 1
    assert life.passes(0.1).begun() == 2


def test_changes_without_end_are_synced_all_the_same() -> None:
    life = rested()
    began = life.at
    while life.begun() == 1 and life.at < began + 60:
        life.tell(Changed()).passes(0.25)
    assert began < life.times("begin")[-1] <= began + 5


def test_changes_are_no_news_where_they_are_not_asked_for() -> None:
    life = rested(KeeperOptions(on_change=False)).tell(Changed()).passes(200)
    assert life.begun() == 1


def test_a_change_during_a_session_leads_to_another_one() -> None:
    life = Life(GAP).tell(Changed()).passes(5).ends()
    ended = life.at
    assert life.begun() == 1
    assert life.passes(20).times("begin")[1:] == [ended + 10]


def test_a_change_cuts_no_back_off_and_goes_up_with_the_session_after_it() -> None:
    life = rested().tell(Nudged()).ends(SessionEnd.FAILED, chance=0.5).tell(Changed()).passes(1.4)
    assert (life.phase, life.begun()) == (BACKING_OFF, 2)
    assert life.passes(0.1).begun() == 3


# -- the gap -------------------------------------------------------------------------------------------------


def test_what_is_wanted_within_the_gap_is_done_at_its_end() -> None:
    life = Life(GAP).ends()
    ended = life.at
    life.passes(2).tell(Nudged())
    assert life.begun() == 1
    assert life.passes(60).times("begin")[1:] == [ended + 10]


def test_many_wishes_are_one_session() -> None:
    life = Life(GAP).ends().tell(Nudged()).tell(Changed()).tell(Nudged()).passes(60)
    assert life.begun() == 2
    assert life.ends().passes(60).begun() == 2


def test_a_nudge_is_not_weakened_by_a_change_that_follows_it() -> None:
    life = rested().tell(Changed()).tell(Nudged())
    assert life.begun() == 2


# -- failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [
        (1, 0.0, 1.0),
        (1, 1.0, 2.0),
        (2, 1.0, 4.0),
        (3, 0.5, 4.5),
        (5, 1.0, 32.0),
        (6, 1.0, 60.0),
        (6, 0.0, 1.0),
        (5000, 1.0, 60.0),
    ],
)
def test_back_off_has_full_jitter_from_one_second_to_sixty(
    failures: int, chance: float, seconds: float
) -> None:
    assert back_off(failures, chance) == seconds


def test_failures_in_a_row_are_waited_out_longer_and_a_session_that_settles_ends_the_row() -> None:
    life = Life(NO_GAP)
    for seconds in (2, 4, 8):
        life.ends(SessionEnd.FAILED, chance=1.0).passes(seconds - 0.01)
        assert life.phase is BACKING_OFF
        assert life.passes(0.01).phase is SYNCING
    life.ends().tell(Nudged()).ends(SessionEnd.FAILED, chance=1.0).passes(2)
    assert life.phase is SYNCING


def test_the_hub_s_retry_after_is_the_floor_of_a_back_off_and_a_nudge_does_not_break_it() -> None:
    life = Life(NO_GAP).ends(SessionEnd.FAILED, retry_after=90.0, chance=0.0)
    ended = life.at
    life.passes(5).tell(Nudged())
    assert life.phase is BACKING_OFF
    assert life.passes(200).times("begin")[1:] == [ended + 90]


def test_a_hub_cannot_put_a_keeper_to_sleep_for_ever() -> None:
    life = Life(NO_GAP).ends(SessionEnd.FAILED, retry_after=1e12)
    assert life.passes(3599).begun() == 1
    assert life.passes(1).begun() == 2


def test_a_nudge_cuts_a_back_off() -> None:
    life = Life(NO_GAP).ends(SessionEnd.FAILED, chance=1.0)
    assert life.tell(Nudged()).phase is SYNCING


def test_a_nudge_that_came_before_the_failure_does_not() -> None:
    life = Life(NO_GAP).tell(Nudged()).ends(SessionEnd.FAILED, chance=1.0)
    assert life.passes(1.9).phase is BACKING_OFF


# -- the token -----------------------------------------------------------------------------------------------


def test_a_refused_token_is_not_tried_again_before_the_interval_is_over() -> None:
    life = Life(NO_GAP).ends(SessionEnd.TOKEN_REFUSED).tell(Changed()).passes(299)
    assert (life.phase, life.begun()) == (NEEDS_TOKEN, 1)
    assert life.passes(1).phase is SYNCING


@pytest.mark.parametrize("event", [TokenRenewed(), Nudged()], ids=["token", "nudge"])
def test_a_new_token_or_a_nudge_is_tried_at_once(event: TokenRenewed | Nudged) -> None:
    assert Life(NO_GAP).ends(SessionEnd.TOKEN_REFUSED).tell(event).phase is SYNCING


def test_a_token_that_was_renewed_while_the_old_one_was_refused_is_tried() -> None:
    life = Life(NO_GAP).tell(Nudged()).tell(TokenRenewed()).ends(SessionEnd.TOKEN_REFUSED)
    assert (life.phase, life.begun()) == (SYNCING, 2)


def test_a_token_that_was_renewed_during_a_session_that_went_well_harms_nothing() -> None:
    life = Life(NO_GAP).tell(TokenRenewed()).ends()
    assert (life.phase, life.begun()) == (SYNCING, 2)


def test_a_new_token_says_nothing_to_a_keeper_that_waits_for_none() -> None:
    assert rested().tell(TokenRenewed()).phase is RESTING


# -- conditions ----------------------------------------------------------------------------------------------


def held() -> Life:
    return Life(ON_WIFI, failing=FAILS)


def test_a_condition_that_fails_holds_a_session_back_and_is_asked_again() -> None:
    life = held()
    assert (life.phase, life.begun()) == (HELD, 0)
    life.failing = frozenset()
    assert life.passes(4.9).phase is HELD
    assert life.passes(0.1).phase is SYNCING


def test_a_keeper_that_is_held_asks_for_as_long_as_it_takes() -> None:
    life = held().passes(100_000)
    assert (life.phase, life.begun()) == (HELD, 0)
    life.failing = frozenset()
    assert life.passes(5).begun() == 1


def test_a_nudge_lets_the_conditions_be_asked_at_once() -> None:
    life = held().passes(1)
    life.failing = frozenset()
    assert life.tell(Nudged()).phase is SYNCING


def test_what_fails_is_said_by_its_name() -> None:
    assert held().standing.why == "on_wifi does not hold"


def test_conditions_that_do_not_answer_do_not_hold_and_one_that_answers_late_is_asked_anew() -> None:
    life = Life(ON_WIFI, answers=False)
    assert life.passes(9.9).phase is RESTING
    assert life.passes(0.1).phase is HELD
    assert life.standing.why == "on_wifi did not answer in 10 seconds"
    assert life.passes(1).tell(ConditionsAsked()).phase is HELD, "what was said first may be old by now"
    life.answers = True
    assert life.passes(15).phase is SYNCING


def test_a_late_answer_lets_the_conditions_be_asked_anew_at_once() -> None:
    life = Life(ON_WIFI, answers=False).passes(10)
    life.answers = True
    assert life.tell(ConditionsAsked()).phase is SYNCING
    late = Life(ON_WIFI, answers=False).passes(10)
    late.answers, late.failing = True, FAILS
    assert (late.tell(ConditionsAsked()).phase, late.begun()) == (HELD, 0)


def test_an_answer_that_nobody_waits_for_begins_nothing() -> None:
    assert rested(ON_WIFI).tell(ConditionsAsked()).phase is RESTING


def test_a_session_that_runs_is_not_ended_by_a_condition() -> None:
    life = Life(ON_WIFI)
    life.failing = FAILS
    life.passes(1000)
    assert (life.phase, life.grace) == (SYNCING, [])


# -- sleep ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 5.1])
def test_a_wall_clock_that_jumped_is_a_nudge(jump: float) -> None:
    life = rested()
    life.ahead += jump
    began = life.at
    assert life.passes(20).begun() == 2
    assert life.times("begin")[-1] - began <= 15


def test_a_clock_that_is_a_little_off_is_none() -> None:
    life = rested()
    for _ in range(10):
        life.ahead += 1.0
        life.passes(20)
    assert life.begun() == 1


# -- stopping ------------------------------------------------------------------------------------------------


def test_a_keeper_that_rests_stops_at_once_and_nothing_begins_any_more() -> None:
    life = rested().tell(StopAsked()).tell(Nudged()).tell(Changed()).tell(Ticked()).passes(100_000)
    assert (life.phase, life.begun(), life.standing.wakes_at()) == (STOPPED, 1, None)


def test_a_session_that_runs_is_cancelled_with_the_grace_and_waited_for() -> None:
    life = Life(NO_GAP).tell(StopAsked(3.0))
    assert (life.phase, life.grace) == (STOPPING, [3.0])
    life.tell(Nudged()).tell(Changed())
    assert life.ends().phase is STOPPED
    assert life.begun() == 1


def test_a_second_stop_shortens_the_grace_and_changes_nothing_else() -> None:
    life = Life(NO_GAP).tell(StopAsked()).tell(StopAsked(0.5)).tell(StopAsked())
    assert (life.phase, life.grace) == (STOPPING, [None, 0.5])


def test_a_stop_while_conditions_are_asked_is_final() -> None:
    life = Life(ON_WIFI, answers=False).tell(StopAsked())
    assert life.tell(ConditionsAsked()).phase is STOPPED
    assert life.begun() == 0


def test_an_end_that_is_told_twice_is_told_once() -> None:
    life = rested()
    life.tell(SessionEnded(SessionEnd.FAILED, "again"))
    assert life.phase is RESTING


# -- options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"every": float("inf")},
        {"every": float("nan")},
        {"every": "5"},
        {"every": True},
        {"min_gap": -1},
        {"every": 5, "min_gap": 6},
        {"every": 0.01, "min_gap": 0, "debounce": 0.02},
        {"conditions": ("two words",)},
        {"conditions": ("gap_over",)},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_in_words(wrong: dict[str, object]) -> None:
    with pytest.raises(BadOptions):
        KeeperOptions(**wrong)  # type: ignore[arg-type]
