"""A survey: what the hub has of one object, as tallies of key ranges or record by record.

It reads the records of the ranges once, in the order of their keys and some at a time, and keeps none of
them. So a daily comparison is cheap, and one of a large object takes nothing from the others but time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from attrs import field

from statesync import digest
from statesync.classes import define
from statesync.filters import Filter
from statesync.hub import spaces
from statesync.hub.db.database import Database
from statesync.hub.errors import survey_too_long
from statesync.hub.spaces import ClientState
from statesync.hub.texts.records import fields_of
from statesync.wire import Finding, Survey, SurveyAnswer, Tally

LISTED = 5000
"""Records that one answer lists at most."""

_PAGE = 250
_PAGE_BYTES = 2 << 20
"""Bytes of records that are there at once, or one that is larger."""

_WORK = 0.002
"""Seconds of work before a rest."""

_REST = 4
"""Times as long as the work that a rest takes."""

_DECODER = msgspec.json.Decoder(dict[str, Any])
_UNREADABLE = (msgspec.MsgspecError, RecursionError)


class _Row(NamedTuple):
    key: str
    version: int
    deleted: bool
    data: str | None


@define(eq=False)
class Pace:
    """How a survey shares the processor, and when its time is over.

    It reads for ``seconds`` in all. ``count_others`` counts the requests that came; while there are new
    ones it rests four times as long as it has worked, which of a large record may be long. Other threads
    wait for one that computes. ``records`` is how many were read, and ``size`` how long their texts
    are, also where the survey is refused in the end. ``clock`` is in seconds.
    """

    seconds: float
    count_others: Callable[[], int]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    records: int = 0
    size: int = 0
    _begun: float = field(init=False)
    _rested: float = field(init=False)
    _others: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._begun = self._rested = self.clock()
        self._others = self.count_others()

    def goes_on(self) -> bool:
        """Rest if it is time to, and tell whether there is time left."""
        now = self.clock()
        worked = now - self._rested
        if worked > _WORK:
            others = self.count_others()
            self.sleep(_REST * worked if others != self._others else 0)
            self._others, self._rested = others, self.clock()
        return now - self._begun < self.seconds


def answer(database: Database, space: str, state: ClientState, request: Survey, pace: Pace) -> bytes:
    """Return the answer to ``request``, read from the open transaction.

    Raises the 422 where the time was too short, and the device takes no part of an answer.
    """
    spaces.check_beliefs(state, request)
    reading = _Reading(request)
    goes_on_at = None
    for row in _rows(database, space, request):
        if pace.records and (reading.is_full or not pace.goes_on()):
            goes_on_at = row.key
            break
        pace.records += 1
        pace.size += len(row.data or "")
        reading.take(row)
    if goes_on_at is not None and not (request.listed or request.partial):
        raise survey_too_long(pace.seconds)
    return msgspec.json.encode(
        SurveyAnswer(state.hub, state.epoch, state.head, reading.tallies, reading.listed, goes_on_at)
    )


class _Reading:
    """What is known so far of the records of one survey."""

    def __init__(self, request: Survey) -> None:
        self._request = request
        self._wanted = Filter.from_wire(request.filter)
        self._sums = digest.sums(0 if request.listed else len(request.bounds), ())
        self._range = 0
        self.listed: list[Finding] = []

    @property
    def is_full(self) -> bool:
        """Whether the answer lists no more records."""
        return len(self.listed) == LISTED

    @property
    def tallies(self) -> list[Tally]:
        """The tally of each range."""
        return [Tally(each.count, digest.as_text(each.digest)) for each in self._sums]

    def take(self, row: _Row) -> None:
        """Count a record, or list it."""
        found = None if row.data is None else self._digest(row.key, row.data)
        if not self._request.listed:
            if found is not None:
                self._sums[self._range_of(row.key)].add(found)
        elif found is not None:
            self.listed.append(Finding(row.key, row.version, digest.as_text(found)))
        elif row.deleted:
            self.listed.append(Finding(row.key, row.version))

    def _digest(self, key: str, text: str) -> int | None:
        """Return the record's digest, None if the filter hides it."""
        fields = _decoded(text)
        if not (self._wanted.is_open or self._wanted.passes(fields, key)):
            return None
        return digest.of_record(key, [fields.get(column) for column in self._request.columns])

    def _range_of(self, key: str) -> int:
        """Return the place of the range of ``key``; keys come in their order."""
        bounds = self._request.bounds
        while self._range + 1 < len(bounds) and bounds[self._range + 1] <= key:
            self._range += 1
        return self._range


def _decoded(text: str) -> Mapping[str, Any]:
    """Return a record's values. One that nobody can read, which hubs once took, is like no device's."""
    try:
        return _DECODER.decode(text)
    except _UNREADABLE:
        return {name: _value(field) for name, field in (fields_of(text) or {}).items()}


def _value(field: msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(field)
    except _UNREADABLE:
        return {"unreadable": bytes(field).decode()}


def _rows(database: Database, space: str, request: Survey) -> Iterator[_Row]:
    """Yield the records from the first bound on, page by page: no driver has to hold all of them."""
    low, more = request.bounds[0], True
    while more:
        page = _page(database, space, request, low)
        more = len(page) > _PAGE
        for row in page[:_PAGE]:
            is_large = row.data is None and not row.deleted
            yield row._replace(data=_data(database, space, request.object, row.key)) if is_large else row
        low = page[-1].key if more else low


def _page(database: Database, space: str, request: Survey, low: str) -> list[_Row]:
    """Return the next records, and one more. Large ones come without their data: each is read by itself.

    Deletes count too: to pass over a million of them in one statement would take as long as it takes.
    """
    order = database.dialect.key_order
    sql = (
        f"SELECT key, version, deleted, CASE WHEN {database.dialect.data_bytes} <= ? THEN data END "
        f"FROM record WHERE space = ? AND object = ? AND {order} >= ?"
    )
    parameters: list[object] = [_PAGE_BYTES // _PAGE, space, request.object, low]
    if request.until is not None:
        sql += f" AND {order} < ?"
        parameters.append(request.until)
    rows = database.run(f"{sql} ORDER BY {order} LIMIT ?", *parameters, _PAGE + 1).fetchall()
    return [_Row(key, version, bool(deleted), data) for key, version, deleted, data in rows]


def _data(database: Database, space: str, name: str, key: str) -> str:
    order = database.dialect.key_order
    sql = f"SELECT data FROM record WHERE space = ? AND object = ? AND {order} >= ? ORDER BY {order} LIMIT 1"
    return str(database.run(sql, space, name, key).fetchone()[0])
