"""The outbox: what goes up, what waits, what is taken back, and what the hub will not take."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peewee import IntegerField, Model, TextField
from rig.device import Device, device_at
from rig.gate import PATIENCE, Gate, lose_answer, lose_request, pass_on

from statesync import (
    AllRejected,
    ConnectionLost,
    HttpRemote,
    InDoubt,
    Phase,
    Store,
    SyncOptions,
    UnknownObject,
    UsageError,
)
from statesync.hub import Hub, HubLimits, LocalRemote

KEY = "k00000"


def pushed(gate: Gate) -> list[list[tuple[str, str]]]:
    """The batches that went up: operation and key of each change."""
    return [
        [(change["op"], change["key"]) for change in seen.body["changes"]]
        for seen in gate.seen
        if seen.verb == "push"
    ]


# -- the order, the batches, the horizon -------------------------------------------------------------


def test_changes_go_up_in_the_order_in_which_the_records_were_first_changed(here: Device, gate: Gate) -> None:
    for key in ("c", "a", "b"):
        here.airport.create(id=key, name=key)
    here.edit("c", name="again")
    here.sync(upload_batch_size=2)
    assert pushed(gate) == [[("upsert", "c"), ("upsert", "a")], [("upsert", "b")]]


def test_what_is_made_during_a_session_waits_for_the_next(here: Device, gate: Gate) -> None:
    here.add(4)
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    here.add(1, first=9)
    held.release()
    assert session.result(PATIENCE).stats.uploaded == 4
    assert here.operations() == {"k00009": "insert"}
    assert here.sync().stats.uploaded == 1


def test_an_object_level_session_leaves_other_objects_alone(tmp_path: Path, gate: Gate, space: str) -> None:
    with Store(tmp_path / "two.db") as store, closing(HttpRemote(gate.url, space)) as remote:

        class Left(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        class Right(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        store.setup()
        Left.create(id="l", name="l")
        Right.create(id="r", name="r")
        result = store.scope(remote, Left).sync()
        assert result.stats.uploaded == 1
        assert [(change.object, change.key) for change in store.pending()] == [("Right", "r")]
        assert store.scope(remote, Left).pending() == []
        assert [list(seen.body.get("objects", ["Left"])) for seen in gate.seen] == [["Left"], ["Left"]]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, Any, Any]]:
    """A store of two objects, of which only the first is synced."""
    with Store(tmp_path / "two.db") as store:

        class Left(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        class Right(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        store.setup()
        yield store, Left, Right


@pytest.mark.parametrize("passed", [0, 1], ids=["upload", "download"])
def test_what_is_written_to_another_object_during_a_session_waits(
    two: tuple[Store, Any, Any], gate: Gate, space: str, passed: int
) -> None:
    store, left, right = two
    left.create(id="l", name="l")
    with closing(HttpRemote(gate.url, space)) as remote:
        gate.plan(*[pass_on] * passed)
        held = gate.hold()
        session = store.scope(remote, left).start_sync()
        held.wait()
        right.create(id="r", name="r")
        held.release()
        assert session.result(PATIENCE).stats.uploaded == 1
        assert [(change.object, change.key) for change in store.pending()] == [("Right", "r")]
        assert store.scope(remote).sync().stats.uploaded == 1


DISCARD: dict[str, dict[str, bool]] = {
    "clear": {"discard_pending": True},
    "reset": {"discard_pending": True},
    "drop": {},
}


@pytest.mark.crossed
@pytest.mark.parametrize("in_doubt", [False, True])
@pytest.mark.parametrize("forget", DISCARD)
def test_own_records_come_back_to_an_object_that_was_emptied_alone(
    two: tuple[Store, Any, Any], gate: Gate, space: str, forget: str, in_doubt: bool
) -> None:
    """A feed spares a device what it wrote itself, but not where it has that no longer."""
    store, left, right = two
    with closing(HttpRemote(gate.url, space)) as remote:
        scope = store.scope(remote)
        left.create(id="l", name="l")
        right.create(id="r", name="r")
        if in_doubt:
            gate.plan(lose_answer)
            with pytest.raises(ConnectionLost):
                scope.sync(SyncOptions(max_attempts=1))
        else:
            scope.sync()
        getattr(store.scope(remote, right), forget)(**DISCARD[forget])
        if forget == "drop":
            store.track(right)
            store.setup()
        scope.sync()
        assert [row.name for row in right.select()] == ["r"]
        assert [row.name for row in left.select()] == ["l"]
        assert store.pending() == []


def test_own_records_come_back_also_after_a_mistyped_space(
    two: tuple[Store, Any, Any], gate: Gate, space: str
) -> None:
    store, left, right = two
    with closing(HttpRemote(gate.url, space)) as remote, closing(HttpRemote(gate.url, "typo")) as typo:
        left.create(id="l", name="l")
        right.create(id="r", name="r")
        store.scope(remote).sync()
        store.scope(remote, right).reset()
        gate.plan(lose_request)
        with pytest.raises(ConnectionLost):
            store.scope(typo, right).sync(SyncOptions(max_attempts=1))
        store.scope(remote).sync()
        assert [row.name for row in right.select()] == ["r"]


def test_records_from_before_tracking_stay_where_their_object_comes_to_a_known_space(
    tmp_path: Path, gate: Gate, space: str
) -> None:
    class Older(Model):
        id = TextField(primary_key=True)
        name = TextField()

    with Store(tmp_path / "later.db") as store, closing(HttpRemote(gate.url, space)) as remote:

        class Left(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        store.setup()
        Left.create(id="l", name="l")
        store.scope(remote).sync()
        with store.database.bind_ctx([Older]):
            store.database.create_tables([Older])
            Older.create(id="o", name="o")
            store.track(Older)
            store.setup()
            store.scope(remote).sync()
            assert [row.name for row in Older.select()] == ["o"]


def test_what_waits_stays_where_another_object_gets_a_new_column(
    two: tuple[Store, Any, Any],
) -> None:
    store, left, right = two
    left.create(id="l", name="l")
    right.create(id="r", name="r")
    store.close()
    with closing(sqlite3.connect(store.database.database)) as plain, plain:
        plain.execute('ALTER TABLE "left" ADD COLUMN size INTEGER')
    with Store(store.database.database) as later:

        class Left(later.Model):  # type: ignore[name-defined, misc]
            name = TextField()
            size = IntegerField(null=True)

        later.setup()
        assert {(change.object, change.key) for change in later.pending()} == {("Left", "l"), ("Right", "r")}


def test_what_was_edited_before_a_doubt_is_settled_goes_up_in_the_same_session(
    here: Device, gate: Gate
) -> None:
    here.add(2)
    gate.plan(lose_answer)
    with pytest.raises(ConnectionLost):
        here.sync(max_attempts=1)
    here.edit(KEY, name="edited since")
    here.sync()
    assert here.operations() == {}
    assert pushed(gate)[-1] == [("upsert", KEY)]


# -- an edit while its record is being uploaded ------------------------------------------------------


def during_the_upload(here: Device, gate: Gate, write: Callable[[], object]) -> None:
    """Run a session, and write while the hub's answer to the upload is held back."""
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    write()
    held.release()
    session.result(PATIENCE)


def test_an_edit_made_during_the_upload_is_not_lost(here: Device, there: Device, gate: Gate) -> None:
    here.add(1)
    during_the_upload(here, gate, lambda: here.edit(KEY, name="later"))
    assert here.operations() == {KEY: "update"}
    result = here.sync()
    assert result.conflicts == ()
    there.sync()
    assert there.field(KEY, "name") == "later"
    assert here.operations() == {}


def test_a_delete_made_while_its_insert_is_uploaded_is_not_lost(
    here: Device, there: Device, gate: Gate
) -> None:
    here.add(1)
    during_the_upload(here, gate, lambda: here.delete(KEY))
    assert here.operations() == {KEY: "delete"}
    there.sync()
    assert there.keys() == [KEY]
    here.sync()
    there.sync()
    assert there.rows() == {}
    assert here.rows() == {}


def test_a_record_made_again_while_its_delete_is_uploaded_is_not_lost(
    here: Device, there: Device, gate: Gate
) -> None:
    here.add(1)
    here.sync()
    here.delete(KEY)
    during_the_upload(here, gate, lambda: here.airport.create(id=KEY, name="again"))
    assert list(here.operations()) == [KEY]
    here.sync()
    there.sync()
    assert there.field(KEY, "name") == "again"


def test_an_insert_that_was_deleted_while_its_fate_was_open_is_deleted_at_the_hub(
    here: Device, there: Device, gate: Gate
) -> None:
    """The answer is lost and the record deleted meanwhile: the hub has it, so the delete must follow."""
    here.add(1)
    held = gate.hold(lose_answer)
    session = here.scope.start_sync()
    held.wait()
    session.cancel()
    here.delete(KEY)
    held.release()
    assert isinstance(session.exception(PATIENCE), InDoubt)
    here.sync()
    here.sync()
    there.sync()
    assert there.rows() == {}
    assert here.operations() == {}


@pytest.mark.usefixtures("no_backoff")
def test_an_insert_that_was_deleted_while_the_hub_heard_nothing_of_it_comes_to_nothing(
    here: Device, there: Device, gate: Gate
) -> None:
    here.add(2)
    gate.plan(lose_request)
    during_the_upload(here, gate, lambda: here.delete(KEY))
    here.sync()
    there.sync()
    assert there.keys() == ["k00001"]
    assert here.operations() == {}


def test_an_edit_back_and_forth_during_the_upload_still_ends_at_the_hub(
    here: Device, there: Device, gate: Gate
) -> None:
    here.add(1)

    def there_and_back() -> None:
        here.edit(KEY, name="forth")
        here.edit(KEY, name="n0")

    during_the_upload(here, gate, there_and_back)
    here.sync()
    there.sync()
    assert there.field(KEY, "name") == "n0"
    assert here.operations() == {}


# -- deferred, local-only ------------------------------------------------------------------------------


def test_deferred_changes_wait_until_they_are_marked_for_upload(here: Device, there: Device) -> None:
    here.add(2)
    assert here.scope.defer(here.airport.get_by_id(KEY)) == 1
    assert [(change.key, change.deferred) for change in here.scope.pending()] == [
        (KEY, True),
        ("k00001", False),
    ]
    here.sync()
    there.sync()
    assert there.keys() == ["k00001"]
    assert here.scope.mark_for_upload(here.airport.get_by_id(KEY)) == 1
    here.sync()
    there.sync()
    assert there.keys() == [KEY, "k00001"]


def test_an_edit_of_a_deferred_record_stays_deferred(here: Device) -> None:
    here.add(1)
    here.scope.defer(here.airport.get_by_id(KEY))
    here.edit(KEY, name="edited")
    assert here.sync().stats.uploaded == 0
    assert here.operations() == {KEY: "insert"}


def test_local_only_writes_never_go_up(here: Device, there: Device) -> None:
    with here.store.untracked():
        here.add(3)
    assert here.store.pending() == []
    assert not here.store.has_pending()
    assert here.sync().stats.uploaded == 0
    there.sync()
    assert there.rows() == {}


def test_a_record_of_an_object_outside_the_scope_is_refused(here: Device, tmp_path: Path) -> None:
    with device_at(tmp_path / "other.db", "http://127.0.0.1:9", "s") as stranger:
        stranger.add(1)
        with pytest.raises(UnknownObject):
            here.scope.defer(stranger.airport.get_by_id(KEY))


# -- rollback ------------------------------------------------------------------------------------------


@pytest.fixture
def three(here: Device) -> Device:
    """Three records that the hub has, of which one is then edited, one deleted, and a new one made."""
    here.add(3)
    here.sync()
    here.edit("k00000", name="edited")
    here.delete("k00001")
    here.add(1, first=7)
    return here


def test_rolling_back_everything_brings_back_what_the_hub_has(three: Device) -> None:
    assert three.store.rollback() == 3
    assert three.keys() == ["k00000", "k00001", "k00002"]
    assert three.field("k00000", "name") == "n0"
    assert three.operations() == {}
    assert three.sync().stats.uploaded == 0


def test_rolling_back_one_record_leaves_the_others(three: Device) -> None:
    assert three.scope.rollback(three.airport.get_by_id("k00000")) == 1
    assert three.field("k00000", "name") == "n0"
    assert three.operations() == {"k00001": "delete", "k00007": "insert"}


def test_rolling_back_a_model_is_rolling_back_its_records(three: Device) -> None:
    assert three.scope.rollback(three.airport) == 3
    assert three.operations() == {}


def test_rolling_back_a_record_that_the_hub_changed_meanwhile_takes_the_hubs(
    here: Device, there: Device
) -> None:
    here.add(2)
    here.sync()
    there.sync()
    for key in ("k00000", "k00001"):
        here.edit(key, name="mine")
    there.edit("k00000", name="theirs")
    there.delete("k00001")
    there.sync()
    here.sync(sync_type="download_only")
    assert here.field("k00000", "name") == "mine"
    assert here.store.rollback() == 2
    assert here.field("k00000", "name") == "theirs"
    assert here.keys() == ["k00000"]
    assert here.operations() == {}
    here.sync()
    there.sync()
    assert here.rows() == there.rows()


def test_a_record_that_is_under_way_cannot_be_rolled_back(here: Device, gate: Gate) -> None:
    here.add(2)
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with pytest.raises(UsageError, match="may have reached the hub"):
        here.store.rollback()
    assert here.keys() == ["k00000", "k00001"]
    held.release()
    session.result(PATIENCE)


def test_a_rollback_inside_a_transaction_is_refused(here: Device) -> None:
    here.add(1)
    with here.store.database.atomic(), pytest.raises(UsageError, match="transaction"):
        here.store.rollback()
    assert here.operations() == {KEY: "insert"}


# -- remove after upload -------------------------------------------------------------------------------


def test_records_are_removed_once_the_hub_has_them(here: Device, there: Device) -> None:
    here.add(3)
    result = here.sync(remove_after_upload=True, upload_batch_size=2)
    assert result.stats.uploaded == 3
    assert here.rows() == {}
    assert here.operations() == {}
    there.sync()
    assert len(there.rows()) == 3


def test_removing_after_upload_keeps_what_was_edited_meanwhile(
    here: Device, there: Device, gate: Gate
) -> None:
    here.add(2)
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(remove_after_upload=True))
    held.wait()
    here.edit(KEY, name="later")
    held.release()
    session.result(PATIENCE)
    assert here.keys() == [KEY]
    here.sync(remove_after_upload=True)
    assert here.rows() == {}
    there.sync()
    assert there.field(KEY, "name") == "later"


def test_removing_after_upload_keeps_what_the_hub_rejected(here: Device) -> None:
    here.add(1)
    here.airport.create(id="x" * 256, name="too long a key")
    here.sync(remove_after_upload=True)
    assert here.keys() == ["x" * 256]


# -- records that are not taken ------------------------------------------------------------------------


@pytest.fixture
def picky(here: Device, live_hub: tuple[Hub, str]) -> Iterator[Device]:
    """A device whose hub takes records of at most 400 bytes."""
    hub = Hub(live_hub[0].url, without_tokens=True, limits=HubLimits(record=400))
    yield Device(here.store, here.airport, LocalRemote(hub, here.remote.space))
    hub.close()


def test_a_rejected_record_stays_with_its_error_and_hurts_no_other(picky: Device, there: Device) -> None:
    picky.add(2)
    picky.edit(KEY, name="x" * 1000)
    result = picky.sync()
    assert result.phase is Phase.DONE
    assert result.stats.uploaded == 1
    (error,) = result.errors.upload
    assert (error.object, error.key) == ("Airport", KEY)
    assert error.code
    assert error.message
    (change,) = picky.store.pending()
    assert change.key == KEY
    assert change.error
    there.sync()
    assert there.keys() == ["k00001"]


def test_a_rejected_record_is_tried_again_once_it_is_edited(picky: Device, there: Device) -> None:
    picky.add(2)
    picky.edit(KEY, name="x" * 1000)
    picky.sync()
    assert picky.sync().errors.upload == ()
    picky.edit(KEY, name="short")
    result = picky.sync()
    assert result.errors.upload == ()
    there.sync()
    assert there.field(KEY, "name") == "short"


def test_a_session_whose_every_record_is_rejected_fails(picky: Device) -> None:
    picky.add(3)
    picky.airport.update(name="x" * 1000).execute()
    with pytest.raises(AllRejected) as failed:
        picky.sync(upload_batch_size=2)
    assert failed.value.phase is Phase.FAILED
    assert len(failed.value.result.errors.upload) == 3
    assert len(picky.operations()) == 3


@pytest.mark.parametrize(
    ("key", "values", "code"),
    [
        ("x" * 256, {"name": "long key"}, "key_too_long"),
        ("", {"name": "no key"}, "key_too_long"),
        ("inf", {"name": "infinite", "latitude": float("inf")}, "bad_value"),
        ("big", {"name": "x" * (9 << 20)}, "record_too_large"),
    ],
)
def test_a_record_that_no_hub_could_take_is_not_sent_but_listed(
    here: Device, there: Device, gate: Gate, key: str, values: dict[str, Any], code: str
) -> None:
    here.add(1)
    here.airport.create(id=key, **values)
    result = here.sync()
    assert pushed(gate) == [[("upsert", KEY)]]
    assert [(error.key, error.code) for error in result.errors.upload] == [(key, code)]
    assert here.operations() == {key: "insert"}
    there.sync()
    assert there.keys() == [KEY]


@pytest.mark.parametrize(("column", "value"), [("plan", "text"), ("name", b"bytes"), ("elevation", b"1")])
def test_a_value_that_is_not_what_its_model_stores_is_not_sent_but_listed(
    here: Device, there: Device, column: str, value: object
) -> None:
    """It would arrive as something else, or keep every other device from reading on.

    That holds whether or not the record has an empty column besides.
    """
    here.add(2)
    here.execute("UPDATE airport SET elevation = 1, latitude = 1.5, plan = ?", b"\0")
    here.execute(f"UPDATE airport SET {column} = ? WHERE id = ?", value, KEY)
    (error,) = here.sync().errors.upload
    assert (error.key, error.code) == (KEY, "bad_value")
    assert column in error.message
    there.sync()
    assert there.keys() == ["k00001"]
