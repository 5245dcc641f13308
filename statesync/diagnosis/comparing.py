"""Consistency on demand: compare what the device has with what the hub has, and say who is behind.

First one tally of each object; where it differs, tallies of key ranges; where those differ, the records.
So what travels follows the differences, not the data. Nothing is changed on either side.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from statesync import digest
from statesync.classes import frozen
from statesync.diagnosis.found import Diagnosis, Difference, ObjectDiagnosis, RecordDifference, SurveyRemote
from statesync.errors import BadAnswer, WrongHub
from statesync.filters import NO_FILTER, Filter, Filters
from statesync.store import local_only, quarantine, spaces
from statesync.store.care import inventory
from statesync.store.cursors import applied
from statesync.store.outbox import parking
from statesync.store.outbox.queue import count_pending
from statesync.store.tracking.objects import TrackedObject
from statesync.wire import Finding, Survey, SurveyAnswer

_RANGE = 1000
"""Records in a range of keys, about."""

_RANGES = 1000
"""Ranges of keys that one request asks for."""


def diagnose(
    connection: sqlite3.Connection,
    remote: SurveyRemote,
    objects: Mapping[str, TrackedObject],
    filters: Filters,
) -> Diagnosis:
    """Compare ``objects`` with the hub. Raises ``RemoteError``; changes nothing."""
    inquiry = _Inquiry(connection, remote)
    found = tuple(inquiry.examine(tracked, filters.get(name, NO_FILTER)) for name, tracked in objects.items())
    return Diagnosis(found, inquiry.requests)


class _Inquiry:
    def __init__(self, connection: sqlite3.Connection, remote: SurveyRemote) -> None:
        self._connection = connection
        self._remote = remote
        self._here = spaces.load_or_create(connection, remote.space)
        self.requests = 0

    def examine(self, tracked: TrackedObject, wanted: Filter) -> ObjectDiagnosis:
        whole = self._unequal(tracked, wanted, [""])
        differences: list[RecordDifference] = []
        if whole.unequal:
            bounds = inventory.keys_cut(self._connection, tracked, _RANGE)
            for low, until in self._unequal(tracked, wanted, bounds).unequal:
                differences += self._compare(tracked, wanted, low, until)
        waiting = count_pending(self._connection, tracked.name)
        local = local_only.counts(self._connection).get(tracked.name, 0)
        held = quarantine.count_of(self._connection, [tracked.name])
        parked = parking.count(self._connection, tracked.name)
        found = tuple(differences)
        return ObjectDiagnosis(tracked.name, whole.here, whole.there, waiting, found, local, held, parked)

    def _unequal(self, tracked: TrackedObject, wanted: Filter, bounds: list[str]) -> _Comparison:
        theirs = self._tallies(tracked, wanted, bounds)
        ours = inventory.tallies(self._connection, tracked, bounds)
        ends = [*bounds[1:], None]
        unequal = tuple(
            (low, until)
            for low, until, here, there in zip(bounds, ends, ours, theirs, strict=True)
            if not here.matches(there)
        )
        return _Comparison(sum(s.count for s in ours), sum(t.count for t in theirs), unequal)

    def _tallies(self, tracked: TrackedObject, wanted: Filter, bounds: list[str]) -> list[digest.Sum]:
        """Return the hub's tally of each range, in as many requests as it takes."""
        sums = digest.sums(len(bounds), ())
        for first in range(0, len(bounds), _RANGES):
            part = bounds[first : first + _RANGES]
            until = next(iter(bounds[first + _RANGES :]), None)
            self._add_tallies(tracked, wanted, part, until, sums[first : first + _RANGES])
        return sums

    def _add_tallies(
        self,
        tracked: TrackedObject,
        wanted: Filter,
        bounds: list[str],
        until: str | None,
        sums: list[digest.Sum],
    ) -> None:
        """Add the hub's tallies to ``sums``, going on where the hub has ended early."""
        while True:
            answer = self._ask(tracked, wanted, bounds, until, listed=False)
            if len(answer.tallies) != len(bounds):
                raise BadAnswer(
                    f"the hub tallied {len(answer.tallies)} ranges where {len(bounds)} were asked for"
                )
            for each, told in zip(sums, answer.tallies, strict=True):
                each.add_tally(told.count, told.digest)
            low = answer.goes_on_at
            if low is None:
                return
            if low <= bounds[0]:
                raise BadAnswer("the hub's tallies lead nowhere")
            passed = bisect_right(bounds, low)
            bounds, sums = [low, *bounds[passed:]], sums[passed - 1 :]

    def _compare(
        self, tracked: TrackedObject, wanted: Filter, low: str, until: str | None
    ) -> Iterator[RecordDifference]:
        there = {record.key: record for record in self._list(tracked, wanted, low, until)}
        here = inventory.digests(self._connection, tracked, low, until)
        cursor = applied.cursors(self._connection, [tracked.name]).get(tracked.name)
        keys = sorted(here.keys() | there.keys())
        local = local_only.among(self._connection, tracked.name, keys)
        for key in keys:
            read = 0 if cursor is None else cursor.read_until(key)
            kind = _kind(here.get(key), there.get(key), read)
            if kind is Difference.DIVERGED and self._is_filled_in(tracked, key, there[key]):
                continue
            if kind is Difference.NOT_DOWNLOADED or (kind is not None and key not in local):
                record = there.get(key)
                yield RecordDifference(tracked.name, key, kind, record.version if record else None)

    def _is_filled_in(self, tracked: TrackedObject, key: str, there: Finding) -> bool:
        """Tell whether nothing differs but what the device has filled in where the hub has nothing."""
        possible = inventory.without_filled_in(self._connection, tracked, key)
        return any(digest.as_text(one) == there.digest for one in possible)

    def _list(self, tracked: TrackedObject, wanted: Filter, low: str, until: str | None) -> Iterator[Finding]:
        while True:
            answer = self._ask(tracked, wanted, [low], until, listed=True)
            yield from answer.records
            if answer.goes_on_at is None:
                return
            if answer.goes_on_at <= low:
                raise BadAnswer("the hub's list of records leads nowhere")
            low = answer.goes_on_at

    def _ask(
        self,
        tracked: TrackedObject,
        wanted: Filter,
        bounds: list[str],
        until: str | None,
        *,
        listed: bool,
    ) -> SurveyAnswer:
        self.requests += 1
        known = self._here
        answer = self._remote.survey(
            Survey(
                known.client,
                known.hub,
                known.epoch,
                tracked.name,
                list(tracked.column_names),
                bounds,
                until,
                listed,
                wanted.on_the_wire(),
                partial=True,
            )
        )
        if known.hub not in (None, answer.hub):
            raise WrongHub(f"hub {answer.hub} answered, but the records here belong to hub {known.hub}")
        return answer


@frozen
class _Comparison:
    here: int
    there: int
    unequal: tuple[tuple[str, str | None], ...]


def _kind(here: int | None, there: Finding | None, read: int) -> Difference | None:
    if there is None:
        return None if here is None else Difference.MISSING_THERE
    if there.digest is None and here is None:
        return None
    if here is not None and there.digest == digest.as_text(here):
        return None
    if there.version > read:
        return Difference.NOT_DOWNLOADED
    if here is None:
        return Difference.MISSING_HERE
    return Difference.DELETED_THERE if there.digest is None else Difference.DIVERGED
