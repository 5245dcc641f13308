"""The third act: two devices edit the same airports while neither can see the other."""

from __future__ import annotations

from typing import Any

from statesync.classes import frozen
from statesync.demo.report import Edit, Play
from statesync.demo.stage import Device, Records
from statesync.values import ConflictEntry, SyncOptions

MOST_ROUNDS = 4
"""How often both devices sync before the story gives up on their agreement."""

Fields = dict[str, Any]


@frozen
class Both:
    """What A and B do to one airport, and what must come of it; None is a delete."""

    icao: str
    by_a: Fields | None
    by_b: Fields | None
    expected: Fields | None
    promise: str


EDITS = (
    Both(
        "KJFK",
        {"elevation": 14.0},
        {"name": "Kennedy"},
        {"elevation": 14.0, "name": "Kennedy"},
        "two fields, both are kept",
    ),
    Both(
        "EGLL",
        {"name": "Heathrow (A)"},
        {"name": "Heathrow (B)"},
        {"name": "Heathrow (A)"},
        "one field, the first is kept",
    ),
    Both(
        "NZQN",
        None,
        {"elevation": 1172.0},
        None,
        "deleted, then edited, is gone",
    ),
    Both(
        "BIKF",
        {"elevation": 172.0},
        None,
        {"elevation": 172.0},
        "edited, then deleted, stays",
    ),
)
"""A syncs first, so B is the one whose edits meet a record that has changed."""


def edit_offline(play: Play, options: SyncOptions) -> None:
    """Edit on both devices, sync until they agree, and check what each edit has come to."""
    a, b = play.stage.device("A"), play.stage.device("B")
    keys = {both.icao: a.airport(both.icao).id for both in EDITS}
    for both in EDITS:
        _apply(a, both.icao, both.by_a)
        _apply(b, both.icao, both.by_b)
    play.teller.say(f"{len(a.store.pending())} changes wait on A, {len(b.store.pending())} on B")
    rounds = _sync_until_they_agree(play, a, b, options)
    holders = {"hub": play.stage.hub.records(), "A": a.records(), "B": b.records()}
    play.edits = tuple(_edit(both, holders["hub"].get(keys[both.icao])) for both in EDITS)
    play.teller.show_edits(play.edits)
    play.expect(
        "A and B agree, nothing waits any more",
        rounds <= MOST_ROUNDS,
        f"after {rounds} rounds" if rounds <= MOST_ROUNDS else f"not after {MOST_ROUNDS} rounds",
    )
    log = b.store.conflicts()
    for both in EDITS:
        _check(play, both, keys[both.icao], holders, log)


def _apply(device: Device, icao: str, fields: Fields | None) -> None:
    airport = device.airport(icao)
    if fields is None:
        airport.delete_instance()
        return
    for name, value in fields.items():
        setattr(airport, name, value)
    airport.save()


def _sync_until_they_agree(play: Play, a: Device, b: Device, options: SyncOptions) -> int:
    for round_ in range(1, MOST_ROUNDS + 1):
        a.scope.sync(options)
        b.scope.sync(options)
        settled = not a.store.has_pending() and not b.store.has_pending()
        if settled and a.records() == b.records() == play.stage.hub.records():
            return round_
    return MOST_ROUNDS + 1


def _edit(both: Both, now: Fields | None) -> Edit:
    fields = (both.by_a or {}) | (both.by_b or {})
    kept = None if now is None else {name: now[name] for name in fields}
    return Edit(both.icao, _words(both.by_a), _words(both.by_b), _words(kept))


def _words(fields: Fields | None) -> str:
    return "deleted" if fields is None else ", ".join(f"{name} = {value}" for name, value in fields.items())


def _check(play: Play, both: Both, key: str, holders: dict[str, Records], log: list[ConflictEntry]) -> None:
    wrong = [name for name, records in holders.items() if not _matches(records.get(key), both.expected)]
    logged = any(entry.key == key and _is_what_b_did(entry, both) for entry in log)
    facts = f"not on {', '.join(wrong)}" if wrong else f"on {', '.join(holders)}"
    play.expect(
        f"{both.icao}: {both.promise}",
        not wrong and logged,
        f"{facts}; {'in' if logged else 'not in'} B's log",
    )


def _matches(record: Fields | None, expected: Fields | None) -> bool:
    if record is None or expected is None:
        return record is expected
    return all(record[name] == value for name, value in expected.items())


def _is_what_b_did(entry: ConflictEntry, both: Both) -> bool:
    return _matches(entry.local, both.by_b) and _matches(entry.kept, both.expected)
