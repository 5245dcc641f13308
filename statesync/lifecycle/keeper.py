"""The lifecycle of a keeper: what starts sessions by itself, again and again, until it is stopped.

This file is the only copy of what may happen to a keeper. A session is none of its phases: each is a run of
the session chart, begun anew, and the keeper learns of its end alone.

Source: section 4 of the second part of the design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve

from statesync.lifecycle.facts import Facts, SessionEnd
from statesync.lifecycle.shapes import Chart, Edge, Guard, edges
from statesync.lifecycle.words import KeeperPhase, KeeperTrigger

# The gap is min_gap seconds after a session, and whatever the hub has asked for by Retry-After.
GAP_OVER = Guard(
    "gap_over",
    "the gap is over",
    lambda facts: facts.keeper.gap_over,
)
CONDITIONS_HOLD = Guard(
    "conditions_hold",
    "all conditions hold",
    lambda facts: not facts.keeper.failing,
)
CONDITION_FAILS = Guard(
    "condition_fails",
    "a condition fails",
    lambda facts: bool(facts.keeper.failing),
)
SETTLED = Guard(
    "settled",
    "the session did what it could",
    lambda facts: facts.keeper.ended is SessionEnd.SETTLED,
)
FAILED = Guard(
    "failed",
    "the session failed",
    lambda facts: facts.keeper.ended is SessionEnd.FAILED,
)
TOKEN_REFUSED = Guard(
    "token_refused",
    "the token was refused",
    lambda facts: facts.keeper.ended is SessionEnd.TOKEN_REFUSED,
)
SESSION_OVER = Guard("session_over", "the session has ended", lambda facts: facts.keeper.ended is not None)
LIVE = Guard("live", "it listens", lambda facts: facts.keeper.live)
NOT_LIVE = Guard("not_live", "it does not listen", lambda facts: not facts.keeper.live)

_IDLE = (KeeperPhase.RESTING, KeeperPhase.LISTENING)
_WAITING = (*_IDLE, KeeperPhase.BACKING_OFF, KeeperPhase.NEEDS_TOKEN)
_MAY_START = (GAP_OVER, CONDITIONS_HOLD)

KEEPER = Chart(
    name="keeper",
    initial=KeeperPhase.RESTING,
    finals=frozenset({KeeperPhase.STOPPED}),
    edges=(
        # The interval is what nobody has to send: whatever else is lost, it comes. A token may be good again
        # without a word, as where the hub's list of tokens was mended.
        *edges(KeeperTrigger.INTERVAL, (*_IDLE, KeeperPhase.NEEDS_TOKEN), KeeperPhase.SYNCING, *_MAY_START),
        # Not in a back-off: what changed goes up with the session that follows it.
        *edges(KeeperTrigger.LOCAL_CHANGE, _IDLE, KeeperPhase.SYNCING, *_MAY_START),
        *edges(KeeperTrigger.SIGNAL, [KeeperPhase.LISTENING], KeeperPhase.SYNCING, *_MAY_START),
        # Somebody asks for it now: the back-off is cut, the gap and the hub's Retry-After are not.
        *edges(KeeperTrigger.NUDGE, _WAITING, KeeperPhase.SYNCING, *_MAY_START),
        *edges(KeeperTrigger.BACK_OFF_OVER, [KeeperPhase.BACKING_OFF], KeeperPhase.SYNCING, *_MAY_START),
        # Conditions are asked for where a session is wanted. What fails is said by the phase.
        *edges(KeeperTrigger.CONDITIONS_CHANGED, _WAITING, KeeperPhase.HELD, CONDITION_FAILS),
        *edges(KeeperTrigger.CONDITIONS_CHANGED, [KeeperPhase.HELD], KeeperPhase.SYNCING, *_MAY_START),
        *edges(KeeperTrigger.TOKEN_RENEWED, [KeeperPhase.NEEDS_TOKEN], KeeperPhase.SYNCING, *_MAY_START),
        # The three ends of a session exclude each other, so what follows is never a matter of order.
        *edges(KeeperTrigger.SESSION_ENDED, [KeeperPhase.SYNCING], KeeperPhase.RESTING, SETTLED, NOT_LIVE),
        *edges(KeeperTrigger.SESSION_ENDED, [KeeperPhase.SYNCING], KeeperPhase.LISTENING, SETTLED, LIVE),
        *edges(KeeperTrigger.SESSION_ENDED, [KeeperPhase.SYNCING], KeeperPhase.BACKING_OFF, FAILED),
        *edges(KeeperTrigger.SESSION_ENDED, [KeeperPhase.SYNCING], KeeperPhase.NEEDS_TOKEN, TOKEN_REFUSED),
        # The session that runs is brought to its end first (K2). No other edge leaves stopping.
        *edges(KeeperTrigger.SESSION_ENDED, [KeeperPhase.STOPPING], KeeperPhase.STOPPED, SESSION_OVER),
        *edges(KeeperTrigger.STOP, [*_WAITING, KeeperPhase.HELD], KeeperPhase.STOPPED),
        *edges(KeeperTrigger.STOP, [KeeperPhase.SYNCING], KeeperPhase.STOPPING),
    ),
)


def keeper_chart(conditions: Iterable[str]) -> Chart:
    """Return the keeper's chart with a guard for each of a program's conditions, under its own name.

    Without conditions it is ``KEEPER`` itself.
    """
    named = tuple(Guard(name, f"{name} holds", _holds(name)) for name in conditions)
    if not named:
        return KEEPER
    names = " and ".join(guard.name for guard in named)
    fails = evolve(CONDITION_FAILS, meaning=f"not all of this: {names}")
    return evolve(KEEPER, edges=tuple(_with_conditions(edge, named, fails) for edge in KEEPER.edges))


def _holds(name: str) -> Callable[[Facts], bool]:
    return lambda facts: name not in facts.keeper.failing


def _with_conditions(edge: Edge, named: tuple[Guard, ...], fails: Guard) -> Edge:
    instead = {CONDITIONS_HOLD.name: named, CONDITION_FAILS.name: (fails,)}
    return evolve(
        edge, guards=tuple(one for guard in edge.guards for one in instead.get(guard.name, (guard,)))
    )
