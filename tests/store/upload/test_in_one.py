"""A batch that is composed in one go says what its records say one by one, and stops where one is odd."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peewee import TextField
from rig.device import Device, as_downloaded
from rig.gate import Gate, lose_answer, pass_on, refuse

from statesync import ConnectionLost, HttpRemote, Phase, RemoteError, Store, SyncOptions, UsageError
from statesync.store.journal import batches
from statesync.store.journal.batches import WireBatch
from statesync.values import Direction

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


@pytest.mark.crossed
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


def test_records_travel_whose_columns_have_the_names_of_those_of_the_outbox(
    tmp_path: Path, gate: Gate, space: str
) -> None:
    with Store(tmp_path / "names.db") as store, closing(HttpRemote(gate.url, space)) as remote:

        class Item(store.Model):  # type: ignore[name-defined, misc]
            key = TextField()
            object = TextField()
            position = TextField()
            base = TextField()
            error = TextField()

        store.setup()
        values = {name: f"its {name}" for name in ("key", "object", "position", "base", "error")}
        Item.create(id="a", **values)
        Item.create(id="b", **values)
        assert store.scope(remote).sync().stats.uploaded == 2
    (batch,) = pushed(gate)
    assert [(change["key"], change["base"], change["data"]) for change in batch] == [
        ("a", 0, values),
        ("b", 0, values),
    ]


def test_a_batch_is_full_wherever_changes_were_taken_back(here: Device, gate: Gate) -> None:
    here.add(7)
    for key in ("k00000", "k00003", "k00004"):
        here.store.rollback(here.airport.get_by_id(key))
    here.sync(upload_batch_size=3)
    assert [[change["key"] for change in batch] for batch in pushed(gate)] == [
        ["k00001", "k00002", "k00005"],
        ["k00006"],
    ]


def a_change_of_its_own(here: Device, how: str) -> None:
    """Let the second of three changes be another one than those around it."""
    here.scope.defer(*here.airport.select())  # folds
    here.execute("UPDATE statesync_change SET deferred = 0")
    here.execute(f"UPDATE statesync_change SET {how} WHERE key = ?", KEY)


ANOTHER: dict[str, tuple[str, dict[str, Any]]] = {
    "revision": ("revision = 3", {}),
    "base": ("base = 5, shared = 2", {"base": 5}),
    "since": ("since = 4", {"since": 4}),
    "offer": ("shared = 3", {}),
    "error": ("error = 'bad_value: no', failed_in = 'before'", {}),
    "let go": ("parked = 1, error = 'no: no', refusals = 1, last_refused = 0, retry_at = 1", {}),
}


@pytest.mark.parametrize(("how", "said"), ANOTHER.values(), ids=list(ANOTHER))
def test_a_change_that_is_unlike_the_others_of_its_batch_says_what_it_is(
    here: Device, gate: Gate, how: str, said: dict[str, Any]
) -> None:
    here.add(3)
    a_change_of_its_own(here, how)
    assert here.sync(sync_type="upload_only").stats.uploaded == 3
    (batch,) = pushed(gate)
    told = [{name: change.get(name, 0) for name in ("key", "op", "base", "since")} for change in batch]
    plain = {"op": "upsert", "base": 0, "since": 0}
    assert told == [{**plain, "key": "k00000"}, {**plain, "key": KEY, **said}, {**plain, "key": "k00002"}]
    assert here.operations() == {}


@pytest.mark.parametrize(
    "how", ["parked = 1, error = 'no: no', last_refused = 0, first_refused = 0", "contested = 1"]
)
def test_a_change_that_waits_for_somebody_is_left_out_of_its_batch(
    here: Device, gate: Gate, how: str
) -> None:
    here.add(3)
    a_change_of_its_own(here, how)
    assert here.sync(sync_type="upload_only").stats.uploaded == 2
    assert [change["key"] for change in pushed(gate)[0]] == ["k00000", "k00002"]


# -- how the others travel, and what is under way ----------------------------------------------------

AS_THEY_ARE: list[dict[str, Any]] = [
    {"name": "", "elevation": 0, "latitude": 0.0, "is_open": False, "plan": b""},
    {"name": "1", "elevation": -(2**63), "latitude": 5e-324, "is_open": True, "plan": bytes(range(256))},
    {"name": "\u2028\U0001f6eb\t", "elevation": 1, "latitude": 0.1 + 0.2, "is_open": True, "plan": b"\xff"},
    {"name": "x" * 5000, "elevation": None, "latitude": 1e300, "is_open": False, "plan": None},
]


@pytest.mark.parametrize("is_alone", [True, False])
def test_records_travel_the_same_in_one_go_and_one_by_one(here: Device, gate: Gate, is_alone: bool) -> None:
    """Where one cannot travel, each is looked at by itself."""
    for number, values in enumerate(AS_THEY_ARE):
        here.airport.create(id=f"{number}", **values)
    here.execute("UPDATE airport SET is_open = 2 WHERE id = '1'")  # true to SQLite, and to who reads it
    if not is_alone:
        here.airport.create(id="odd", name="odd", latitude=float("inf"))
    here.sync()
    plans = ["", b64encode(bytes(range(256))).decode(), "/w==", None]
    expected = [{**values, "plan": plan} for values, plan in zip(AS_THEY_ARE, plans, strict=True)]
    assert [change["data"] for change in pushed(gate)[0]] == expected


@pytest.mark.parametrize("is_lost", [False, True])
def test_what_happens_to_a_batch_in_one_go_while_it_is_under_way_goes_up_next(
    here: Device, there: Device, gate: Gate, is_lost: bool
) -> None:
    """Changes that stand side by side were marked as one range: each is settled by itself all the same."""
    here.add(5)
    held = gate.hold(lose_answer if is_lost else pass_on)
    session = here.scope.start_sync(SyncOptions(max_attempts=1))
    held.wait()
    here.edit("k00001", name="edited")
    here.delete("k00002")
    here.delete("k00003")
    here.airport.create(id="k00003", name="again", is_open=True)
    here.add(1, first=5)
    held.release()
    if is_lost:
        with pytest.raises(ConnectionLost):
            session.result(10)
    else:
        assert session.result(10).stats.uploaded == 5
    here.sync()
    here.sync()
    assert here.operations() == {}
    there.sync()
    assert there.rows() == here.rows()
    assert there.keys() == ["k00000", "k00001", "k00003", "k00004", "k00005"]
    assert (there.field("k00001", "name"), there.field("k00003", "name")) == ("edited", "again")


def copy_amid(here: Device, gate: Gate) -> Path:
    """Leave a copy of the file as a process that is killed does, while the hub has the batch of five."""
    path = Path(here.store.database.database)
    copy = path.with_name("killed.db")
    held = gate.hold(lose_answer)
    session = here.scope.start_sync(SyncOptions(max_attempts=1))
    held.wait()
    with closing(sqlite3.connect(path)) as whole, closing(sqlite3.connect(copy)) as left:
        whole.backup(left)
    held.release()
    with pytest.raises(ConnectionLost):
        session.result(10)
    here.store.close()
    return copy


def marks_of(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as plain:
        return plain.execute("SELECT batch, sent FROM statesync_change").fetchall()


def as_format_16(path: Path) -> None:
    """Let a file be one of format 16, in which each change says with which batch it is under way."""
    with closing(sqlite3.connect(path)) as plain, plain:
        plain.execute(
            "UPDATE statesync_change SET (batch, sent) = (SELECT batch, revision FROM statesync_sent "
            "WHERE position BETWEEN first AND last)"
        )
        plain.execute("DROP TABLE statesync_sent")
        plain.execute("UPDATE statesync_meta SET value = 16 WHERE key = 'format'")


@pytest.mark.parametrize("is_older", [False, True], ids=["this format", "format 16"])
@pytest.mark.parametrize("is_edited", [False, True])
def test_a_device_that_was_killed_amid_a_batch_goes_on_with_it(
    here: Device,
    there: Device,
    gate: Gate,
    new_device: Callable[..., Device],
    is_older: bool,
    is_edited: bool,
) -> None:
    here.add(5)
    copy = copy_amid(here, gate)
    assert marks_of(copy) == [(None, None)] * 5  # a run is marked as one
    if is_older:
        as_format_16(copy)
        assert len(set(marks_of(copy))) == 1
    again = new_device("killed", gate.url)
    assert again.store.examine() == []
    if is_edited:
        again.edit("k00001", name="edited")
        again.delete("k00002")
        again.delete("k00003")
        again.airport.create(id="k00003", name="again", is_open=True)
    again.sync()
    first, repeat = [seen.body for seen in gate.seen if seen.verb == "push"][:2]
    assert (first["batch"], first["changes"]) == (repeat["batch"], repeat["changes"])
    again.sync()
    assert again.operations() == {}
    assert again.execute("SELECT count(*) FROM statesync_sent").fetchone() == (0,)
    there.sync()
    assert there.rows() == again.rows()
    assert ("k00002" in there.rows()) != is_edited


@pytest.mark.parametrize("way", ["rollback", "delete", "defer"])
def test_what_is_under_way_as_one_may_be_at_the_hub_for_each_of_its_records(
    here: Device, there: Device, gate: Gate, way: str
) -> None:
    here.add(3)
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    if way == "delete":
        here.delete(KEY)
        assert here.operations()[KEY] == "delete"
    elif way == "defer":
        here.scope.defer(here.airport.get_by_id(KEY))
    else:
        with pytest.raises(UsageError, match="may have reached the hub"):
            here.store.rollback(here.airport.get_by_id(KEY))
    before = here.operations()
    held.release()
    session.result(10)
    here.sync()
    there.sync()
    assert before.keys() >= {"k00000", "k00002"}
    assert here.operations() == {}
    assert there.rows() == here.rows()


def test_no_change_is_marked_where_the_hub_takes_a_batch_whole(here: Device, gate: Gate) -> None:
    here.add(4)
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(upload_batch_size=2))
    held.wait()
    path = Path(here.store.database.database)
    with closing(sqlite3.connect(path)) as plain:
        runs = plain.execute("SELECT first, last, revision FROM statesync_sent").fetchall()
    assert (runs, marks_of(path)) == ([(1, 2, 1)], [(None, None)] * 4)
    held.release()
    session.result(10)
    assert here.execute("SELECT count(*) FROM statesync_sent").fetchone() == (0,)


def test_the_payload_of_a_batch_in_doubt_makes_room_for_no_other(here: Device) -> None:
    with here.store._parts.database.transaction() as connection:
        for number in (1, 2, 3):
            batches.create_batch(connection, "s", number, Direction.UPLOAD, "space")
            batches.stage_upload(connection, "s", number, WireBatch(f"{number}", number, b"[]"), 0)
            batches.set_doubt(connection, "s", number, doubtful=number == 1)
    assert here.execute("SELECT number FROM statesync_payload ORDER BY number").fetchall() == [(1,), (3,)]


def test_a_payload_in_doubt_is_the_one_that_was_sent_to_the_byte(here: Device) -> None:
    """It is written over the one before, whichever of the two is longer."""
    with here.store._parts.database.transaction() as connection:
        for number, length in enumerate((0, 1, 300, 70_000, 69_990, 70_001, 2, 5000, 250_000), 1):
            payload = b"[" + b"7" * length + b"]"
            batches.create_batch(connection, "s", number, Direction.UPLOAD, "space")
            batches.stage_upload(connection, "s", number, WireBatch(f"{number}", number, payload), 0)
            batches.set_doubt(connection, "s", number, doubtful=True)
            found = batches.find_doubtful(connection, "space")
            assert found is not None
            assert (found.number, found.wire) == (number, WireBatch(f"{number}", number, payload))
            batches.set_doubt(connection, "s", number, doubtful=False)
    assert here.execute("SELECT number FROM statesync_payload").fetchall() == [(9,)]


def offer(here: Device, *keys: str) -> None:
    """Let changes be what a restored hub has lost, and nobody has made here."""
    here.scope.defer(*here.airport.select())  # folds
    here.execute("UPDATE statesync_change SET deferred = 0")
    for key in keys:
        here.execute("UPDATE statesync_change SET shared = 3 WHERE key = ?", key)


def test_a_batch_of_nothing_but_offers_may_be_forbidden(here: Device, gate: Gate) -> None:
    offer(here, *here.add(3))
    gate.plan(refuse(403, "forbidden"))
    assert [error.code for error in here.sync().errors.upload] == ["forbidden"] * 3


def test_such_a_batch_in_doubt_may_be_forbidden_too(here: Device, gate: Gate) -> None:
    offer(here, *here.add(3))
    gate.plan(lose_answer)
    with pytest.raises(ConnectionLost):
        here.sync(max_attempts=1)
    gate.plan(refuse(403, "forbidden"), refuse(403, "forbidden"))
    assert here.sync().phase is Phase.DONE


def test_a_batch_with_one_change_of_the_devices_own_may_not(here: Device, gate: Gate) -> None:
    offer(here, *here.add(3)[1:])
    gate.plan(refuse(403, "forbidden"))
    with pytest.raises(RemoteError, match="forbidden"):
        here.sync()


def test_what_waited_of_a_record_is_let_go_once_the_hub_has_taken_ours(here: Device) -> None:
    here.add(2)
    for key in (KEY, "other"):
        here.execute(
            "INSERT INTO statesync_quarantine VALUES (?, ?, 1, NULL, 'no', 'no', NULL, 's', 0, 1)",
            "Airport",
            key,
        )
    assert here.sync(sync_type="upload_only").stats.uploaded == 2
    assert here.execute("SELECT key FROM statesync_quarantine").fetchall() == [("other",)]
