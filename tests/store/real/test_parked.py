"""A change that the hub has refused is parked: it is not sent again before there is a reason to.

Source: section 2 of the design's second part.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from peewee import IntegerField, TextField
from rig.device import Device, device_at, device_on, quick_store
from rig.gate import gate_before, lose_answer
from rig.judge import JudgedRemote

from statesync import AllRejected, Phase, RemoteError, Store, SyncFailed, UnknownObject, UsageError
from statesync.cli.commands import commands
from statesync.hub import Hub, LocalRemote, prepare, serving
from statesync.wire import Change, Rejected

KEY, OTHER = "k00000", "k00001"


def refuse(*keys: str, **more: Any) -> Callable[[Change], Rejected | None]:
    """Return the judge that refuses the records under these keys."""
    return lambda change: Rejected("no_good", "it is no good", **more) if change.key in keys else None


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True)
    yield hub
    hub.close()


@pytest.fixture
def remote(hub: Hub) -> JudgedRemote:
    return JudgedRemote(LocalRemote(hub, "sp"), refuse(KEY))


@pytest.fixture
def here(tmp_path: Path, remote: JudgedRemote) -> Iterator[Device]:
    with device_on(tmp_path / "here.db", remote) as device:
        yield device


@pytest.fixture
def there(tmp_path: Path, hub: Hub) -> Iterator[Device]:
    with device_on(tmp_path / "there.db", LocalRemote(hub, "sp")) as device:
        yield device


@pytest.fixture
def parked(here: Device, remote: JudgedRemote) -> Device:
    """A device with one record that the hub has and one that it has refused."""
    here.add(2)
    here.sync()
    remote.sent.clear()
    return here


@contextmanager
def clock(monkeypatch: pytest.MonkeyPatch, shift: float) -> Iterator[None]:
    """Let the wall clock be ``shift`` seconds off."""
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() + shift)
        yield


# -- parked ----------------------------------------------------------------------------------------


def test_a_refused_change_is_not_sent_again_and_the_next_session_is_done(
    here: Device, remote: JudgedRemote
) -> None:
    here.add(1)
    with pytest.raises(AllRejected):
        here.sync()
    for _ in range(2):
        result = here.sync()
        assert result.phase is Phase.DONE
        assert result.errors.upload == ()
    assert remote.sent == [KEY]
    assert here.store.has_pending()
    assert here.keys() == [KEY]


def test_it_is_told_with_all_that_the_hub_has_said(here: Device, remote: JudgedRemote) -> None:
    remote.judge = refuse(KEY, field="elevation")
    here.add(2)
    before = time.time()
    result = here.sync()
    assert [(one.key, one.code, one.message, one.field) for one in result.errors.upload] == [
        (KEY, "no_good", "it is no good", "elevation")
    ]
    (change,) = here.store.pending()
    said = change.parked
    assert said is not None
    assert (said.code, said.message, said.field) == ("no_good", "it is no good", "elevation")
    assert (said.attempts, said.first, said.retry_at) == (1, said.last, None)
    assert before <= said.first.timestamp() <= time.time()


def test_attempts_and_times_go_on_over_retries(parked: Device) -> None:
    (first,) = parked.store.pending()
    parked.store.retry()
    with pytest.raises(AllRejected):
        parked.sync()
    (second,) = parked.store.pending()
    assert first.parked is not None
    assert second.parked is not None
    assert second.parked.attempts == 2
    assert second.parked.first == first.parked.first < second.parked.last


def test_many_refused_changes_leave_room_for_those_behind_them(
    here: Device, there: Device, remote: JudgedRemote
) -> None:
    refused = here.add(30)
    remote.judge = refuse(*refused)
    with pytest.raises(AllRejected):
        here.sync(upload_batch_size=5)
    new = here.add(3, first=100)
    assert here.sync(upload_batch_size=5).stats.uploaded == 3
    there.sync()
    assert there.keys() == new


# -- what lets it go -------------------------------------------------------------------------------


def test_an_edit_lets_it_go_and_keeps_its_base(parked: Device, there: Device, remote: JudgedRemote) -> None:
    remote.judge = refuse()
    parked.edit(KEY, name="better")
    (change,) = parked.store.pending()
    assert (change.parked, change.base, change.operation) == (None, 0, "insert")
    parked.sync()
    assert remote.sent == [KEY]
    assert not parked.store.has_pending()
    there.sync()
    assert there.field(KEY, "name") == "better"


def test_an_edit_while_it_is_being_refused_is_not_parked(here: Device, remote: JudgedRemote) -> None:
    here.add(1)

    def judge(change: Change) -> Rejected | None:
        here.edit(KEY, name="meanwhile")
        return Rejected("no_good", "it is no good")

    remote.judge = judge
    with pytest.raises(AllRejected):
        here.sync()
    (change,) = here.store.pending()
    assert change.parked is None
    remote.judge = refuse()
    assert here.sync().stats.uploaded == 1


@pytest.mark.parametrize("way", ["record", "model", "name", "name and key", "model and key", "all"])
def test_retry_lets_it_go(parked: Device, remote: JudgedRemote, way: str) -> None:
    remote.judge = refuse()
    what: tuple[Any, ...] = {
        "record": (parked.airport.get_by_id(KEY),),
        "model": (parked.airport,),
        "name": ("Airport",),
        "name and key": ("Airport", KEY),
        "model and key": (parked.airport, KEY),
        "all": (),
    }[way]
    assert parked.store.retry(*what) == 1
    assert [change.parked for change in parked.store.pending()] == [None]
    parked.sync()
    assert remote.sent == [KEY]
    assert not parked.store.has_pending()
    assert parked.store.retry() == 0


def test_retry_lets_nothing_else_go(here: Device, remote: JudgedRemote) -> None:
    here.add(3)
    remote.judge = refuse(KEY, OTHER)
    here.sync()
    remote.sent.clear()
    assert here.store.retry("Airport", OTHER) == 1
    with pytest.raises(AllRejected):
        here.sync()
    assert remote.sent == [OTHER]
    assert here.store.retry("Airport", "nobody") == 0


def test_retry_of_what_is_not_here_is_refused_in_words(parked: Device) -> None:
    with pytest.raises(UnknownObject, match="Nothing"):
        parked.store.retry("Nothing")
    with pytest.raises(UsageError, match="object"):
        parked.store.retry(None, KEY)
    with pytest.raises(UsageError, match="key"):
        parked.store.retry(parked.airport.get_by_id(KEY), KEY)


def test_the_command_line_shows_it_and_lets_it_go(
    parked: Device, remote: JudgedRemote, tmp_path: Path
) -> None:
    run, path = CliRunner().invoke, str(tmp_path / "here.db")
    assert "no_good: it is no good" in run(commands, ["pending", path]).output
    assert "parked" in run(commands, ["pending", path]).output
    assert "1 pending changes were refused by the hub" in run(commands, ["doctor", path]).output
    other = run(commands, ["retry", path, "Airport", OTHER])
    assert (other.exit_code, "nothing is parked under the key" in other.output) == (1, True)
    assert "1 change" in run(commands, ["retry", path, "Airport", KEY]).output
    assert run(commands, ["retry", path, "--json"]).output.split() == ["{", '"retried":', "0", "}"]
    assert run(commands, ["retry", path, "Nothing"]).exit_code != 0
    remote.judge = refuse()
    assert parked.sync().stats.uploaded == 1


def test_another_description_of_the_object_lets_it_go(tmp_path: Path, remote: JudgedRemote) -> None:
    def program(*, has_note: bool) -> Store:
        store = quick_store(tmp_path / "versions.db")
        added = {"note": TextField(null=True)} if has_note else {}
        type("Airport", (store.Model,), {"name": TextField(), **added})
        type("Memo", (store.Model,), {"name": TextField()})
        store.setup()
        return store

    with program(has_note=False) as store:
        for model in store._parts.registry.models.values():
            model.create(id=KEY, name="n")
        with pytest.raises(AllRejected):
            store.scope(remote).sync()
    with program(has_note=False) as store:
        store.scope(remote).sync()
    assert remote.sent == [KEY, KEY]
    with program(has_note=True) as store:
        waits = {change.object: change.parked is not None for change in store.pending()}
        assert waits == {"Airport": False, "Memo": True}
        with pytest.raises(AllRejected):
            store.scope(remote).sync()
    assert remote.sent == [KEY] * 3


def test_a_time_that_the_hub_has_named_lets_it_go(
    here: Device, remote: JudgedRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.judge = refuse(KEY, retry_after=600.0)
    here.add(1)
    with pytest.raises(AllRejected):
        here.sync()
    (change,) = here.store.pending()
    assert change.parked is not None
    assert change.parked.retry_at is not None
    assert (change.parked.retry_at - change.parked.last).total_seconds() == pytest.approx(600, abs=1)
    with clock(monkeypatch, 590):
        here.sync()
    assert remote.sent == [KEY]
    remote.judge = refuse()
    with clock(monkeypatch, 610):
        assert here.sync().stats.uploaded == 1


def test_a_clock_that_was_set_back_parks_nothing_for_ever(
    here: Device, remote: JudgedRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.add(2)
    remote.judge = lambda change: Rejected("no", "no", retry_after=60.0 if change.key == KEY else None)
    year = 365 * 24 * 3600
    with clock(monkeypatch, year), pytest.raises(AllRejected):
        here.sync()
    remote.sent.clear()
    remote.judge = refuse()
    here.sync()
    assert remote.sent == [KEY]
    assert [change.key for change in here.store.pending()] == [OTHER]


def test_a_hub_may_name_a_strange_time(here: Device, remote: JudgedRemote) -> None:
    here.add(1)
    for strange in (-5.0, 1e300):
        remote.judge = refuse(KEY, retry_after=strange)
        with pytest.raises(AllRejected):
            here.sync()
        here.store.pending()
        here.store.retry()


# -- what does not ---------------------------------------------------------------------------------


def test_a_download_leaves_it_and_keeps_the_hubs_record_beside_it(
    here: Device, there: Device, remote: JudgedRemote
) -> None:
    remote.judge = refuse()
    here.add(2)
    here.sync()
    there.sync()
    remote.judge = refuse(KEY)
    here.edit(KEY, name="mine")
    with pytest.raises(AllRejected):
        here.sync()
    (before,) = here.store.pending()
    there.edit(KEY, elevation=77)
    there.sync()
    here.sync()
    assert (here.field(KEY, "name"), here.field(KEY, "elevation")) == ("mine", 0)
    assert here.store.pending() == [before]
    remote.judge = refuse()
    here.store.retry()
    here.sync()
    there.sync()
    assert (there.field(KEY, "name"), there.field(KEY, "elevation")) == ("mine", 77)


def test_rollback_takes_it_back(parked: Device) -> None:
    assert parked.store.rollback(parked.airport.get_by_id(KEY)) == 1
    assert parked.keys() == [OTHER]
    assert not parked.store.has_pending()


def test_rollback_gives_back_what_the_hub_has_sent_since(
    here: Device, there: Device, remote: JudgedRemote
) -> None:
    remote.judge = refuse()
    here.add(1)
    here.sync()
    there.sync()
    remote.judge = refuse(KEY)
    here.edit(KEY, name="mine")
    with pytest.raises(AllRejected):
        here.sync()
    there.edit(KEY, name="theirs")
    there.sync()
    here.sync()
    here.store.rollback()
    assert here.field(KEY, "name") == "theirs"


def test_a_refused_insert_that_is_deleted_here_vanishes(parked: Device, remote: JudgedRemote) -> None:
    parked.delete(KEY)
    assert not parked.store.has_pending()
    parked.sync()
    assert remote.sent == []


def test_clear_refuses_to_lose_it(parked: Device) -> None:
    with pytest.raises(UsageError):
        parked.store.clear()
    assert len(parked.store.pending()) == 1
    parked.store.clear(discard_pending=True)
    assert not parked.store.has_pending()
    parked.sync()
    assert parked.keys() == [OTHER]


def test_repair_and_a_read_from_the_start_keep_it_parked(parked: Device, remote: JudgedRemote) -> None:
    before = parked.store.pending()
    parked.execute("UPDATE statesync_cursor SET cursor = -1")
    assert len(parked.store.examine()) == 2
    (left,) = parked.store.repair()
    assert "refused by the hub" in left.message
    parked.sync()
    assert parked.store.pending() == before
    assert remote.sent == []


def test_another_hub_is_offered_it_anew(parked: Device, tmp_path: Path) -> None:
    parked.store.reset(keep_records=True)
    assert [change.parked for change in parked.store.pending()] == [None, None]


def test_a_delete_that_is_refused_stays_a_delete(here: Device, there: Device, remote: JudgedRemote) -> None:
    remote.judge = refuse()
    here.add(1)
    here.sync()
    remote.judge = refuse(KEY)
    here.delete(KEY)
    with pytest.raises(AllRejected):
        here.sync()
    here.sync()
    assert here.operations() == {KEY: "delete"}
    assert here.keys() == []
    here.store.rollback()
    assert here.keys() == [KEY]


def test_diagnose_counts_it(parked: Device) -> None:
    (found,) = parked.scope.diagnose().objects
    assert (found.pending, found.parked, found.differences) == (1, 1, ())


def test_a_model_with_values_that_must_be_unique_is_taken_back_too(
    tmp_path: Path, remote: JudgedRemote
) -> None:
    with quick_store(tmp_path / "unique.db") as store:

        class Tag(store.Model):  # type: ignore[name-defined, misc]
            code = IntegerField(unique=True)

        store.setup()
        Tag.create(id=KEY, code=1)
        with pytest.raises(AllRejected):
            store.scope(remote).sync()
        assert store.rollback(Tag) == 1
        assert Tag.select().count() == 0


# -- rights ----------------------------------------------------------------------------------------


def test_a_missing_right_says_what_to_do_once_it_is_there(here: Device, remote: JudgedRemote) -> None:
    remote.judge = lambda change: Rejected("forbidden", "the token does not allow to write 'Airport'")
    here.add(1)
    with pytest.raises(AllRejected, match=r"retry\("):
        here.sync()
    here.sync()
    assert remote.sent == [KEY]
    remote.judge = refuse()
    here.store.retry("Airport")
    assert here.sync().stats.uploaded == 1


# -- a hub that fails ------------------------------------------------------------------------------


@pytest.fixture
def poisoned(tmp_path: Path, hub: Hub) -> Callable[..., None]:
    """Let the hub fail on records under some keys: its database refuses them."""

    def poison(*keys: str) -> None:
        with closing(sqlite3.connect(tmp_path / "hub.db")) as plain, plain:
            plain.execute("DROP TRIGGER IF EXISTS poison")
            among = ", ".join(f"'{key}'" for key in keys)
            plain.execute(
                f"CREATE TRIGGER poison BEFORE INSERT ON record WHEN NEW.key IN ({among}) "
                "BEGIN SELECT RAISE(ABORT, 'poison'); END"
            )

    return poison


@pytest.mark.usefixtures("no_backoff")
def test_a_record_on_which_the_hub_fails_is_parked_for_a_while_and_all_others_go_up(
    here: Device,
    there: Device,
    remote: JudgedRemote,
    poisoned: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote.judge = refuse()
    there.add(2, first=100)
    there.sync()
    keys = here.add(20)
    poisoned(keys[7])
    result = here.sync()
    assert [(error.key, error.code) for error in result.errors.upload] == [(keys[7], "not_applied")]
    assert (result.stats.uploaded, result.stats.downloaded) == (19, 2)
    there.sync()
    assert set(there.keys()) == set(here.keys()) - {keys[7]}
    poisoned("none")
    here.sync()
    assert [change.key for change in here.store.pending()] == [keys[7]]
    with clock(monkeypatch, 3601):
        here.sync()
    assert not here.store.has_pending()


@pytest.mark.usefixtures("no_backoff")
def test_a_hub_that_fails_on_everything_parks_no_more_than_three_records_a_session(
    here: Device, remote: JudgedRemote, poisoned: Callable[..., None]
) -> None:
    remote.judge = refuse()
    keys = here.add(20)
    poisoned(*keys)
    with pytest.raises(RemoteError) as failed:
        here.sync(max_attempts=2)
    assert failed.value.problem is not None
    assert failed.value.problem.code == "not_applied"
    assert len([change for change in here.store.pending() if change.parked]) == 3
    assert len(remote.sent) < 80


@pytest.mark.usefixtures("no_backoff")
def test_a_batch_in_doubt_on_which_the_hub_fails_stops_the_device_no_longer(
    tmp_path: Path, hub: Hub, poisoned: Callable[..., None], there: Device
) -> None:
    with (
        serving(hub) as address,
        gate_before(address) as gate,
        device_at(tmp_path / "g.db", gate.url, "sp") as device,
    ):
        keys = device.add(5)
        poisoned(keys[2])
        gate.plan(lose_answer)
        with pytest.raises(SyncFailed):
            device.sync(max_attempts=1)
        result = device.sync(max_attempts=1)
        assert [error.key for error in result.errors.upload] == [keys[2]]
        there.sync()
        assert there.keys() == [key for key in keys if key != keys[2]]
