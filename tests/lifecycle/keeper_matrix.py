"""Every pair of phase and trigger of a keeper, written by hand from section 4 of the design's second part.

One line a way: phase, trigger, then the phase it leads to and the guards, or ``illegal``. The end of a
session has several ways, one for each thing that it may mean.
"""

from __future__ import annotations

from .matrix import Pair, read

KEEPER_PAIRS = """
resting      interval            syncing      gap_over conditions_hold
resting      local_change        syncing      gap_over conditions_hold
resting      signal              illegal
resting      nudge               syncing      gap_over conditions_hold
resting      back_off_over       illegal
resting      conditions_changed  held         condition_fails
resting      token_renewed       illegal
resting      session_ended       illegal
resting      stop                stopped

listening    interval            syncing      gap_over conditions_hold
listening    local_change        syncing      gap_over conditions_hold
listening    signal              syncing      gap_over conditions_hold
listening    nudge               syncing      gap_over conditions_hold
listening    back_off_over       illegal
listening    conditions_changed  held         condition_fails
listening    token_renewed       illegal
listening    session_ended       illegal
listening    stop                stopped

syncing      interval            illegal
syncing      local_change        illegal
syncing      signal              illegal
syncing      nudge               illegal
syncing      back_off_over       illegal
syncing      conditions_changed  illegal
syncing      token_renewed       illegal
syncing      session_ended       resting      settled not_live
syncing      session_ended       listening    settled live
syncing      session_ended       backing_off  failed
syncing      session_ended       needs_token  token_refused
syncing      stop                stopping

backing_off  interval            illegal
backing_off  local_change        illegal
backing_off  signal              illegal
backing_off  nudge               syncing      gap_over conditions_hold
backing_off  back_off_over       syncing      gap_over conditions_hold
backing_off  conditions_changed  held         condition_fails
backing_off  token_renewed       illegal
backing_off  session_ended       illegal
backing_off  stop                stopped

held         interval            illegal
held         local_change        illegal
held         signal              illegal
held         nudge               illegal
held         back_off_over       illegal
held         conditions_changed  syncing      gap_over conditions_hold
held         token_renewed       illegal
held         session_ended       illegal
held         stop                stopped

needs_token  interval            syncing      gap_over conditions_hold
needs_token  local_change        illegal
needs_token  signal              illegal
needs_token  nudge               syncing      gap_over conditions_hold
needs_token  back_off_over       illegal
needs_token  conditions_changed  held         condition_fails
needs_token  token_renewed       syncing      gap_over conditions_hold
needs_token  session_ended       illegal
needs_token  stop                stopped

stopping     interval            illegal
stopping     local_change        illegal
stopping     signal              illegal
stopping     nudge               illegal
stopping     back_off_over       illegal
stopping     conditions_changed  illegal
stopping     token_renewed       illegal
stopping     session_ended       stopped      session_over
stopping     stop                illegal

stopped      interval            illegal
stopped      local_change        illegal
stopped      signal              illegal
stopped      nudge               illegal
stopped      back_off_over       illegal
stopped      conditions_changed  illegal
stopped      token_renewed       illegal
stopped      session_ended       illegal
stopped      stop                illegal
"""

KEEPER_MATRIX = read(KEEPER_PAIRS)


def ways_of(phase: str, trigger: str) -> list[Pair]:
    """Return the ways that a pair has, in their order; none means that it is illegal."""
    return [
        pair
        for pair in KEEPER_MATRIX
        if (pair.phase, pair.trigger) == (phase, trigger) and pair.target is not None
    ]
