"""What must hold of a keeper: the promises of the design as questions to a configuration or a step.

None of them reads the chart, so one that was changed by mistake is held to the promise and not to itself.
That nothing leaves ``stopped`` is a rule of every chart: one that breaks it is not even made.
"""

from __future__ import annotations

from enum import StrEnum

from statesync.lifecycle import KeeperPhase, KeeperTrigger, SessionEnd
from statesync.verify.judgement import Never, NeverStep, Possible, Property, Reachable
from statesync.verify.keeping.moves import KeeperConfiguration, KeeperScope, KeeperStep

ALWAYS: frozenset[StrEnum] = frozenset(KeeperScope)

_WITH_SESSION = (KeeperPhase.SYNCING, KeeperPhase.STOPPING)

_WAKES = {
    KeeperPhase.RESTING: KeeperTrigger.INTERVAL,
    KeeperPhase.LISTENING: KeeperTrigger.INTERVAL,
    KeeperPhase.BACKING_OFF: KeeperTrigger.BACK_OFF_OVER,
    KeeperPhase.HELD: KeeperTrigger.CONDITIONS_CHANGED,
    KeeperPhase.NEEDS_TOKEN: KeeperTrigger.INTERVAL,
}
"""What the clock brings in each phase without a session, whatever else is lost."""

_BEGUN_BY = {
    KeeperPhase.RESTING: (KeeperTrigger.INTERVAL, KeeperTrigger.LOCAL_CHANGE, KeeperTrigger.NUDGE),
    KeeperPhase.LISTENING: (
        KeeperTrigger.INTERVAL,
        KeeperTrigger.LOCAL_CHANGE,
        KeeperTrigger.SIGNAL,
        KeeperTrigger.NUDGE,
    ),
    KeeperPhase.BACKING_OFF: (KeeperTrigger.BACK_OFF_OVER, KeeperTrigger.NUDGE),
    KeeperPhase.HELD: (KeeperTrigger.CONDITIONS_CHANGED,),
    KeeperPhase.NEEDS_TOKEN: (KeeperTrigger.INTERVAL, KeeperTrigger.TOKEN_RENEWED, KeeperTrigger.NUDGE),
}
"""What may begin a session in each phase, and nothing else does."""

_LOST = (
    KeeperTrigger.LOCAL_CHANGE,
    KeeperTrigger.SIGNAL,
    KeeperTrigger.NUDGE,
    KeeperTrigger.TOKEN_RENEWED,
    KeeperTrigger.STOP,
)
"""What others send, and may never send."""

_AFTER = {
    SessionEnd.FAILED: KeeperPhase.BACKING_OFF,
    SessionEnd.TOKEN_REFUSED: KeeperPhase.NEEDS_TOKEN,
}


def _begins_a_second_session(step: KeeperStep) -> bool:
    return step.begins and step.source.session is not None


def _begins_after_stop(step: KeeperStep) -> bool:
    return step.source.stopping and step.begins


def _begins_against_a_condition(step: KeeperStep) -> bool:
    return step.begins and step.source.failing


def _begins_in_the_gap(step: KeeperStep) -> bool:
    return step.begins and not step.source.gap_over


def _leaves_its_session(step: KeeperStep) -> bool:
    return step.source.has_running_session and step.target.phase not in _WITH_SESSION


def _has_a_session_elsewhere(now: KeeperConfiguration) -> bool:
    return now.session is not None and now.phase not in _WITH_SESSION


def _waits_for_no_session(now: KeeperConfiguration) -> bool:
    return now.session is None and now.phase in _WITH_SESSION


def _goes_on_otherwise(step: KeeperStep) -> bool:
    if step.trigger is not KeeperTrigger.SESSION_ENDED:
        return False
    if step.source.stopping:
        return step.target.phase is not KeeperPhase.STOPPED
    idle = KeeperPhase.LISTENING if step.source.live else KeeperPhase.RESTING
    end = step.source.end
    return end is None or step.target.phase is not _AFTER.get(end, idle)


def _listens_to_nobody(now: KeeperConfiguration) -> bool:
    return now.phase is KeeperPhase.LISTENING and not now.live


def _is_held_by_nothing(step: KeeperStep) -> bool:
    entered = step.target.phase is KeeperPhase.HELD and step.source.phase is not KeeperPhase.HELD
    return entered and not step.source.failing


def _begins_by_something_else(step: KeeperStep) -> bool:
    return step.begins and step.trigger not in _BEGUN_BY.get(step.source.phase, ())


def _stops_otherwise(step: KeeperStep) -> bool:
    """A stop is final at once where no session runs, and nothing else leads to the end but a session's."""
    if step.trigger is KeeperTrigger.STOP:
        running = step.source.session is not None
        return step.target.phase is not (KeeperPhase.STOPPING if running else KeeperPhase.STOPPED)
    ends = step.target.phase in (KeeperPhase.STOPPING, KeeperPhase.STOPPED)
    return ends and step.trigger is not None and not step.source.stopping


def _lives(now: KeeperConfiguration) -> bool:
    return now.phase is not KeeperPhase.STOPPED


def _may_begin(now: KeeperConfiguration) -> bool:
    return now.session is None and not now.stopping and now.gap_over and not now.failing


def _wakes(step: KeeperStep) -> bool:
    return step.begins and step.trigger is _WAKES.get(step.source.phase)


def _is_at_once(trigger: KeeperTrigger) -> Property[KeeperConfiguration, KeeperStep]:
    phases = tuple(phase for phase, triggers in _BEGUN_BY.items() if trigger in triggers)
    return Possible(
        f"keeper_{trigger}_at_once",
        f"{trigger} begins a session at once in {', '.join(phases)}, where nothing is in its way",
        ALWAYS,
        lambda now: _may_begin(now) and now.phase in phases,
        lambda step: step.begins and step.trigger is trigger,
    )


KEEPER_PROPERTIES: tuple[Property[KeeperConfiguration, KeeperStep], ...] = (
    NeverStep("keeper_one_session", "at most one session at a time", ALWAYS, _begins_a_second_session),
    NeverStep("keeper_nothing_begun", "after stop no session begins", ALWAYS, _begins_after_stop),
    NeverStep(
        "keeper_conditions",
        "no session begins while a condition fails",
        ALWAYS,
        _begins_against_a_condition,
    ),
    NeverStep(
        "keeper_gap",
        "no session begins within the gap after the last one, nor before the hub's Retry-After",
        ALWAYS,
        _begins_in_the_gap,
    ),
    NeverStep("keeper_ends_first", "a session that runs is not left behind", ALWAYS, _leaves_its_session),
    Never(
        "keeper_its_phases",
        "a session is there only in syncing and stopping",
        ALWAYS,
        _has_a_session_elsewhere,
    ),
    Never("keeper_no_phantom", "syncing and stopping wait for a session", ALWAYS, _waits_for_no_session),
    NeverStep(
        "keeper_what_follows",
        "a failure is followed by a back-off, a refused token by needs_token, all else by rest",
        ALWAYS,
        _goes_on_otherwise,
    ),
    Never("keeper_listens", "it listens only where it was told to", ALWAYS, _listens_to_nobody),
    NeverStep("keeper_held_by", "it is held only by a condition that fails", ALWAYS, _is_held_by_nothing),
    NeverStep(
        "keeper_begun_by",
        "a back-off is cut by a nudge alone, a condition that fails by nothing",
        ALWAYS,
        _begins_by_something_else,
    ),
    NeverStep(
        "keeper_stops", "a stop is final at once, or once the session has ended", ALWAYS, _stops_otherwise
    ),
    Possible(
        "keeper_can_stop",
        "a stop is taken at once in every phase",
        ALWAYS,
        lambda now: _lives(now) and not now.stopping,
        lambda step: step.trigger is KeeperTrigger.STOP,
    ),
    Possible(
        "keeper_told",
        "the end of a session is taken at once",
        ALWAYS,
        lambda now: now.end is not None,
        lambda step: step.trigger is KeeperTrigger.SESSION_ENDED,
    ),
    Possible(
        "keeper_wakes",
        "in every phase without a session the clock alone begins one",
        ALWAYS,
        _may_begin,
        _wakes,
    ),
    Reachable(
        "keeper_converges",
        "all signals lost, another session begins all the same",
        ALWAYS,
        lambda now: _lives(now) and not now.stopping,
        lambda step: step.begins,
        lambda step: step.trigger not in _LOST,
    ),
    Reachable(
        "keeper_can_end",
        "after a stop the end is reached, whatever the session does",
        ALWAYS,
        lambda now: _lives(now) and now.stopping,
        lambda step: step.target.phase is KeeperPhase.STOPPED,
        lambda step: step.trigger in (None, KeeperTrigger.SESSION_ENDED),
    ),
    Possible(
        "keeper_says_held",
        "where a condition fails, the phase can say so at once",
        ALWAYS,
        lambda now: now.session is None and _lives(now) and now.failing and now.phase is not KeeperPhase.HELD,
        lambda step: step.target.phase is KeeperPhase.HELD,
    ),
    *(
        _is_at_once(trigger)
        for trigger in (
            KeeperTrigger.NUDGE,
            KeeperTrigger.LOCAL_CHANGE,
            KeeperTrigger.SIGNAL,
            KeeperTrigger.TOKEN_RENEWED,
        )
    ),
)
"""Judged by ``check``, in this order."""
