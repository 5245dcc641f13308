"""A batch that is composed in one go says what its records say one by one, and stops where one is odd."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peewee import TextField
from rig.device import Device, as_downloaded
from rig.gate import Gate, lose_answer

from statesync import ConnectionLost, HttpRemote, Store, SyncOptions

KEY = "k00001"


def pushed(gate: Gate) -> list[list[dict[str, Any]]]:
    """The changes of each batch that went up, as they travelled."""
    return [seen.body["changes"] for seen in gate.seen if seen.verb == "push"]


def test_records_travel_with_the_values_that_their_columns_have(here: Device, gate: Gate) -> None:
    values: dict[str, Any] = {"name": 'Ä"\n', "elevation": 2**63 - 1, "latitude": -0.5, "is_open": False}
    here.airport.create(id="b", **values, plan=b"\0\xff")
    here.airport.create(id="a", name="null", elevation=None, latitude=None, is_open=True, plan=None)
    here.sync()
    ((first, second),) = pushed(gate)
    assert (first["key"], second["key"]) == ("b", "a")
    assert first["data"] == {**values, "plan": "AP8="}
    assert second == {
        "object": "Airport",
        "key": "a",
        "op": "upsert",
        "base": 0,
        "data": {"name": "null", "elevation": None, "latitude": None, "is_open": True, "plan": None},
    }


def test_each_change_says_on_what_it_is_based(here: Device, there: Device, gate: Gate) -> None:
    here.add(2)
    here.sync()
    there.sync()
    there.edit(KEY, name="theirs")
    there.sync()
    here.sync()
    here.edit("k00000", name="mine")
    here.airport.create(id="new", name="new")
    here.sync()
    first, last = pushed(gate)[-1]
    assert (first["key"], first["base"] > 1) == ("k00000", True)
    assert (last["key"], last["base"]) == ("new", 0)


def test_two_objects_with_the_same_key_in_one_batch_keep_their_own_values(
    tmp_path: Path, gate: Gate, space: str
) -> None:
    with Store(tmp_path / "two.db") as store, closing(HttpRemote(gate.url, space)) as remote:

        class Left(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        class Right(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        store.setup()
        Left.create(id="same", name="left")
        Right.create(id="same", name="right")
        assert store.scope(remote).sync().stats.uploaded == 2
    (batch,) = pushed(gate)
    assert {change["object"]: change["data"]["name"] for change in batch} == {
        "Left": "left",
        "Right": "right",
    }


def test_a_change_says_since_when_a_delete_would_be_news(here: Device, gate: Gate) -> None:
    here.add(2)
    here.scope.defer(here.airport.get_by_id(KEY))  # folds
    here.execute("UPDATE statesync_change SET since = 7, deferred = 0")
    here.sync()
    assert [change["since"] for change in pushed(gate)[0]] == [7, 7]


def test_a_column_that_a_change_spares_stays_here(here: Device, gate: Gate) -> None:
    here.add(2)
    here.scope.defer(here.airport.get_by_id(KEY))  # folds
    here.execute("UPDATE statesync_change SET deferred = 0")
    here.execute("UPDATE statesync_change SET spared = ? WHERE key = ?", '["elevation"]', KEY)
    here.sync()
    (batch,) = pushed(gate)
    assert {change["key"]: "elevation" in change["data"] for change in batch} == {"k00000": True, KEY: False}


ODD: dict[str, tuple[str, object]] = {
    "infinite": ("latitude", float("-inf")),
    "bytes": ("name", b"bytes"),
    "a text of bytes": ("plan", "text"),
}


@pytest.mark.parametrize(("column", "value"), ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_odd_record_keeps_only_itself_from_going_up(
    here: Device, there: Device, place: int, column: str, value: object
) -> None:
    here.add(3)
    here.execute("UPDATE airport SET elevation = 1, latitude = 1.5, plan = ?", b"\0")
    here.execute(f"UPDATE airport SET {column} = ? WHERE id = ?", value, f"k0000{place}")
    assert [error.key for error in here.sync().errors.upload] == [f"k0000{place}"]
    there.sync()
    assert there.keys() == [f"k0000{each}" for each in range(3) if each != place]


def test_a_record_that_is_missing_amid_a_batch_moves_no_other_ones_values(
    here: Device, there: Device
) -> None:
    here.add(3)
    with as_downloaded(here.store):
        here.delete(KEY)
    names = {key: here.field(key, "name") for key in ("k00000", "k00002")}
    assert [(error.key, error.code) for error in here.sync().errors.upload] == [(KEY, "record_missing")]
    there.sync()
    assert there.keys() == list(names)
    assert {key: there.field(key, "name") for key in names} == names


def test_an_edit_during_a_batch_that_is_accepted_whole_goes_up_next(here: Device, gate: Gate) -> None:
    here.add(3)
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    here.edit(KEY, name="edited")
    held.release()
    assert session.result(10).stats.uploaded == 3
    assert here.operations() == {KEY: "update"}
    here.sync()
    assert [(change["key"], change["data"]["name"]) for change in pushed(gate)[-1]] == [(KEY, "edited")]


def test_what_is_deferred_between_others_is_no_part_of_their_batch(here: Device) -> None:
    here.add(3)
    here.scope.defer(here.airport.get_by_id(KEY))
    assert here.sync().stats.uploaded == 2
    assert here.operations() == {KEY: "insert"}


def test_a_batch_of_several_is_offered_again_whole_after_a_lost_answer(here: Device, gate: Gate) -> None:
    here.add(3)
    gate.plan(lose_answer)
    with pytest.raises(ConnectionLost):
        here.sync(max_attempts=1)
    assert here.sync().stats.uploaded == 3
    first, again = pushed(gate)
    assert first == again


def test_only_the_payload_of_the_batch_that_is_under_way_is_kept(here: Device, gate: Gate) -> None:
    here.add(3)
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(upload_batch_size=1))
    held.wait()
    kept = []
    for _ in range(2):
        with closing(sqlite3.connect(here.store.database.database)) as other:
            kept.append(other.execute("SELECT number FROM statesync_payload").fetchall())
        following = gate.hold()
        held.release()
        following.wait()
        held = following
    held.release()
    session.result(10)
    assert kept == [[(1,)], [(2,)]]
    with closing(sqlite3.connect(here.store.database.database)) as other:
        assert other.execute("SELECT count(*) FROM statesync_payload").fetchone() == (0,)
