"""The kit's misfits notice a store that makes no room, and one that forgets what waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from statesync.store.download import pages, retrying, room
from statesync.testing.moves.misfits import move_texts
from statesync.testing.moves.rules import MisfitDevice

from .shop import Shelf
from .test_world import MisfitWorld

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def world() -> Iterator[MisfitWorld]:
    """A world of two devices, both with two shelves; the second one takes a name but once."""
    world = MisfitWorld()
    for key in ("one", "two"):
        world.write(world.devices[0], lambda key=key: Shelf.insert(id=key, name=key).execute())  # type: ignore[misc]
    world.sync_everybody()
    yield world
    with suppress(AssertionError):  # what was broken is told of once more
        world.teardown()


def swap(world: MisfitWorld) -> None:
    one = world.devices[0]
    world.write(one, lambda: move_texts(one, Shelf, ["one", "two"], 1))
    world.sync_everybody()


def clash(world: MisfitWorld) -> None:
    for device, key in zip(world.devices, ("three", "four"), strict=True):
        world.write(device, lambda key=key: Shelf.insert(id=key, name="same").execute())  # type: ignore[misc]
    world.sync_everybody()
    assert {key for _, key in world.devices[1].held()} == {"three"}


def test_a_world_whose_names_are_swapped_ends_well(world: MisfitWorld) -> None:
    swap(world)
    assert {key: row["name"] for (_, key), row in world.devices[1].records().items()} == {
        "one": "two",
        "two": "one",
    }


def test_a_record_that_does_not_fit_arrives_once_the_rule_is_gone(world: MisfitWorld) -> None:
    clash(world)
    one = world.devices[1]
    assert isinstance(one, MisfitDevice)
    one.end_rules(list(one.rules))
    world.sync_everybody()
    assert one.held() == {}
    assert one.records()["Shelf", "three"]["name"] == one.records()["Shelf", "four"]["name"] == "same"


def test_a_world_notices_that_no_room_is_made(world: MisfitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def stay(_: Any, __: Any, rows: Any, ___: Any) -> set[str]:
        return {row[0] for row in rows}

    monkeypatch.setattr(room, "write_together", stay)
    with pytest.raises(AssertionError, match="keeps in quarantine what fits"):
        swap(world)


def test_a_world_notices_what_leaves_quarantine_and_is_not_stored(
    world: MisfitWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    clash(world)
    store = pages.apply_object
    monkeypatch.setattr(retrying, "apply_object", lambda *how: (store(*how)[0], []))
    world.sync_everybody()
    with pytest.raises(AssertionError, match="has not what its cursor says"):
        world.every_device_is_sound()
