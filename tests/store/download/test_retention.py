"""Deletes are remembered for as long as the hub is told; whoever was away for longer reads again.

What such a device must see: what was deleted is gone, what waits is kept, nothing comes back to life.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from attrs import define, field
from rig.device import Device, device_at

from statesync import Phase, Progress, SyncOptions
from statesync.hub import Hub, prepare, serving
from statesync.hub.retention import DAY, Retention
from statesync.lifecycle import Trigger
from statesync.values import State


@define(eq=False)
class Calendar:
    """The hub's clock, in seconds; time is the subject here."""

    now: float = 20_000.0 * DAY

    def __call__(self) -> float:
        return self.now

    def pass_days(self, days: int) -> None:
        self.now += days * DAY


@define(eq=False)
class World:
    """A hub that remembers deletes for ninety days, its calendar, and its devices."""

    address: str
    calendar: Calendar
    folder: Path
    stack: ExitStack
    devices: dict[str, Device] = field(factory=dict)

    def device(self, name: str) -> Device:
        if name not in self.devices:
            opened = device_at(self.folder / f"{name}.db", self.address, "away")
            self.devices[name] = self.stack.enter_context(opened)
        return self.devices[name]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    calendar = Calendar()
    hub = Hub(url, without_tokens=True, retention=Retention(90 * DAY, calendar))
    with ExitStack() as stack:
        address = stack.enter_context(serving(hub))
        yield World(address, calendar, tmp_path, stack)
    hub.close()


def delete_something(device: Device, key: str) -> None:
    """Make a delete, which is when a hub looks for those that are too old."""
    device.airport.create(id=key, name="to be deleted")
    device.sync()
    device.delete(key)
    device.sync()


@pytest.fixture
def away(world: World) -> tuple[Device, Device]:
    """Two devices with ten records; one is away while the other deletes two, for a hundred days."""
    home, away = world.device("home"), world.device("away")
    home.add(10)
    home.sync()
    away.sync()
    home.delete("k00002")
    home.delete("k00003")
    home.sync()
    world.calendar.pass_days(100)
    delete_something(home, "x")
    return home, away


def reads_again(device: Device) -> bool:
    """Tell whether the last session was told that its cursor is too old."""
    journal = device.store.journal(device.store.sessions()[-1].id)
    return any(entry.trigger is Trigger.ABORT_BATCH for entry in journal)


def test_a_device_that_was_away_for_longer_reads_again_and_drops_what_was_deleted(
    away: tuple[Device, Device],
) -> None:
    home, device = away
    assert device.sync().phase is Phase.DONE
    assert reads_again(device)
    assert device.rows() == home.rows()
    assert device.operations() == {}


def test_a_device_that_was_away_for_less_gets_the_deletes_and_reads_nothing_again(world: World) -> None:
    home, device = world.device("home"), world.device("away")
    home.add(10)
    home.sync()
    device.sync()
    home.delete("k00002")
    home.sync()
    world.calendar.pass_days(80)
    delete_something(home, "x")
    device.sync()
    assert not reads_again(device)
    assert device.rows() == home.rows()


def test_what_waits_on_a_device_that_was_away_is_kept_and_reaches_the_hub(
    away: tuple[Device, Device],
) -> None:
    home, device = away
    device.edit("k00005", name="edited while away")
    device.add(1, first=70)
    device.delete("k00006")
    device.sync()
    home.sync()
    assert home.field("k00005", "name") == "edited while away"
    assert home.rows() == device.rows()
    assert "k00070" in home.rows()
    assert "k00006" not in home.rows()


def test_an_edit_of_a_record_whose_delete_was_forgotten_does_not_bring_it_back(
    away: tuple[Device, Device],
) -> None:
    home, device = away
    device.edit("k00002", name="edited, but deleted long ago")
    device.sync()
    home.sync()
    assert "k00002" not in device.rows()
    assert "k00002" not in home.rows()
    assert [entry.key for entry in device.store.conflicts()] == ["k00002"]


def test_a_deferred_edit_of_a_record_whose_delete_was_forgotten_stays_and_is_settled_later(
    away: tuple[Device, Device],
) -> None:
    home, device = away
    device.edit("k00002", name="kept back")
    device.store.defer(device.airport.get_by_id("k00002"))
    device.sync()
    assert device.operations() == {"k00002": "update"}
    device.store.mark_for_upload(device.airport.get_by_id("k00002"))
    device.sync()
    home.sync()
    assert device.rows() == home.rows()
    assert "k00002" not in home.rows()


def test_a_second_read_that_is_cancelled_goes_on_where_it_stopped(away: tuple[Device, Device]) -> None:
    home, device = away
    scope = device.scope

    def cancel_after_the_third(event: Progress) -> None:
        if (event.batch, event.state) == (3, State.ENDED):
            scope.cancel_sync()

    session = scope.start_sync(SyncOptions(download_batch_size=3), on_progress=cancel_after_the_third)
    session.wait(30)
    assert session.cancelled()
    assert 0 < len(device.rows()) <= 10
    device.sync()
    assert device.rows() == home.rows()


def put_back(world: World, name: str, backup: Path) -> Device:
    """Put a device's file back from a backup."""
    world.devices.pop(name).store.close()
    path = world.folder / f"{name}.db"
    for companion in ("-wal", "-shm"):
        path.with_name(path.name + companion).unlink(missing_ok=True)
    shutil.copy(backup, path)
    return world.device(name)


def back_up(device: Device, path: Path) -> Path:
    with (
        closing(sqlite3.connect(path)) as backup,
        closing(sqlite3.connect(device.store.database.database)) as file,
    ):
        file.backup(backup)
    return path


def check_that_nothing_comes_back(home: Device, device: Device) -> None:
    assert device.sync().phase is Phase.DONE
    assert reads_again(device)
    assert device.rows() == home.rows()
    device.edit("k00005", name="edited since")
    device.sync()
    home.sync()
    assert device.rows() == home.rows()
    assert home.keys() == [f"k{number:05}" for number in (0, 1, 4, 5, 6, 7, 8, 9)]


def test_a_backup_that_is_put_back_after_its_device_read_again_brings_nothing_back(
    world: World, away: tuple[Device, Device]
) -> None:
    home, device = away
    backup = back_up(device, world.folder / "backup.db")
    device.sync(download_batch_size=3)
    assert device.rows() == home.rows()
    check_that_nothing_comes_back(home, put_back(world, "away", backup))


def stop_after(device: Device, pages: int) -> None:
    """Read so many pages of three records, and no more."""
    scope = device.scope

    def cancel(event: Progress) -> None:
        if (event.batch, event.state) == (pages, State.ENDED):
            scope.cancel_sync()

    session = scope.start_sync(SyncOptions(download_batch_size=3), on_progress=cancel)
    session.wait(30)
    assert session.cancelled()


def test_a_backup_from_amid_a_first_read_brings_nothing_back(world: World) -> None:
    """What was deleted and forgotten after that read began, the file cannot have heard of."""
    home, device = world.device("home"), world.device("away")
    home.add(10)
    home.sync()
    delete_something(home, "x")
    stop_after(device, 2)
    assert {"k00002", "k00003"} <= set(device.rows())
    backup = back_up(device, world.folder / "backup.db")
    for key in ("k00002", "k00003"):
        home.delete(key)
    home.sync()
    world.calendar.pass_days(100)
    delete_something(home, "y")
    device.sync(download_batch_size=3)
    assert device.rows() == home.rows()
    check_that_nothing_comes_back(home, put_back(world, "away", backup))


def test_a_first_read_that_stops_below_the_horizon_goes_on_where_it_stopped(world: World) -> None:
    """Also when what was deleted before it began is forgotten meanwhile."""
    home, device = world.device("home"), world.device("new")
    home.add(10)
    home.sync()
    delete_something(home, "x")
    world.calendar.pass_days(60)
    delete_something(home, "y")
    world.calendar.pass_days(40)
    delete_something(home, "z")  # now that of x is forgotten
    stop_after(device, 1)
    assert len(device.rows()) == 3
    world.calendar.pass_days(60)
    delete_something(home, "v")  # and now that of y
    assert device.sync(download_batch_size=3).stats.downloaded == 7 + 1  # and the delete since it began
    assert not reads_again(device)
    assert device.rows() == home.rows()


def test_a_clock_that_jumps_back_forgets_nothing_early(world: World) -> None:
    home, device = world.device("home"), world.device("away")
    home.add(5)
    home.sync()
    delete_something(home, "x")
    device.sync()
    world.calendar.pass_days(-3650)
    home.delete("k00001")
    home.sync()
    delete_something(home, "y")
    device.sync()
    assert not reads_again(device)
    assert device.rows() == home.rows()


def test_a_clock_that_jumps_ahead_costs_a_second_read_and_loses_nothing(world: World) -> None:
    home, device = world.device("home"), world.device("away")
    home.add(5)
    home.sync()
    delete_something(home, "x")
    device.sync()
    device.edit("k00004", name="waits")
    home.delete("k00001")
    home.sync()
    world.calendar.pass_days(3650)
    delete_something(home, "y")
    device.sync()
    home.sync()
    assert device.rows() == home.rows()
    assert home.field("k00004", "name") == "waits"


def test_every_device_may_be_away_and_all_agree_in_the_end(world: World) -> None:
    devices = [world.device(name) for name in ("one", "two", "three")]
    devices[0].add(30)
    for device in devices:
        device.sync()
    for number, device in enumerate(devices):
        device.delete(f"k0000{number}")
        device.edit(f"k0001{number}", name=f"of {number}")
        world.calendar.pass_days(100)
        device.sync()
    settle(devices)
    assert devices[0].rows() == devices[1].rows() == devices[2].rows()
    assert len(devices[0].rows()) == 27


def settle(devices: list[Device]) -> None:
    """Sync every device twice: once to send, once to hear of the others."""
    for device in devices * 2:
        device.sync()
