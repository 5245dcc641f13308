"""When to sync: events come in, decisions come out.

``decide`` is a pure function. It knows no clock, thread or session, and it never changes a phase: it says
which trigger to fire, and the machine does it. Whatever drives it, it is this one piece of code that runs.

A driver tells each event with its moment, and ``Ticked`` when ``Standing.wakes_at`` has come. It does with
each decision, in this order: fire the trigger; adopt the standing in the phase where the machine is then; do
the actions. Of a decision that moves nothing, the machine is not asked.

Source: section 4 of the design's second part.
"""

from __future__ import annotations

from attrs import evolve

from statesync.keeping.ending import session_ended
from statesync.keeping.messages import (
    AskConditions,
    BeginSession,
    CancelSession,
    Changed,
    ConditionsAsked,
    Decision,
    Event,
    Nudged,
    SessionEnded,
    Signalled,
    StopAsked,
    Ticked,
    TokenRenewed,
)
from statesync.keeping.standing import Moment, Standing, Wish
from statesync.lifecycle import KEEPER, Facts, KeeperFacts, KeeperPhase, KeeperTrigger

JUMP = 5.0
"""Seconds by which the wall clock may leave the monotonic one between two events: more is a nudge."""

PATIENCE = 10.0
"""Seconds that the program's conditions may take to answer."""

HELD_EVERY = 5.0
"""Seconds after which conditions that failed are asked again."""

_DEBOUNCE_AT_MOST = 10
"""How often the debounce may be put off by more changes."""

_RANKS = (
    KeeperTrigger.LOCAL_CHANGE,
    KeeperTrigger.SIGNAL,
    KeeperTrigger.NUDGE,
    KeeperTrigger.TOKEN_RENEWED,
)
"""Wishes, the weakest first: a stronger one takes the place of a weaker, which is fulfilled with it."""


def decide(now: Standing, moment: Moment, event: Event) -> Decision:
    """Return what to do about ``event`` at ``moment``. Pure: the same in, the same out.

    An event that no longer matters leads to a decision that moves nothing.
    """
    if KEEPER.is_final(now.phase):
        return Decision(now)
    here = _looked_at_the_clock(now, moment)
    match event:
        case StopAsked():
            return _stop(here, event)
        case SessionEnded():
            return session_ended(here, event)
        case ConditionsAsked():
            return _answered(here, event)
        case Ticked():
            return _go_on(here)
        case Changed():
            return _go_on(_changed(here))
        case Signalled():
            return _go_on(_with_wish(here, KeeperTrigger.SIGNAL, "the hub has news"))
        case Nudged():
            return _go_on(_nudged(here, event.why))
        case TokenRenewed():
            return _go_on(_with_wish(here, KeeperTrigger.TOKEN_RENEWED, "the token was renewed"))


# -- what asks for a session -----------------------------------------------------------------------


def _looked_at_the_clock(now: Standing, moment: Moment) -> Standing:
    if moment == now.seen:
        return now
    seen = evolve(now, seen=moment)
    if abs(moment.jump_since(now.seen)) <= JUMP:
        return seen
    return _nudged(seen, "the clock jumped, as after a sleep of the machine")


def _changed(now: Standing) -> Standing:
    if not now.options.on_change:
        return now
    quiet = now.seen.at + now.options.debounce
    latest = now.seen.at + _DEBOUNCE_AT_MOST * now.options.debounce
    before = now.wish
    if before is not None and before.trigger is KeeperTrigger.LOCAL_CHANGE:
        return evolve(now, wish=evolve(before, at=min(quiet, before.latest)))
    wish = Wish(KeeperTrigger.LOCAL_CHANGE, "something was changed here", quiet, latest)
    return _wishing(now, wish)


def _nudged(now: Standing, why: str) -> Standing:
    """Ask for a session now. In ``held`` that is to ask the conditions again."""
    if now.phase is KeeperPhase.HELD:
        return now if now.asking is not None else evolve(now, due=now.seen.at)
    return _with_wish(now, KeeperTrigger.NUDGE, why)


def _with_wish(now: Standing, trigger: KeeperTrigger, why: str) -> Standing:
    return _wishing(now, Wish(trigger, why, now.seen.at, now.seen.at))


def _wishing(now: Standing, wish: Wish) -> Standing:
    """Remember a wish where it leads to a session, now or after the one that runs; else it is none."""
    is_of_use = now.phase is KeeperPhase.SYNCING or wish.trigger in KEEPER.legal(now.phase)
    known = now.wish
    if not is_of_use or (known is not None and _RANKS.index(known.trigger) >= _RANKS.index(wish.trigger)):
        return now
    return evolve(now, wish=wish)


# -- what becomes of it ----------------------------------------------------------------------------


def _go_on(now: Standing) -> Decision:
    """Begin a session if it is time for one, or ask first whether all conditions hold."""
    if now.asking is not None:
        return _out_of_patience(now)
    coming = now.next_trigger()
    if coming is None or coming[2] > now.seen.at:
        return Decision(now)
    trigger, why, _ = coming
    if not now.options.conditions:
        return _begin(now, trigger, why)
    asking = evolve(now, asking=trigger, due=now.seen.at + PATIENCE)
    return Decision(asking, actions=(AskConditions(),))


def _begin(now: Standing, trigger: KeeperTrigger, why: str) -> Decision:
    begun = evolve(now, why=why, wish=None, due=None, asking=None)
    known = KeeperFacts(gap_over=now.earliest <= now.seen.at, live=now.options.live)
    return Decision(begun, trigger, Facts(keeper=known), (BeginSession(),))


def _answered(now: Standing, event: ConditionsAsked) -> Decision:
    """Take the answer of the conditions; one that nobody waits for any more says nothing.

    One that comes late, in ``held``, is old: the first of them was asked before the last one answered. So
    they are asked again.
    """
    if now.asking is None:
        late = now.phase is KeeperPhase.HELD and not event.failing
        return _go_on(evolve(now, due=now.seen.at)) if late else Decision(now)
    if event.failing:
        return _hold(now, event.failing, event.why)
    return _begin(now, now.asking, "all conditions hold")


def _out_of_patience(now: Standing) -> Decision:
    if now.due is None or now.due > now.seen.at:
        return Decision(now)
    late = frozenset(now.options.conditions)
    said = f"{' and '.join(now.options.conditions)} did not answer in {PATIENCE:.0f} seconds"
    return _hold(now, late, said)


def _hold(now: Standing, failing: frozenset[str], why: str) -> Decision:
    """Stay in ``held``, or go there, and ask again after a while."""
    words = why or f"{' and '.join(sorted(failing))} does not hold"
    held = evolve(now, why=words, wish=None, asking=None, due=now.seen.at + HELD_EVERY)
    if now.phase is KeeperPhase.HELD:
        return Decision(held)
    return Decision(held, KeeperTrigger.CONDITIONS_CHANGED, Facts(keeper=KeeperFacts(failing=failing)))


def _stop(now: Standing, event: StopAsked) -> Decision:
    """Begin nothing any more. A second stop changes nothing but, perhaps, the grace of the session."""
    if now.phase is KeeperPhase.STOPPING:
        return Decision(now, actions=() if event.grace is None else (CancelSession(event.grace),))
    stopped = evolve(now, why="it was stopped", wish=None, due=None, asking=None)
    cancel = (CancelSession(event.grace),)
    return Decision(stopped, KeeperTrigger.STOP, actions=cancel if now.has_session else ())
