"""What came in: whoever observes a store is told of every commit, with the records, whoever has made it."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from peewee import Model, TextField
from rig.child import start_child
from rig.device import Device, airport_model, quick_store
from rig.gate import PATIENCE, wait_for

from statesync import (
    News,
    Store,
    StoreNotReady,
    UnknownObject,
    UsageError,
    server_wins,
)
from statesync.store.file import looks
from statesync.store.news.taps import Noted
from statesync.store.news.witness import StoreWitness

from .mirror import Mirror


@pytest.fixture
def mirror(here: Device) -> Iterator[Mirror]:
    kept = Mirror(here)
    yield kept
    kept.observation.stop()


def news(stored: list[str] | None = None, deleted: list[str] | None = None) -> News:
    return News("Airport", tuple(stored or ()), tuple(deleted or ()))


def after(mirror: Mirror, count: int) -> list[News]:
    """Return the news once there are so many."""
    assert wait_for(lambda: len(mirror.told) >= count)
    return mirror.take()


# -- what is told --------------------------------------------------------------------------------------


def test_each_batch_of_a_download_is_told_once_with_what_it_has_stored_and_deleted(
    here: Device, there: Device
) -> None:
    there.add(5)
    there.sync()
    here.sync()
    there.add(4, first=5)
    there.delete("k00000")
    there.sync()
    mirror = Mirror(here)
    here.sync(download_batch_size=2)
    told = after(mirror, 3)
    assert [len(each.stored) + len(each.deleted) for each in told] == [2, 2, 1]
    assert sorted(key for each in told for key in each.stored) == ["k00005", "k00006", "k00007", "k00008"]
    assert [key for each in told for key in each.deleted] == ["k00000"]
    assert not any(each.everything for each in told)


def test_what_the_program_writes_is_told(here: Device, mirror: Mirror) -> None:
    here.add(2)
    assert after(mirror, 1) == [news(["k00000", "k00001"])]
    here.delete("k00001")
    assert after(mirror, 1) == [news(deleted=["k00001"])]


def test_an_upload_that_changes_nothing_here_tells_nothing(here: Device, mirror: Mirror) -> None:
    here.add(3)
    after(mirror, 1)
    here.sync()
    here.edit("k00000", name="after it")
    assert after(mirror, 1) == [news(["k00000"])]


def test_what_a_policy_makes_of_a_conflict_is_told(here: Device, there: Device) -> None:
    here.add(1)
    here.sync()
    there.sync()
    there.edit("k00000", name="theirs")
    there.sync()
    here.edit("k00000", name="ours")
    mirror = Mirror(here)
    here.sync(conflict_policy=server_wins, sync_type="upload_only")
    assert after(mirror, 1) == [news(["k00000"])]
    assert mirror.rows["k00000"][0] == "theirs"


def test_a_rollback_is_told(here: Device) -> None:
    here.add(2)
    here.sync()
    here.edit("k00000", name="edited")
    here.add(1, first=2)
    mirror = Mirror(here)
    here.store.rollback()
    assert after(mirror, 1) == [news(["k00000"], ["k00002"])]


def test_clear_and_a_read_from_the_start_are_told(here: Device) -> None:
    here.add(2)
    here.sync()
    mirror = Mirror(here)
    here.store.clear()
    assert after(mirror, 1) == [news(deleted=["k00000", "k00001"])]
    here.sync()
    assert after(mirror, 1) == [news(["k00000", "k00001"])]


def test_what_is_written_untracked_is_told(here: Device, mirror: Mirror) -> None:
    with here.store.untracked():
        here.add(1)
    assert after(mirror, 1) == [news(["k00000"])]


def test_what_cascades_from_a_page_is_told(here: Device, there: Device) -> None:
    there.add(1)
    there.sync()
    here.execute(
        "CREATE TRIGGER copies AFTER INSERT ON airport WHEN NEW.id NOT LIKE 'copy%' BEGIN "
        "INSERT INTO airport (id, name, is_open) VALUES ('copy of ' || NEW.id, 'copy', 1); END"
    )
    mirror = Mirror(here)
    here.sync()
    assert after(mirror, 1) == [news(["copy of k00000", "k00000"])]


def test_a_transaction_of_the_programs_is_told_once_it_is_committed(here: Device, mirror: Mirror) -> None:
    with here.store.database.atomic():
        here.add(1)
        here.store.defer(here.airport.get_by_id("k00000"))
        here.add(1, first=1)
        here.store.defer(here.airport.get_by_id("k00001"))
        assert mirror.told == []
    assert {key for each in after(mirror, 1) for key in each.stored} == {"k00000", "k00001"}


@pytest.mark.parametrize("parts", [1, 2])
def test_a_look_between_a_commit_and_what_is_told_of_it_takes_nothing_from_its_keys(
    here: Device, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    looked, committed = threading.Event(), StoreWitness._committed
    look = StoreWitness.look

    def note_look(witness: StoreWitness) -> Noted | None:
        try:
            return look(witness)
        finally:
            looked.set()

    def late(witness: StoreWitness, *about: Any) -> None:
        looked.clear()
        assert looked.wait(PATIENCE)
        committed(witness, *about)

    monkeypatch.setattr(StoreWitness, "look", note_look)
    monkeypatch.setattr(StoreWitness, "_committed", late)
    with here.store.database.atomic():
        for number in range(parts):
            here.add(1, first=number)
            here.store.defer(here.airport.get_by_id(f"k{number:05}"))
    assert after(mirror, 1) == [news([f"k{number:05}" for number in range(parts)])]


def test_after_a_transaction_that_is_rolled_back_what_others_do_is_told(here: Device, mirror: Mirror) -> None:
    with here.store.database.atomic() as transaction:
        here.add(1)
        here.store.defer(here.airport.get_by_id("k00000"))
        transaction.rollback()
    with Store(here.store.database.database) as other:
        airport = airport_model(other)
        other.setup()
        airport.create(id="k00001", name="theirs", is_open=True)
        other.mark_for_upload()
    assert {each.everything or "k00001" in each.stored for each in after(mirror, 1)} == {True}


def _defers_and_undoes(here: Device, key: str) -> None:
    with here.store.database.atomic() as savepoint:
        here.airport.create(id=key, name="undone", is_open=True)
        here.store.defer(here.airport.get_by_id(key))
        savepoint.rollback()


def test_what_another_process_commits_after_a_part_that_was_undone_is_told(
    here: Device, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that was never committed is not taken for the last one that was told."""
    monkeypatch.setattr(looks, "OFTEN", 0.2)  # nothing is looked at between the two
    here.store.retry()
    with Store(here.store.database.database) as other:
        airport = airport_model(other)
        other.setup()
        for number in range(3):
            with here.store.database.atomic():
                _defers_and_undoes(here, f"undone{number}")
            airport.create(id=f"k{number}", name="theirs", is_open=True)
            other.mark_for_upload()
            assert {each.everything or f"k{number}" in each.stored for each in after(mirror, 1)} == {True}


def test_a_part_that_is_undone_costs_the_others_of_its_transaction_nothing(
    here: Device, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    with here.store.database.atomic():
        _defers_and_undoes(here, "undone")
        here.add(1)
    assert after(mirror, 1) == [news(["k00000"])]
    with here.store.database.atomic():
        here.add(1, first=1)
        here.store.defer(here.airport.get_by_id("k00001"))
        _defers_and_undoes(here, "undone")
    assert after(mirror, 1) == [news(["k00001"])]
    here.add(1, first=2)
    assert after(mirror, 1) == [news(["k00002"])]
    assert caplog.records == []


def test_what_is_untracked_in_a_transaction_that_commits_in_sql_is_told(here: Device, mirror: Mirror) -> None:
    database = here.store.database
    with database.manual_commit():
        database.begin()
        with here.store.untracked():
            here.airport.create(id="k", name="made", is_open=True)
        database.commit()
    assert after(mirror, 1) == [news(["k"])]
    with database.atomic():
        here.add(1)
        here.store.defer(here.airport.get_by_id("k00000"))
    assert after(mirror, 1) == [news(["k00000"])], "the next one that commits otherwise is told by that"


def test_who_rolls_back_again_and_again_keeps_no_news_from_others(here: Device, mirror: Mirror) -> None:
    over, rolled = threading.Event(), threading.Event()

    def keep_rolling_back() -> None:
        while not over.wait(0.3):
            _defers_and_undoes(here, "undone")
            rolled.set()
        here.store.database.close()

    rolling = threading.Thread(target=keep_rolling_back)
    rolling.start()
    try:
        with Store(here.store.database.database) as other:
            airport = airport_model(other)
            other.setup()
            assert rolled.wait(PATIENCE)
            airport.create(id="k", name="theirs", is_open=True)
            other.mark_for_upload()
            assert {each.everything or "k" in each.stored for each in after(mirror, 1)} == {True}
            assert rolling.is_alive()
    finally:
        over.set()
        rolling.join()


def test_a_transaction_that_is_rolled_back_is_not_told(here: Device, mirror: Mirror) -> None:
    with here.store.database.atomic() as transaction:
        here.add(1)
        here.store.defer(here.airport.get_by_id("k00000"))
        transaction.rollback()
    with pytest.raises(ZeroDivisionError):
        _write_and_fail(here)
    here.add(1, first=7)
    assert after(mirror, 1) == [news(["k00007"])]


def test_a_part_that_fails_in_a_transaction_that_goes_on_hides_nothing(here: Device, mirror: Mirror) -> None:
    with here.store.database.atomic():
        here.add(1)
        with pytest.raises(UsageError):
            here.store.resolve(7, "local")
        with pytest.raises(ZeroDivisionError):
            _write_and_fail(here)
        here.add(1, first=1)
    assert mirror.is_right()
    with closing(Store.open(here.store._parts.database.path)) as other:
        other.rollback()
    here.store.retry()
    assert mirror.is_right()
    assert mirror.rows == {}


def test_a_transaction_that_the_program_commits_in_sql_is_told(here: Device, mirror: Mirror) -> None:
    with here.store.database.manual_commit():
        here.store.database.begin()
        here.airport.create(id="k00000", name="by hand")
        here.store.defer(here.airport.get_by_id("k00000"))
        here.store.database.commit()
    assert mirror.is_right()
    assert list(mirror.rows) == ["k00000"]


def _write_and_fail(here: Device) -> None:
    with here.store.untracked():
        here.add(1, first=90)
        raise ZeroDivisionError


def test_a_repair_tells_that_everything_may_have_changed(here: Device) -> None:
    here.add(1)
    mirror = Mirror(here)
    here.store.repair()
    assert after(mirror, 1) == [News("Airport", everything=True)]
    here.add(1, first=1)
    assert after(mirror, 1) == [news(["k00001"])]


def test_a_migration_is_told_and_what_follows_it(here: Device) -> None:
    here.add(2)
    here.sync()
    here.store.setup([])
    mirror = Mirror(here)

    def rebuild(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE airport RENAME TO old")
        connection.execute("CREATE TABLE airport AS SELECT * FROM old WHERE FALSE")
        connection.execute("DROP TABLE airport")
        connection.execute("ALTER TABLE old RENAME TO airport")
        connection.execute("UPDATE airport SET name = 'migrated'")
        connection.execute("DELETE FROM airport WHERE id = 'k00000'")

    here.store.setup([rebuild])
    assert mirror.is_right()
    assert [row[0] for row in mirror.rows.values()] == ["migrated"]
    here.edit("k00001", name="after it")
    here.store.rollback()
    assert mirror.is_right()


def test_an_object_that_is_tracked_later_is_told_as_well(here: Device) -> None:
    told: list[News] = []
    with here.store.observe(None, told.append):

        class Ship(here.store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        ship = Ship.create(id="s", name="Argo")
        assert wait_for(lambda: News("Ship", ("s",)) in told or News("Ship", everything=True) in told)
        assert here.store.rollback(ship) == 1
        # The table, its tracking and the record are a commit each, and may be told one by one until now.
        assert wait_for(lambda: told[-1] == News("Ship", (), ("s",)))


@pytest.mark.parametrize("key", ["7", "7.5", "0.1 + 0.2", "-9223372036854775807"])
@pytest.mark.parametrize("is_tracked", [True, False])
def test_a_record_whose_key_is_a_number_is_never_told_as_gone_while_it_is_there(
    tmp_path: Path, key: str, is_tracked: bool
) -> None:
    """A column without a type keeps it as one, and whoever asks for the text does not find it."""
    with quick_store(tmp_path / "odd.db") as store:
        database: Any = store.database
        database.execute_sql("CREATE TABLE tag (name PRIMARY KEY, title TEXT)")

        class Tag(Model):
            name = TextField(primary_key=True)
            title = TextField()

        store.track(Tag)
        store.setup()
        told: list[News] = []
        with store.observe("Tag", told.append):
            for sql in (f"INSERT INTO tag VALUES ({key}, 'new')", "UPDATE tag SET title = 'edited'"):
                with nullcontext() if is_tracked else store.untracked():
                    database.execute_sql(sql)
                assert wait_for(lambda: told != [])
                assert told.pop() == News("Tag", everything=True)
            database.execute_sql("INSERT INTO tag VALUES ('a text', 'new')")
            assert wait_for(lambda: told == [News("Tag", ("a text",))])


def test_too_many_records_at_once_are_told_as_everything(
    here: Device, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statesync.store.news.taps.MOST", 3)
    here.add(4)
    assert after(mirror, 1) == [News("Airport", everything=True)]


# -- other processes -----------------------------------------------------------------------------------


def test_what_another_process_writes_is_told_with_its_records(here: Device, mirror: Mirror) -> None:
    with closing(Store.open(here.store._parts.database.path)) as other:
        database: Any = other.database
        database.execute_sql("INSERT INTO airport (id, name, is_open) VALUES ('x', 'theirs', 1)")
        assert after(mirror, 1) == [news(["x"])]


def test_what_another_process_downloads_is_told_as_everything(
    here: Device, there: Device, address: str, space: str
) -> None:
    there.add(3)
    there.sync()
    mirror = Mirror(here)
    with start_child(here.store._parts.database.path, address, space) as child:
        assert child.wait(20) == 0
    assert News("Airport", everything=True) in after(mirror, 1)
    assert len(mirror.rows) == 3


def test_what_another_process_takes_back_is_told(here: Device) -> None:
    here.add(2)
    here.sync()
    here.edit("k00000", name="a")
    here.edit("k00001", name="b")
    here.store.defer(here.airport.get_by_id("k00001"))
    mirror = Mirror(here)
    with closing(Store.open(here.store._parts.database.path)) as other:
        assert other.rollback() == 2
    assert News("Airport", everything=True) in after(mirror, 1)


# -- who is told ---------------------------------------------------------------------------------------


def test_an_observer_is_called_in_no_transaction_and_sees_what_is_committed(here: Device) -> None:
    found: list[tuple[bool, list[str]]] = []

    def look(_: News) -> None:
        found.append((here.store._parts.database.in_transaction(), here.keys()))

    with here.store.observe(here.airport, look):
        here.add(1)
        assert wait_for(lambda: len(found) == 1)
    assert found == [(False, ["k00000"])]


def test_a_callback_that_raises_is_logged_and_told_the_next(
    here: Device, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[News] = []

    def stumble(each: News) -> None:
        told.append(each)
        raise ZeroDivisionError

    with here.store.observe(here.airport, stumble):
        here.add(1)
        assert wait_for(lambda: len(told) == 1)
        here.add(1, first=1)
        assert wait_for(lambda: len(told) == 2)
    assert "a callback that observes a store raised" in caplog.text


def test_a_callback_that_asks_for_the_end_is_called_no_more(here: Device) -> None:
    def leave(_: News) -> None:
        sys.exit()

    observation = here.store.observe(here.airport, leave)
    here.add(1)
    assert wait_for(lambda: not observation.is_active)
    here.sync()
    assert len(here.keys()) == 1


def test_a_callback_that_blocks_holds_up_neither_sessions_nor_other_observers(
    here: Device, mirror: Mirror
) -> None:
    wall, reached = threading.Event(), threading.Event()

    def block(_: News) -> None:
        reached.set()
        wall.wait(20)

    with here.store.observe(here.airport, block) as blocked:
        here.add(1)
        assert reached.wait(20)
        here.sync()
        assert after(mirror, 1)
        blocked.stop()
        wall.set()


def test_a_callback_that_is_slow_is_told_everything_in_the_place_of_too_much(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statesync.store.news.waiting.MOST_WAITING", 3)
    wall, reached, told = threading.Event(), threading.Event(), list[News]()

    def listen(each: News) -> None:
        told.append(each)
        reached.set()
        wall.wait(20)

    mirror = Mirror(here)
    with here.store.observe(None, listen):
        for number in range(6):
            here.add(1, first=number)
            assert after(mirror, 1)
            assert reached.wait(20)
        wall.set()
        assert wait_for(lambda: told[-1] == news(["k00005"]) or told[-1].everything)
    assert [each.everything for each in told].count(True) == 1
    assert len(told) < 6


def test_what_a_callback_writes_is_told_and_goes_up(here: Device, there: Device) -> None:
    def answer(each: News) -> None:
        if "k00000" in each.stored:
            here.airport.get_or_create(id="answer", defaults={"name": "by the callback"})

    with here.store.observe(here.airport, answer):
        mirror = Mirror(here)
        here.add(1)
        assert wait_for(lambda: "answer" in mirror.rows)
    here.sync()
    there.sync()
    assert there.keys() == ["answer", "k00000"]


def test_a_transaction_that_a_callback_leaves_open_is_rolled_back(here: Device) -> None:
    done = threading.Event()

    def forget(each: News) -> None:
        if each.stored == ("k00000",):
            here.store.database.connect(reuse_if_open=True)
            here.store.database.begin()
            here.execute("INSERT INTO airport (id, name, is_open) VALUES ('lost', '', 1)")
            done.set()

    with here.store.observe(here.airport, forget):
        here.add(1)
        assert done.wait(20)
        here.add(1, first=1)  # waits for nobody
    assert here.keys() == ["k00000", "k00001"]


def test_nothing_is_told_after_a_stop_nor_after_the_store_was_closed(here: Device) -> None:
    first, second = list[News](), list[News]()
    stopped = here.store.observe(here.airport, first.append)
    stopped.stop()
    closed = here.store.observe(here.airport, second.append)
    here.store.close()
    here.add(1)
    here.sync()
    mirror = Mirror(here)
    here.add(1, first=1)
    assert after(mirror, 1)
    assert (first, second) == ([], [])
    assert not closed.is_active


def test_closing_the_store_waits_for_a_callback_no_longer_than_its_grace(here: Device) -> None:
    wall, reached = threading.Event(), threading.Event()

    def block(_: News) -> None:
        reached.set()
        wall.wait(20)

    here.store.observe(here.airport, block)
    here.add(1)
    assert reached.wait(20)
    here.store.close(grace=0.1)
    assert not wall.is_set()
    wall.set()


def test_an_object_is_observed_by_its_name_and_another_ones_news_are_not_told(here: Device) -> None:
    with pytest.raises(UnknownObject, match="Ship"):
        here.store.observe("Ship", print)
    told: list[News] = []
    with here.store.observe("Airport", told.append):
        here.add(1)
        assert wait_for(lambda: told == [news(["k00000"])])


def test_a_store_that_is_not_set_up_cannot_be_observed(tmp_path: Any) -> None:
    with closing(Store(tmp_path / "new.db")) as store, pytest.raises(StoreNotReady):
        store.observe(None, print)


def is_witnessed(device: Device) -> bool:
    return device.store._parts.database.witness is not None


def test_without_an_observer_the_database_has_no_witness_and_no_connection_a_tap(here: Device) -> None:
    assert not is_witnessed(here)
    with here.store.observe(None, print):
        here.add(1)
        here.sync()
        assert is_witnessed(here)
    here.sync()
    here.sync()
    here.store.retry()
    here.store.retry()
    assert not is_witnessed(here)
    assert here.execute("SELECT count(*) FROM temp.sqlite_master WHERE type = 'trigger'").fetchall() == [(0,)]
