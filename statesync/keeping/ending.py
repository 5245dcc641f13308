"""What follows a session: rest, a back-off, or the wait for another token."""

from __future__ import annotations

from attrs import evolve

from statesync.errors import AllRejected, RemoteError, SyncCancelled, SyncError, Unauthorized
from statesync.keeping.messages import Decision, SessionEnded
from statesync.keeping.standing import Standing, Wish
from statesync.lifecycle import KEEPER, Facts, KeeperFacts, KeeperPhase, KeeperTrigger, SessionEnd

SHORTEST_BACK_OFF = 1.0
LONGEST_BACK_OFF = 60.0
"""Seconds that a back-off takes, unless the hub asks for more."""

LONGEST_RETRY_AFTER = 3600.0
"""Seconds that a hub can keep a keeper waiting at most, whatever it asks for."""


def session_ended(now: Standing, event: SessionEnded) -> Decision:
    """Go on after a session; its end is told once, so another word of it is none."""
    if not now.has_session:
        return Decision(now)
    facts = Facts(keeper=KeeperFacts(live=now.options.live, ended=event.end))
    if now.phase is KeeperPhase.STOPPING:
        return Decision(now, KeeperTrigger.SESSION_ENDED, facts)
    return Decision(_waiting(evolve(now, why=event.why), event), KeeperTrigger.SESSION_ENDED, facts)


def _waiting(now: Standing, event: SessionEnded) -> Standing:
    """Arm the timers. What was asked for during a session that failed comes with the next one."""
    at, asked_for = now.seen.at, _asked_for(event.retry_after)
    gap = evolve(now, earliest=at + max(now.options.min_gap, asked_for))
    if event.end is SessionEnd.SETTLED:
        return evolve(gap, failures=0, due=at + now.options.every, wish=_in_rest(now))
    failures = now.failures + 1
    if event.end is SessionEnd.TOKEN_REFUSED:
        wish = now.wish if now.wish and now.wish.trigger is KeeperTrigger.TOKEN_RENEWED else None
        return evolve(gap, failures=failures, due=at + now.options.every, wish=wish)
    delay = max(back_off(failures, event.chance), asked_for)
    return evolve(gap, failures=failures, due=at + delay, wish=None)


def _in_rest(now: Standing) -> Wish | None:
    """Return what was asked for meanwhile, as a nudge where its own trigger means nothing any more."""
    rest = KeeperPhase.LISTENING if now.options.live else KeeperPhase.RESTING
    if now.wish is None or now.wish.trigger in KEEPER.legal(rest):
        return now.wish
    return evolve(now.wish, trigger=KeeperTrigger.NUDGE)


def back_off(failures: int, chance: float) -> float:
    """Return the seconds to wait after so many failures in a row: exponential, full jitter."""
    longest = min(LONGEST_BACK_OFF, 2.0 ** min(failures, 10))
    return SHORTEST_BACK_OFF + chance * (longest - SHORTEST_BACK_OFF)


def _asked_for(retry_after: float | None) -> float:
    return min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)


def meaning_of(error: SyncError | None, chance: float) -> SessionEnded:
    """Return what the end of a session means for what follows; ``error`` is what it ended with."""
    if error is None:
        return SessionEnded(SessionEnd.SETTLED, "the session is done", chance=chance)
    if isinstance(error, SyncCancelled | AllRejected):
        return SessionEnded(SessionEnd.SETTLED, error.message, chance=chance)
    end = SessionEnd.TOKEN_REFUSED if isinstance(error, Unauthorized) else SessionEnd.FAILED
    return SessionEnded(end, error.message, _retry_after(error), chance)


def _retry_after(error: BaseException | None) -> float | None:
    """Return what the hub has asked for, also where the error is but the consequence of its answer."""
    while error is not None:
        if isinstance(error, RemoteError):
            return error.retry_after
        error = error.__cause__
    return None
