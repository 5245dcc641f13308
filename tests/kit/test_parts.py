"""The parts of the kit do what they say: a test that could not fail would prove nothing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import peewee
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from rig.search import examples

from statesync import BadOptions, Phase, Store, UnsupportedModel
from statesync.errors import ConnectionLost, RemoteError
from statesync.hub import Hub, LocalRemote, prepare
from statesync.hub.pages import pull
from statesync.store import conflict_log
from statesync.store.bases import Base
from statesync.store.cursors import applied, knowledge, rereads
from statesync.store.journal.batches import WireBatch
from statesync.store.outbox import queue, shared, under_way
from statesync.store.upload import verdicts
from statesync.testing import CrashPoints, Fault, FaultyRemote, Point, ProgramFailed, Watch, record_strategy
from statesync.testing.moves.restored import Fate, Sequel
from statesync.testing.peer import Peer

from .shop import Article, Shelf
from .test_world import RestoredWorld, World


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[FaultyRemote]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True)
    yield FaultyRemote(LocalRemote(hub, "parts"), rates={}, delay=0.2)
    hub.close()


# -- CrashPoints -----------------------------------------------------------------------------------


def three_rows(path: Path) -> Any:
    def program(watch: Watch) -> None:
        database = peewee.SqliteDatabase(str(path))
        watch.database(database)
        with database:
            for number in range(3):
                database.execute_sql("INSERT INTO t VALUES (?)", (number,))  # type: ignore[no-untyped-call]
        database.close()

    return program


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "rows.db")) as made:
        made.execute("CREATE TABLE t (n)")
    return tmp_path / "rows.db"


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as found:
        return int(found.execute("SELECT count(*) FROM t").fetchone()[0])


def test_every_statement_and_commit_is_a_point(rows: Path) -> None:
    points = CrashPoints(three_rows(rows)).listed()
    assert [point.kind for point in points] == ["statement"] * 4 + ["commit"]
    assert [point.number for point in points] == [1, 2, 3, 4, 5]
    assert str(points[1]) == "point 2, statement: INSERT INTO t VALUES (?)"


def test_a_program_that_ends_before_its_commit_leaves_nothing(rows: Path) -> None:
    points = CrashPoints(three_rows(rows))
    for number in range(1, 6):
        points.crash(number)
        assert count(rows) == 0
    assert not points.run_to(6)
    assert count(rows) == 3


def test_a_program_that_fails_or_ends_too_early_is_told_of(rows: Path) -> None:
    with pytest.raises(ProgramFailed, match="ZeroDivisionError"):
        CrashPoints(lambda _: 1 / 0).listed()
    with pytest.raises(ProgramFailed, match="never came to"):
        CrashPoints(three_rows(rows)).crash(Point(99, "statement", "none"))


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(ProgramFailed, match="not over after"):
        CrashPoints(lambda _: threading.Event().wait(), patience=0.2).listed()


# -- FaultyRemote ----------------------------------------------------------------------------------


def test_a_lost_request_is_not_heard_and_a_lost_answer_is(remote: FaultyRemote) -> None:
    peer, reader = Peer(remote, "Thing"), Peer(remote, "Thing")
    for fault, heard in ((Fault.LOSE_REQUEST, set[str]()), (Fault.LOSE_ANSWER, {"a"})):
        remote.inject(fault)
        with pytest.raises(ConnectionLost) as caught:
            peer.push(peer.upsert("a", {}))
        assert caught.value.maybe_applied
        reader.pull_all()
        assert reader.held.keys() == heard


def test_a_repeat_is_heard_twice_and_applied_once(remote: FaultyRemote) -> None:
    peer = Peer(remote, "Thing")
    remote.inject(Fault.REPEAT)
    peer.push(peer.upsert("a", {}))
    assert peer.pull().head == 1


def test_a_late_arrival_comes_before_the_next_request(remote: FaultyRemote) -> None:
    peer, reader = Peer(remote, "Thing"), Peer(remote, "Thing")
    remote.inject(Fault.ARRIVE_LATE)
    with pytest.raises(ConnectionLost):
        peer.push(peer.upsert("a", {}))
    reader.pull_all()
    assert reader.held == {"a": {}}


def test_a_refusal_says_that_nothing_was_applied(remote: FaultyRemote) -> None:
    peer = Peer(remote, "Thing")
    remote.inject(Fault.REFUSE)
    with pytest.raises(RemoteError) as caught:
        peer.push(peer.upsert("a", {}))
    assert (caught.value.retryable, caught.value.maybe_applied) == (True, False)


def test_a_truncated_page_leads_to_the_same_records(remote: FaultyRemote) -> None:
    peer, reader = Peer(remote, "Thing"), Peer(remote, "Thing")
    peer.push(*(peer.upsert(f"{n}", {}) for n in range(5)))
    remote.inject(Fault.TRUNCATE)
    assert reader.pull().more
    assert len(reader.held) == 2
    reader.pull_all()
    assert len(reader.held) == 5


@pytest.mark.parametrize("again", [1, 2, 3, 5])
def test_a_truncated_page_of_scans_is_such_as_a_hub_of_smaller_pages_would_have_sent(
    remote: FaultyRemote, tmp_path: Path, again: int
) -> None:
    """Versions fall where keys rise, so the record that is kept last may be the hub's newest."""
    for name in ("Tag", "Thing"):
        peer = Peer(remote, name)
        peer.push(*(peer.upsert(f"{n}", {"title": name}) for n in reversed(range(5))))
    with Store(tmp_path / "device.db") as store:
        models: list[Any] = [
            type(name, (store.Model,), {"title": peewee.TextField()}) for name in ("Tag", "Thing")
        ]
        store.setup()
        remote.inject(*[Fault.TRUNCATE] * again)
        assert store.scope(remote).sync().phase is Phase.DONE
        assert [len(model.select()) for model in models] == [5, 5]
    assert remote.happened == [Fault.TRUNCATE] * again


def test_the_same_seed_makes_the_same_faults(remote: FaultyRemote) -> None:
    def faults(seed: int) -> list[Fault]:
        one = FaultyRemote(remote, seed=seed, delay=0.0)
        for _ in range(60):
            try:
                Peer(one, "Thing").pull()
            except RemoteError:
                continue
        return one.happened

    assert faults(7) == faults(7) != faults(8)


def test_rates_that_are_no_probabilities_are_refused(remote: FaultyRemote) -> None:
    with pytest.raises(BadOptions):
        FaultyRemote(remote, rates={Fault.DELAY: 1.5})


# -- record_strategy -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=examples(15))
@given(row=record_strategy(Article))
def test_every_row_of_a_strategy_fits_its_table_and_comes_back(row: dict[str, Any]) -> None:
    database = peewee.SqliteDatabase(":memory:")
    with database.bind_ctx([Shelf, Article]), database:
        database.create_tables([Shelf, Article])
        Article.create(**row)
        found = Article.select().dicts().get()
    assert found == row


def test_a_foreign_key_that_must_be_needs_a_strategy() -> None:
    class Part(peewee.Model):
        id = peewee.CharField(primary_key=True)
        whole = peewee.ForeignKeyField(Shelf)

    with pytest.raises(UnsupportedModel, match="whole"):
        record_strategy(Part)
    record_strategy(Part, whole=st.just("here"))
    with pytest.raises(UnsupportedModel, match="no field"):
        record_strategy(Part, hole=st.just("here"))


# -- SyncWorld: it finds what is broken ------------------------------------------------------------


@pytest.fixture
def world() -> World:
    """A world with one record that both devices have."""
    made = World()
    made.write(made.devices[0], lambda: Shelf.insert(id="s", name="of both").execute())
    made.sync_everybody()
    return made


def rename(name: str) -> Any:
    return lambda: Shelf.update({Shelf.name: name}).execute()


def test_a_world_in_which_all_is_well_ends_well(world: World) -> None:
    for device in world.devices:
        world.write(device, rename(f"of {device.name}"))
    world.let_sync(world.devices[0], [], None, lambda: world.write(world.devices[0], rename("meanwhile")))
    world.teardown()


def test_a_world_notices_a_store_that_loses_what_was_edited_during_an_upload(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = verdicts._store_accepted

    def forgetful(connection: sqlite3.Connection, batch: WireBatch, *rest: Any, **more: Any) -> None:
        under_way.spread(connection)
        connection.execute("UPDATE statesync_change SET sent = revision WHERE batch = ?", (batch.id,))
        real(connection, batch, *rest, **more)

    monkeypatch.setattr(verdicts, "_store_accepted", forgetful)
    one = world.devices[0]
    world.write(one, rename("sent"))
    world.let_sync(one, [], None, lambda: world.write(one, rename("meanwhile")))
    with pytest.raises(AssertionError, match="differ"):
        world.teardown()


def test_a_world_notices_that_the_loser_of_a_conflict_is_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflict_log, "add", lambda *_: None)
    for device in world.devices:
        world.write(device, rename(f"of {device.name}"))
    with pytest.raises(AssertionError, match="lost"):
        world.teardown()


def test_a_world_notices_a_session_that_tells_more_than_is_durable(world: World) -> None:
    one = world.devices[0]
    one.store.database.execute_sql("UPDATE statesync_session SET phase = 'cancelled'")  # type: ignore[no-untyped-call]
    world._device(0)
    with pytest.raises(AssertionError, match="journal"):
        world.every_device_is_sound()
    one.store.database.execute_sql("UPDATE statesync_session SET phase = 'done'")  # type: ignore[no-untyped-call]
    world.teardown()


def test_a_world_notices_a_local_write_that_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "untracked", lambda _: nullcontext())
    world.edit_all_locally(world.devices[0], Shelf)
    world.sync_everybody()
    with pytest.raises(AssertionError, match="has sent local only"):
        world.teardown()


def test_what_one_statement_writes_locally_may_become_public_record_by_record(world: World) -> None:
    one = world.devices[0]
    world.write(one, new_shelf("t", "of both"))
    world.sync_everybody()
    world.edit_all_locally(one, Shelf)
    world.write(one, lambda: Shelf.update(id="u").where(Shelf.id == "t").execute())
    world.teardown()


def test_a_world_takes_a_step_for_a_column_that_another_program_has_added_already(world: World) -> None:
    one = world._versioned(0)
    world._set_up_next(one)
    world.update_program(0, "step", 1)
    assert one.version == one.on_file == 1
    world.teardown()


def test_a_world_ends_well_with_a_refused_record_of_a_model_that_is_not_its_own(world: World) -> None:
    one = world._versioned(0)
    world.refuse_large_records(1)
    world._track(one)
    world.sync_everybody()
    assert one.waiting().keys() == {("Visit", "of device 0")}
    assert one.pending() == {}
    world.teardown()


@given(data=st.data())
@settings(max_examples=3, deadline=None, derandomize=True)
def test_the_session_of_another_version_may_end_with_all_records_refused(data: st.DataObject) -> None:
    world = World()
    world.refuse_large_records(1)
    world.use_other_version(0, version=0, syncs=True, data=data)
    assert [change.parked is not None for change in world.devices[0].pending().values()] == [True]
    world.teardown()


def test_a_world_that_fails_in_the_end_leaves_nothing_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise AssertionError("this is wrong")

    monkeypatch.setattr(world, "check_local", fail)
    world.devices[1].close()
    with pytest.raises(AssertionError, match="this is wrong"):
        world.teardown()
    files: list[Any] = [world.hub.hub.database.pool, *(device.store.database for device in world.devices)]
    assert [len(file.held_connections()) for file in files] == [0, 0, 0]
    assert not world.folder.exists()


@pytest.fixture
def refused(world: World) -> World:
    """A world in which the first device has a change that the hub has refused."""
    world.refuse_large_records(1)
    world.write(world.devices[0], rename("too large"))
    world.sync_everybody()
    (change,) = world.devices[0].store.pending()
    assert change.parked is not None
    return world


def test_a_world_in_which_something_was_refused_ends_well_once_it_is_taken(refused: World) -> None:
    refused.sync_everybody()
    refused.teardown()


def test_a_world_notices_a_refused_change_that_is_sent_again(
    refused: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_READY", "deferred = 0 AND contested IS NULL AND :now")
    with pytest.raises(AssertionError, match="without a reason"):
        refused.sync_everybody()
    refused.teardown()


def test_a_world_notices_a_refused_change_that_is_dropped(refused: World) -> None:
    one = refused.devices[0]
    drop = "CREATE TRIGGER drop_it AFTER UPDATE ON statesync_session BEGIN DELETE FROM statesync_change; END"
    one.store.database.execute_sql(drop)  # type: ignore[no-untyped-call]
    with pytest.raises(AssertionError, match="was parked, and went"):
        refused.let_sync(one, [], None)
    one.store.database.execute_sql("DROP TRIGGER drop_it")  # type: ignore[no-untyped-call]
    one.store.scope(one.remote, one.own(Shelf)).clear()
    with pytest.raises(AssertionError, match="lost"):
        refused.teardown()


def test_a_world_notices_refusals_that_are_not_counted(
    refused: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "park", lambda *_: None)
    refused.write(refused.devices[0], rename("too large again"))
    with pytest.raises(AssertionError, match="counts its refusals otherwise"):
        refused.sync_everybody()
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="differ"):
        refused.teardown()


def new_shelf(key: str, name: str) -> Any:
    return lambda: Shelf.insert(id=key, name=name).execute()


class PickyWorld(World):
    options = evolve(World.options, filter={"Shelf": {"name": "wanted"}})


@pytest.fixture
def picky() -> PickyWorld:
    """A world of devices that want some records only, with one of those and one of others."""
    made = PickyWorld()
    for key, name in (("a", "wanted"), ("b", "not wanted")):
        made.write(made.devices[0], new_shelf(key, name))
    made.sync_everybody()
    made.every_device_is_sound()
    return made


def test_in_a_world_with_a_filter_nobody_needs_what_it_hides(picky: PickyWorld) -> None:
    assert [picky.keys(Shelf, device) for device in picky.devices] == [["a"], ["a"]]
    picky.teardown()


def test_a_world_notices_a_hub_that_sends_what_a_filter_hides(
    picky: PickyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(pull, "passes", lambda *_: True)
        picky.write(picky.devices[0], new_shelf("c", "not wanted"))
        picky.sync_everybody()
        with pytest.raises(AssertionError, match="cursor"):
            picky.every_device_is_sound()
    one = picky.devices[1]
    one.store.scope(one.remote, one.own(Shelf)).clear()
    picky.teardown()


# -- RestoredHub ---------------------------------------------------------------------------------------


@pytest.fixture
def restored() -> RestoredWorld:
    """A world with two records that both devices have."""
    made = RestoredWorld()
    for key in ("k", "s"):
        made.write(made.devices[0], lambda key=key: Shelf.insert(id=key, name="of both").execute())  # type: ignore[misc]
    made.sync_everybody()
    return made


def make_and_delete(world: RestoredWorld, fate: Fate) -> None:
    world.back_up()
    world.write(world.devices[0], lambda: Shelf.insert(id="made", name="here").execute())
    world.write(world.devices[1], lambda: Shelf.insert(id="other", name="there").execute())
    world.suffer(0, fate)
    world.delete_one(world.devices[0], Shelf, "made")


def miss_a_delete(world: RestoredWorld, then: Sequel) -> None:
    home = world.devices[0]
    world.delete_one(home, Shelf, "k")
    world.let_sync(home, [], None)
    world.forget_deletes()
    world.back_up()
    for key in ("a new one", "a newer one"):
        world.write(home, lambda key=key: Shelf.insert(id=key, name="new").execute())  # type: ignore[misc]
        world.let_sync(home, [], None)
    world.come_back(1, 2, then, lambda: Shelf.update({Shelf.name: "edited"}).where(Shelf.id == "k").execute())


@pytest.mark.parametrize("fate", ["lost", "doubted", "restored", "kept"])
def test_a_world_whose_hub_may_have_what_is_deleted_ends_well(restored: RestoredWorld, fate: Fate) -> None:
    make_and_delete(restored, fate)
    assert ("Shelf", "made") not in restored.devices[0].records()
    restored.teardown()


@pytest.mark.parametrize("then", ["reads on", "is edited", "hub is restored"])
def test_a_world_in_which_a_delete_is_missed_ends_well(restored: RestoredWorld, then: Sequel) -> None:
    miss_a_delete(restored, then)
    assert ("Shelf", "k") in restored.devices[1].records()
    restored.teardown()


@pytest.mark.sabotage
@pytest.mark.parametrize("fate", ["lost", "doubted"])
def test_a_world_notices_a_store_that_takes_no_batch_for_never_sent(
    restored: RestoredWorld, monkeypatch: pytest.MonkeyPatch, fate: Fate
) -> None:
    monkeypatch.setattr(shared, "NEVER_LEFT", "image IS NULL AND batch IS NULL")
    make_and_delete(restored, fate)
    with pytest.raises(AssertionError, match="the delete"):
        restored.teardown()


@pytest.mark.sabotage
def test_a_world_notices_a_store_that_forgets_a_doubt(
    restored: RestoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "note_batch", lambda *_: None)
    make_and_delete(restored, "doubted")
    with pytest.raises(AssertionError, match="the delete"):
        restored.teardown()


@pytest.mark.sabotage
def test_a_world_notices_a_store_that_takes_what_it_read_again_for_all(
    restored: RestoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_over = rereads.start_over

    def careless(connection: sqlite3.Connection, name: str, why: str) -> None:
        since = applied.cursors(connection, [name])[name].since
        start_over(connection, name, why)
        connection.execute("UPDATE statesync_cursor SET missed_from = max(missed_from, ?)", (since,))

    monkeypatch.setattr(rereads, "start_over", careless)
    miss_a_delete(restored, "hub is restored")
    with pytest.raises(AssertionError, match="come back"):
        restored.teardown()


@pytest.mark.sabotage
def test_a_world_notices_an_edit_that_is_based_on_what_was_read_again(
    restored: RestoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(connection: sqlite3.Connection, name: str) -> Base:
        at = applied.cursors(connection, [name])[name]
        return Base(str(max(1, at.position, at.since)), "0")

    monkeypatch.setattr(knowledge, "base_sql", careless)
    miss_a_delete(restored, "is edited")
    with pytest.raises(AssertionError, match="come back"):
        restored.teardown()
