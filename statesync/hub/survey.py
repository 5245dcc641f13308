"""A survey: what the hub has of one object, as tallies of key ranges or record by record.

It reads the records of the ranges once and keeps none of them, so a daily comparison is cheap.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import msgspec

from statesync import digest
from statesync.filters import Filter
from statesync.hub import spaces
from statesync.hub.db.database import Database
from statesync.hub.errors import malformed
from statesync.hub.pull import passes
from statesync.hub.spaces import ClientState
from statesync.wire import Finding, Survey, SurveyAnswer, Tally

LISTED = 5000
"""Records that one answer lists at most."""

_Row = tuple[str, int, bool, str | None]

_DECODER = msgspec.json.Decoder()


def answer(database: Database, space: str, state: ClientState, request: Survey) -> bytes:
    """Return the answer to ``request``, read from the open transaction. Raises the 400 for bad bounds."""
    spaces.check_beliefs(state, request)
    if not request.bounds or request.bounds != sorted(set(request.bounds)):
        raise malformed("the bounds of a survey are one or more keys, each above the one before")
    if request.listed:
        rows = list(_rows(database, space, request, LISTED + 1))
        goes_on_at = rows[LISTED][0] if len(rows) > LISTED else None
        return _encoded(state, [], list(_findings(rows[:LISTED], request)), goes_on_at)
    findings = _findings(_rows(database, space, request, None), request)
    return _encoded(state, _tally(findings, request.bounds), [], None)


def _encoded(
    state: ClientState, tallies: list[Tally], records: list[Finding], goes_on_at: str | None
) -> bytes:
    return msgspec.json.encode(SurveyAnswer(state.hub, state.epoch, state.head, tallies, records, goes_on_at))


def _rows(database: Database, space: str, request: Survey, limit: int | None) -> Iterable[_Row]:
    order = database.dialect.key_order
    sql = f"SELECT key, version, deleted, data FROM record WHERE space = ? AND object = ? AND {order} >= ?"
    parameters: list[object] = [space, request.object, request.bounds[0]]
    if request.until is not None:
        sql += f" AND {order} < ?"
        parameters.append(request.until)
    if limit is not None:
        sql += f" ORDER BY {order} LIMIT ?"
        parameters.append(limit)
    rows: Iterable[_Row] = database.run(sql, *parameters)
    return rows


def _findings(rows: Iterable[_Row], request: Survey) -> Iterator[Finding]:
    wanted = Filter.from_wire(request.filter)
    for key, version, deleted, data in rows:
        if deleted or data is None:
            yield Finding(key, version)
        elif passes(key, data.encode(), wanted):
            fields = _DECODER.decode(data)
            values = [fields.get(column) for column in request.columns]
            yield Finding(key, version, digest.as_text(digest.of_record(key, values)))


def _tally(found: Iterator[Finding], bounds: list[str]) -> list[Tally]:
    living = (
        (bisect_right(bounds, record.key) - 1, int(record.digest, 16))
        for record in found
        if record.digest is not None
    )
    return [Tally(total.count, digest.as_text(total.digest)) for total in digest.sums(len(bounds), living)]
