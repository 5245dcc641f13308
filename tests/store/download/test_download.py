"""Downloads: what a page may change on the device, and what it must leave alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from peewee import (
    BooleanField,
    CharField,
    DateTimeField,
    DecimalField,
    ForeignKeyField,
    IntegerField,
    TextField,
)
from rig.device import Device, store_at
from rig.gate import PATIENCE, Gate, gate_before, pass_on, refuse

from statesync import (
    HttpRemote,
    Phase,
    Store,
    SyncCancelled,
    SyncOptions,
    SyncType,
    UnknownObject,
    WrongHub,
)
from statesync.hub import Hub, prepare, serving
from statesync.hub.db.pages import feeds

KEY = "k00000"


@pytest.fixture
def shared(here: Device, there: Device) -> None:
    """Three records that both devices have."""
    there.add(3)
    there.sync()
    here.sync()


# -- what a page does ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("shared")
def test_new_changed_and_deleted_records_arrive(here: Device, there: Device) -> None:
    there.add(1, first=8)
    there.edit("k00001", name="changed", is_open=False, plan=b"\x00\xff", latitude=0.1 + 0.2)
    there.delete("k00002")
    there.sync()
    assert here.sync().stats.downloaded == 3
    assert here.rows() == there.rows()
    assert here.keys() == ["k00000", "k00001", "k00008"]
    assert here.operations() == {}


@pytest.mark.usefixtures("shared")
def test_a_devices_own_writes_are_not_sent_back_to_it(here: Device, gate: Gate) -> None:
    here.add(5, first=20)
    result = here.sync()
    assert (result.stats.uploaded, result.stats.downloaded) == (5, 0)


@pytest.mark.usefixtures("shared")
def test_a_session_with_nothing_to_do_is_one_request(here: Device, gate: Gate) -> None:
    before = len(gate.seen)
    result = here.sync()
    assert gate.verbs()[before:] == ["pull"]
    assert (result.stats.uploaded, result.stats.downloaded) == (0, 0)


@pytest.mark.parametrize(("size", "pulls"), [(1, 7), (3, 3), (7, 1), (100, 1), (0, 1)])
def test_pages_have_the_size_that_the_options_ask_for(
    here: Device, there: Device, gate: Gate, size: int, pulls: int
) -> None:
    there.add(7)
    there.sync()
    result = here.sync(download_batch_size=size, get_sync_stats=True)
    assert here.rows() == there.rows()
    assert gate.verbs() == ["pull"] * pulls
    assert sum(batch.records for batch in result.stats.batches) == 7


@pytest.mark.usefixtures("shared")
def test_a_device_goes_on_over_pages_that_are_empty(
    here: Device, there: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub looks at three records for a page, and all but the last are the device's own."""
    monkeypatch.setattr(feeds, "FEW", 3)
    monkeypatch.setattr(feeds, "LOOKS", 1)
    here.add(12, first=20)
    here.sync(sync_type=SyncType.UPLOAD_ONLY)
    there.add(1, first=90)
    there.sync()
    before = len(gate.seen)
    result = here.sync(download_batch_size=3)
    assert (result.phase, result.stats.downloaded) == (Phase.DONE, 1)
    assert here.rows() == there.rows()
    assert gate.verbs()[before:] == ["pull"] * 5


def test_a_batch_size_of_zero_leaves_the_size_to_the_hub(here: Device, there: Device, gate: Gate) -> None:
    there.add(1500)
    there.sync(upload_batch_size=500)
    here.sync(download_batch_size=0)
    assert [seen.body["limit"] for seen in gate.seen] == [0]  # the hub's own are larger than a device's first
    assert len(here.rows()) == 1500


# -- pending changes are never overwritten ----------------------------------------------------------------


@pytest.mark.usefixtures("shared")
def test_a_pending_change_is_not_overwritten(here: Device, there: Device) -> None:
    here.edit("k00000", name="mine")
    here.delete("k00001")
    for key in ("k00000", "k00001", "k00002"):
        there.edit(key, name="theirs")
    there.sync()
    here.sync(sync_type="download_only")
    assert here.field("k00000", "name") == "mine"
    assert here.keys() == ["k00000", "k00002"]
    assert here.field("k00002", "name") == "theirs"
    assert here.operations() == {"k00000": "update", "k00001": "delete"}


@pytest.mark.usefixtures("shared")
def test_a_pending_change_survives_the_hubs_delete(here: Device, there: Device) -> None:
    here.edit(KEY, name="mine")
    there.delete(KEY)
    there.sync()
    here.sync(sync_type="download_only")
    assert here.field(KEY, "name") == "mine"


@pytest.mark.usefixtures("shared")
def test_a_change_made_while_its_record_is_on_the_way_is_not_overwritten(
    here: Device, there: Device, gate: Gate
) -> None:
    """The page is at the gate, the record in it; then the program writes."""
    there.edit(KEY, name="theirs")
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    here.edit(KEY, elevation=77)
    held.release()
    session.result(PATIENCE)
    assert (here.field(KEY, "name"), here.field(KEY, "elevation")) == ("n0", 77)
    (conflict,) = here.sync().conflicts
    assert conflict.key == KEY
    there.sync()
    assert here.rows() == there.rows()
    assert (here.field(KEY, "name"), here.field(KEY, "elevation")) == ("theirs", 77)


@pytest.mark.usefixtures("shared")
def test_a_deferred_change_is_kept_through_every_download(here: Device, there: Device) -> None:
    here.edit(KEY, name="mine")
    here.scope.defer(here.airport.get_by_id(KEY))
    there.edit(KEY, name="theirs")
    there.sync()
    for _ in range(2):
        here.sync()
        assert here.field(KEY, "name") == "mine"


@pytest.mark.usefixtures("shared")
def test_what_is_downloaded_is_no_change_of_the_program(here: Device, there: Device) -> None:
    there.edit(KEY, name="theirs")
    there.sync()
    here.sync()
    assert here.operations() == {}
    assert there.sync().stats.downloaded == 0


# -- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"name": 'ñandú ☃ 𝄞 \u0001 " \\ / \u2028'},
        {"name": "", "elevation": None, "latitude": None, "plan": None},
        {"name": "n", "elevation": 2**63 - 1},
        {"name": "n", "elevation": -(2**63)},
        {"name": "n", "latitude": 5e-324},
        {"name": "n", "latitude": 1.7976931348623157e308},
        {"name": "n", "latitude": 1.0},
        {"name": "n", "plan": bytes(range(256))},
        {"name": "n", "plan": b""},
        {"name": "n", "is_open": False},
    ],
)
def test_values_arrive_as_they_were(here: Device, there: Device, values: dict[str, Any]) -> None:
    there.airport.create(id="v", **values)
    columns = "typeof(name), name, typeof(elevation), elevation, typeof(latitude), latitude, "
    select = f"SELECT {columns} typeof(is_open), is_open, typeof(plan), plan FROM airport"
    there.sync()
    here.sync()
    assert here.execute(select).fetchall() == there.execute(select).fetchall()


# -- models of several versions, and families ------------------------------------------------------------


@define(eq=False)
class Program:
    """A device that runs a program with models of its own."""

    store: Store
    models: dict[str, Any]
    remote: HttpRemote

    def sync(self, **options: Any) -> Any:
        return self.store.scope(self.remote).sync(SyncOptions(**options))


NewProgram = Callable[[str, Callable[[Store], dict[str, Any]]], Program]


@pytest.fixture
def new_program(tmp_path: Path, address: str, space: str) -> Iterator[NewProgram]:
    """Run a program on a device: ``new_program(name, define_models)``."""
    with ExitStack() as stack:

        def make(name: str, define_models: Callable[[Store], dict[str, Any]]) -> Program:
            store, models = stack.enter_context(store_at(tmp_path / f"{name}.db", define_models))
            remote = stack.enter_context(closing(HttpRemote(address, space)))
            return Program(store, models, remote)

        yield make


def old_models(store: Store) -> dict[str, Any]:
    class Shop(store.Model):  # type: ignore[name-defined, misc]
        name = TextField()

    return {"Shop": Shop}


def new_models(store: Store) -> dict[str, Any]:
    class Shop(store.Model):  # type: ignore[name-defined, misc]
        name = TextField()
        is_open = BooleanField(default=True)
        floor = IntegerField(null=True)
        kind = CharField(default="kiosk")

    return {"Shop": Shop}


def test_an_older_program_does_not_erase_the_columns_of_a_newer_one(new_program: NewProgram) -> None:
    old, new = new_program("old", old_models), new_program("new", new_models)
    new.models["Shop"].create(id="s", name="first", is_open=False, floor=3, kind="stall")
    new.sync()
    old.sync()
    old.models["Shop"].update(name="second").execute()
    old.sync()
    new.sync()
    shop = new.models["Shop"].get_by_id("s")
    assert (shop.name, shop.is_open, shop.floor, shop.kind) == ("second", False, 3, "stall")


def test_a_record_of_an_older_program_gets_the_defaults_of_the_columns_that_it_lacks(
    new_program: NewProgram,
) -> None:
    old, new = new_program("old", old_models), new_program("new", new_models)
    old.models["Shop"].create(id="s", name="old")
    old.sync()
    new.sync()
    shop = new.models["Shop"].get_by_id("s")
    assert (shop.name, shop.is_open, shop.floor, shop.kind) == ("old", True, None, "kiosk")


def test_a_device_that_is_updated_gets_the_columns_that_it_did_not_know(
    new_program: NewProgram, tmp_path: Path
) -> None:
    new, late = new_program("new", new_models), new_program("late", old_models)
    new.models["Shop"].create(id="s", name="first", floor=3)
    new.sync()
    late.sync()
    late.store.close()
    with closing(sqlite3.connect(tmp_path / "late.db")) as database:
        for column in (
            "is_open INTEGER NOT NULL DEFAULT 1",
            "floor INTEGER",
            "kind TEXT NOT NULL DEFAULT 'x'",
        ):
            database.execute(f"ALTER TABLE shop ADD COLUMN {column}")
    updated = new_program("late", new_models)
    updated.sync()
    assert updated.models["Shop"].get_by_id("s").floor == 3


def test_dates_and_decimals_travel_as_peewee_stores_them(new_program: NewProgram) -> None:
    def models(store: Store) -> dict[str, Any]:
        class Sale(store.Model):  # type: ignore[name-defined, misc]
            at = DateTimeField()
            price = DecimalField(decimal_places=2)

        return {"Sale": Sale}

    one, two = new_program("one", models), new_program("two", models)
    one.models["Sale"].create(id="s", at=datetime(2024, 2, 29, 12, 30, 1), price=Decimal("12.30"))
    one.sync()
    two.sync()
    sale = two.models["Sale"].get_by_id("s")
    assert (sale.at, sale.price) == (datetime(2024, 2, 29, 12, 30, 1), Decimal("12.30"))


def family(store: Store) -> dict[str, Any]:
    class Country(store.Model):  # type: ignore[name-defined, misc]
        name = TextField()
        parent = ForeignKeyField("self", null=True)

    class City(store.Model):  # type: ignore[name-defined, misc]
        country = ForeignKeyField(Country)

    return {"Country": Country, "City": City}


def test_children_may_come_before_their_parents(new_program: NewProgram) -> None:
    """The feed is in the order of the hub's versions: an edit moves a parent behind its children."""
    one, two = new_program("one", family), new_program("two", family)
    country = one.models["Country"].create(id="c", name="c")
    one.models["City"].create(id="t", country=country)
    one.sync()
    one.models["Country"].update(name="edited").execute()
    one.sync()
    result = two.sync(download_batch_size=1)
    assert result.errors.download == ()
    assert two.models["City"].get_by_id("t").country.name == "edited"


def test_a_child_whose_parent_never_comes_is_reported(new_program: NewProgram) -> None:
    one, two = new_program("one", family), new_program("two", family)
    country = one.models["Country"].create(id="c", name="c")
    one.models["City"].create(id="t", country=country)
    one.store.scope(one.remote, one.models["City"]).sync()
    result = two.sync()
    assert [(e.object, e.key, e.code) for e in result.errors.download] == [("City", "t", "orphaned")]
    one.sync()
    assert two.sync().errors.download == ()


def test_a_child_that_loses_its_parent_is_reported(new_program: NewProgram) -> None:
    one, two = new_program("one", family), new_program("two", family)
    one.models["Country"].create(id="c", name="c")
    one.sync()
    two.sync()
    with two.store.untracked():
        two.models["City"].create(id="t", country="c")
    one.models["Country"].delete_by_id("c")
    one.sync()
    result = two.sync()
    assert [(e.object, e.key) for e in result.errors.download] == [("City", "t")]


def test_a_record_may_take_over_the_unique_value_of_one_that_was_deleted(new_program: NewProgram) -> None:
    def models(store: Store) -> dict[str, Any]:
        class Gate(store.Model):  # type: ignore[name-defined, misc]
            code = TextField(unique=True)

        return {"Gate": Gate}

    one, two = new_program("one", models), new_program("two", models)
    one.models["Gate"].create(id="a", code="A1")
    one.sync()
    two.sync()
    one.models["Gate"].delete_by_id("a")
    one.models["Gate"].create(id="b", code="A1")
    one.sync()
    two.sync()
    assert [(gate.id, gate.code) for gate in two.models["Gate"].select()] == [("b", "A1")]


ODD_KEYS = ["a'b", 'q"q', " lead", "line\nbreak", "ñ", "n\u0303", "%", "\\", "[1]", "null", "1", "1.0", "😀"]


def test_odd_names_and_keys_travel_like_others(new_program: NewProgram) -> None:
    def models(store: Store) -> dict[str, Any]:
        class Odd(store.Model):  # type: ignore[name-defined, misc]
            order = IntegerField(column_name="order")
            text = TextField(column_name="it's a [text]", default="it's")

            class Meta:
                table_name = 'sel\'ect "all"'

        class Bare(store.Model):  # type: ignore[name-defined, misc]
            pass

        return {"Odd": Odd, "Bare": Bare}

    one, two = new_program("one", models), new_program("two", models)
    for number, key in enumerate(ODD_KEYS):
        one.models["Odd"].create(id=key, order=number)
        one.models["Bare"].create(id=key)
    one.sync()
    two.sync()
    two.models["Odd"].update(text="edited").execute()
    two.models["Bare"].delete().execute()
    two.sync()
    one.sync()
    assert {row.id: (row.order, row.text) for row in one.models["Odd"].select()} == {
        key: (number, "edited") for number, key in enumerate(ODD_KEYS)
    }
    assert one.models["Bare"].select().count() == 0


# -- filters -------------------------------------------------------------------------------------------


@pytest.fixture
def levels(there: Device) -> None:
    """Six records on the hub, two at each elevation from 0 to 2."""
    for number in range(6):
        there.airport.create(id=f"k{number}", name=f"n{number}", elevation=number % 3)
    there.sync()


@pytest.mark.usefixtures("levels")
def test_a_filter_narrows_the_download(here: Device) -> None:
    here.sync(filter={"Airport": {"elevation": [0, 2]}})
    assert here.keys() == ["k0", "k2", "k3", "k5"]


@pytest.mark.usefixtures("levels")
def test_another_filter_brings_what_it_lets_through_and_takes_the_rest_away(here: Device) -> None:
    here.sync(filter={"Airport": {"elevation": 0}})
    here.sync(filter={"Airport": {"elevation": 1}})
    assert here.keys() == ["k1", "k4"]
    here.sync()
    assert len(here.rows()) == 6


@pytest.mark.usefixtures("levels")
def test_another_filter_keeps_pending_changes(here: Device, there: Device) -> None:
    here.sync(filter={"Airport": {"elevation": 0}})
    here.edit("k0", name="mine")
    here.add(1, first=90)
    here.sync(filter={"Airport": {"elevation": 1}}, sync_type="download_only")
    assert here.field("k0", "name") == "mine"
    here.sync()
    there.sync()
    assert there.field("k0", "name") == "mine"
    assert "k00090" in there.rows()


@pytest.mark.usefixtures("levels")
def test_a_record_that_leaves_the_filter_leaves_the_device(here: Device, there: Device) -> None:
    here.sync(filter={"Airport": {"elevation": 0}})
    there.edit("k0", elevation=9)
    there.sync()
    here.sync(filter={"Airport": {"elevation": 0}})
    assert here.keys() == ["k3"]


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize(
    "again", [{"elevation": [0, 2]}, {"elevation": [2, 0]}, {"elevation": {2, 0}}, {"elevation": (0, 2, 2)}]
)
def test_the_same_filter_reads_nothing_twice(here: Device, again: dict[str, Any]) -> None:
    here.sync(filter={"Airport": {"elevation": [0, 2]}})
    assert here.sync(filter={"Airport": again}).stats.downloaded == 0


@pytest.mark.usefixtures("levels")
def test_an_upload_between_two_filtered_downloads_needs_no_filter(here: Device) -> None:
    chosen = {"Airport": {"elevation": 0}}
    here.sync(filter=chosen)
    here.sync(sync_type="upload_only")
    assert here.sync(filter=chosen).stats.downloaded == 0


def test_a_filter_on_an_object_outside_the_scope_is_refused(here: Device) -> None:
    with pytest.raises(UnknownObject, match="Nowhere"):
        here.sync(filter={"Nowhere": {"a": 1}})


# -- reading everything again ----------------------------------------------------------------------------


@pytest.mark.usefixtures("shared")
def test_past_the_horizon_all_is_read_again_and_pending_changes_stay(
    here: Device, there: Device, gate: Gate
) -> None:
    here.edit("k00000", name="mine")
    here.add(1, first=50)
    there.delete("k00002")
    there.add(1, first=60)
    there.sync()
    gate.plan(pass_on, refuse(410, "horizon_passed"))
    here.sync(sync_type="full")
    assert here.field("k00000", "name") == "mine"
    assert here.keys() == ["k00000", "k00001", "k00050", "k00060"]
    there.sync()
    assert here.rows() == there.rows()


@pytest.mark.usefixtures("shared")
def test_past_the_horizon_a_download_keeps_what_waits(here: Device, there: Device, gate: Gate) -> None:
    here.edit("k00000", name="mine")
    here.delete("k00001")
    here.add(1, first=50)
    gate.plan(refuse(410, "horizon_passed"))
    here.sync(sync_type="download_only")
    assert here.operations() == {"k00000": "update", "k00001": "delete", "k00050": "insert"}
    assert here.keys() == ["k00000", "k00002", "k00050"]
    here.sync()
    there.sync()
    assert here.rows() == there.rows()
    assert there.keys() == ["k00000", "k00002", "k00050"]


def test_clearing_fetches_everything_again(here: Device, there: Device) -> None:
    here.add(2)
    here.sync()
    here.add(1, first=9)
    here.store.clear(discard_pending=True)
    assert here.rows() == {}
    assert here.operations() == {}
    here.sync()
    assert here.keys() == ["k00000", "k00001"]
    assert here.sync().stats.downloaded == 0


def test_dropping_takes_the_table_and_its_changes_away(here: Device) -> None:
    here.add(2)
    here.store.drop()
    assert here.store.objects == ()
    assert not here.store.database.table_exists("airport")


# -- a hub that was restored from a backup ----------------------------------------------------------------


@define(eq=False)
class Archive:
    """A hub on a file of its own, whose database can be put back to what it was."""

    path: Path
    saved: bytes = b""

    @contextmanager
    def open(self, *, restored: bool = False) -> Iterator[str]:
        """Serve the hub; restored, it is what ``save`` kept."""
        url = f"sqlite:///{self.path}"
        if restored:
            for leftover in self.path.parent.glob(f"{self.path.name}*"):
                leftover.unlink()
            self.path.write_bytes(self.saved)
        prepare(url)
        hub = Hub(url, without_tokens=True)
        with serving(hub) as address:
            yield address
        hub.close()

    def save(self) -> None:
        """Keep the database as it is now; the hub is closed."""
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.saved = self.path.read_bytes()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "restorable.db")


def sync_all(archive: Archive, *devices: Device, restored: bool = False, **options: Any) -> None:
    """Sync the devices one after the other with the archive's hub."""
    with archive.open(restored=restored) as address:
        for device in devices:
            with closing(HttpRemote(address, "s")) as remote:
                device.store.scope(remote).sync(SyncOptions(**options))


@pytest.fixture
def lost(archive: Archive, here: Device, there: Device) -> None:
    """Both devices have three records; the hub lost one of them, and an edit, in a restored backup."""
    there.add(2)
    sync_all(archive, there, here)
    archive.save()
    there.add(1, first=5)
    there.edit("k00001", name="newer")
    sync_all(archive, there, here)


@pytest.mark.usefixtures("lost")
def test_what_a_restored_hub_has_lost_comes_back_from_the_devices(
    archive: Archive, here: Device, there: Device
) -> None:
    sync_all(archive, here, there, here, there, restored=True)
    for device in (here, there):
        assert device.keys() == ["k00000", "k00001", "k00005"]
        assert device.field("k00001", "name") == "newer"
    assert here.operations() == {}


@pytest.mark.usefixtures("lost")
def test_an_edit_that_is_first_to_meet_a_restored_hub_is_not_overwritten(
    archive: Archive, here: Device, there: Device
) -> None:
    here.edit("k00000", name="mine")
    sync_all(archive, here, there, here, there, restored=True)
    sync_all(archive, here, there)
    assert here.rows() == there.rows()
    assert here.field("k00000", "name") == "mine"


@pytest.mark.usefixtures("lost")
def test_pending_changes_survive_a_new_epoch(archive: Archive, here: Device, there: Device) -> None:
    """``there`` has uploaded what the backup has not, so the hub learns of its loss before the push."""
    there.edit("k00000", name="mine")
    there.delete("k00005")
    there.add(1, first=9)
    sync_all(archive, there, here, there, here, restored=True)
    sync_all(archive, there, here)
    assert here.rows() == there.rows()
    assert there.field("k00000", "name") == "mine"
    assert "k00009" in here.rows()
    assert there.operations() == {}


@pytest.mark.usefixtures("lost")
def test_what_others_write_in_a_new_epoch_is_in_conflict_with_older_pending_changes(
    archive: Archive, here: Device, there: Device, new_device: Callable[..., Device]
) -> None:
    """The versions of the new epoch say nothing about what the device had seen in the old one."""
    here.edit("k00000", name="mine")
    sync_all(archive, there, restored=True)
    fresh = new_device("fresh")
    sync_all(archive, fresh)
    fresh.edit("k00000", name="theirs", elevation=7)
    sync_all(archive, fresh, here)
    assert [(c.key, c.local and c.local["name"]) for c in here.store.conflicts()] == [("k00000", "mine")]
    assert here.field("k00000", "elevation") == 7


@pytest.mark.usefixtures("lost")
def test_a_reading_after_a_new_epoch_that_was_cut_short_loses_nothing(
    archive: Archive, here: Device, there: Device
) -> None:
    """Also where the next session reads with another filter."""
    with (
        archive.open(restored=True) as address,
        gate_before(address) as gate,
        closing(HttpRemote(gate.url, "s")) as remote,
    ):
        scope = here.store.scope(remote)
        gate.plan(pass_on, pass_on)
        held = gate.hold()
        session = scope.start_sync(SyncOptions(download_batch_size=1))
        held.wait()
        session.cancel()
        held.release()
        assert isinstance(session.exception(PATIENCE), SyncCancelled)
        scope.sync(SyncOptions(filter={"Airport": {"elevation": [0, 1, 5]}}))
        assert here.keys() == ["k00000", "k00001", "k00005"]
        scope.sync()
    sync_all(archive, there, here, there)
    assert here.rows() == there.rows()
    assert there.keys() == ["k00000", "k00001", "k00005"]


@pytest.mark.usefixtures("lost")
def test_another_hub_is_refused_until_the_store_is_reset(
    archive: Archive, here: Device, tmp_path: Path
) -> None:
    with pytest.raises(WrongHub):
        sync_all(Archive(tmp_path / "stranger.db"), here)
    assert here.keys() == ["k00000", "k00001", "k00005"]
    here.store.reset(keep_records=True)
    stranger = Archive(tmp_path / "stranger.db")
    sync_all(stranger, here)
    assert here.operations() == {}


def test_a_copied_device_takes_a_new_identity_and_keeps_its_changes(
    here: Device, there: Device, new_device: Callable[..., Device], tmp_path: Path
) -> None:
    here.add(2)
    here.sync()
    with closing(sqlite3.connect(tmp_path / "copy.db")) as target:
        database: Any = here.store.database
        database.connection().backup(target)
    here.add(1, first=5)
    here.sync()
    copy = new_device("copy")
    copy.add(1, first=6)
    copy.sync()
    here.sync()
    there.sync()
    assert copy.rows() == here.rows() == there.rows()
    assert there.keys() == ["k00000", "k00001", "k00005", "k00006"]
    assert copy.operations() == {}
