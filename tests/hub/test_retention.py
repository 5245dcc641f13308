"""Deletes that are too old are purged along the way, by pushes that make others wait for it only briefly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import count

import pytest
from attrs import Factory, define

from statesync.hub import Hub
from statesync.hub.retention import DAY, Retention


@define(eq=False)
class Space:
    """A space of a hub that remembers deletes for ninety days, one client that writes it, and the time."""

    hub: Hub
    now: float = 20_000.0 * DAY
    numbers: Iterator[int] = Factory(lambda: count(1))

    def push(self, op: str, keys: range) -> None:
        self.push_all((op, n) for n in keys)

    def push_all(self, operations: Iterable[tuple[str, int]]) -> None:
        changes: list[dict[str, object]] = [
            {"object": "A", "key": f"{n}", "op": op, "base": 0} | ({"data": {}} if op == "upsert" else {})
            for op, n in operations
        ]
        number = next(self.numbers)
        about = {"client": "c", "number": number, "batch": f"{number}", "hub": None, "epoch": None}
        self.hub.push("away", json.dumps(about | {"changes": changes}).encode())

    def living(self) -> set[str]:
        """Return the keys of all records that are not deleted."""
        with self.hub.database.reading():
            rows = self.hub.database.run(
                "SELECT key FROM record WHERE space = 'away' AND NOT deleted"
            ).fetchall()
        return {key for (key,) in rows}

    def kept(self) -> tuple[int, int, int]:
        """Return how many deletes are kept, up to where they are forgotten, and the days that are marked."""
        with self.hub.database.reading():
            run = self.hub.database.run
            (kept,) = run("SELECT count(*) FROM record WHERE space = 'away' AND deleted").fetchone()
            (through,) = run("SELECT horizon FROM space WHERE space = 'away'").fetchone()
            (days,) = run("SELECT count(*) FROM mark WHERE space = 'away'").fetchone()
        return int(kept), int(through), int(days)


@pytest.fixture
def space(new_database: Callable[[], str]) -> Iterator[Space]:
    """A space with a hundred records, and 2,600 that were deleted a hundred days ago, in the version 5300."""
    hub = Hub(new_database(), without_tokens=True, retention=Retention(90 * DAY, lambda: made.now))
    made = Space(hub)
    made.push("upsert", range(2700))
    made.push("delete", range(2600))
    made.now += 100 * DAY
    yield made
    hub.close()


def test_a_push_purges_a_thousand_old_deletes_and_the_next_ones_go_on(space: Space) -> None:
    """What is forgotten is said at once: who reads everything again does so once, not once a step."""
    assert space.kept() == (2600, 0, 1)
    space.push("delete", range(2600, 2601))
    assert space.kept() == (1601, 5300, 2)
    space.push("upsert", range(2601, 2602))
    assert space.kept() == (1601, 5300, 2), "a push without deletes purges nothing"
    space.push("delete", range(2601, 2602))
    assert space.kept() == (602, 5300, 2)
    space.push("delete", range(2602, 2603))
    assert space.kept() == (3, 5300, 1)


def test_a_push_that_deletes_much_purges_more_than_that(space: Space) -> None:
    space.push("upsert", range(2700, 3600))
    space.push("delete", range(2700, 3600))
    assert space.kept() == (2600 + 900 - 1800, 5300, 2)


def test_a_record_is_made_anew_by_the_push_that_purges_its_old_delete(space: Space) -> None:
    """What the push had found of it is gone when it writes: others of the batch may stand there by then."""
    space.push_all([("upsert", 0), ("delete", 2600), ("upsert", 3000), ("upsert", 1)])
    assert space.kept() == (1601, 5300, 2)
    assert space.living() == {"0", "1", "3000", *map(str, range(2601, 2700))}


def test_a_purge_by_hand_takes_all_in_one_call(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statesync.hub.retention._LARGE_STEP", 1000)
    assert space.hub.purge("away", 5299) == 2599
    assert space.kept() == (1, 5299, 1)
    assert space.hub.purge("away", 5299) == 0
