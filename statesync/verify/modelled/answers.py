"""How much of the hub's records an answer to a push carries, and what of it a receipt keeps."""

from __future__ import annotations

import json

from statesync.verify.evolving import evolve
from statesync.verify.modelled.wire import Conflict, Fields, Push, PushAnswer, Rejected, Verdict


def as_told(conflict: Conflict, carried: int, most: int) -> tuple[Verdict, int]:
    """Return a conflict as it is told, and the bytes of records that the answer carries with it."""
    if conflict.data is None or carried >= most:
        return without_record(conflict), carried
    return conflict, carried + size(conflict.data)


def without_record(verdict: Verdict) -> Verdict:
    """Return a verdict as a receipt keeps it."""
    if isinstance(verdict, Conflict) and verdict.data is not None:
        return Conflict(verdict.version, None, lacks_record=True)
    return verdict


def repeated(answer: PushAnswer, request: Push) -> PushAnswer:
    """Return what a repeat is answered; a device that knows no conflicts without record waits and offers."""
    if request.offers_again:
        return answer
    verdicts = tuple(
        Rejected("conflict") if isinstance(each, Conflict) and each.lacks_record else each
        for each in answer.verdicts
    )
    return evolve(answer, verdicts=verdicts)


def size(data: Fields) -> int:
    """Return the bytes of a record's JSON."""
    return len(json.dumps(dict(data), separators=(",", ":")))
