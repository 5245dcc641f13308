"""Nothing is missed: a mirror that is kept by nothing but the news shows what is in the table."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing, suppress

import pytest
from rig.device import Device, device_on
from rig.search import examples

from statesync import ConflictEntry, Store, SyncError, UsageError, client_wins, decide_later, server_wins
from statesync.store.file import looks

from .mirror import Mirror

POLICIES = (client_wins, server_wins, decide_later)


class Life:
    """What happens at random to a table: here, in another process of the device, and on another device."""

    def __init__(self, here: Device, other: Device, there: Device, seed: int) -> None:
        self._random = random.Random(seed)
        self._here, self._other, self._there = here, other, there
        self.steps: list[str] = []

    def step(self) -> None:
        moves: tuple[Callable[[Device], object], ...] = (
            self._write,
            self._write,
            self._delete,
            self._sync,
            self._rollback,
            self._resolve,
            self._untracked,
            self._defer,
            self._together,
        )
        move, where = self._random.choice(moves), self._random.choice((self._here, self._here, self._other))
        self.steps.append(f"{move.__name__} {'here' if where is self._here else 'other'}")
        if where is self._other and move == self._untracked:
            return  # is not promised
        with suppress(UsageError, SyncError):
            move(where)
        if self._random.random() < 0.3:
            self._write(self._there)
            self._there.sync()

    def _key(self) -> str:
        return f"k{self._random.randrange(6)}"

    def _write(self, device: Device) -> None:
        values = {"name": f"n{self._random.random()}", "is_open": True}
        device.airport.replace(id=self._key(), **values).execute()

    def _delete(self, device: Device) -> None:
        device.airport.delete_by_id(self._key())

    def _sync(self, device: Device) -> None:
        policy = self._random.choice(POLICIES)
        device.sync(conflict_policy=policy, upload_batch_size=2, download_batch_size=2)

    def _rollback(self, device: Device) -> None:
        record = device.airport.get_or_none(device.airport.id == self._key())
        device.store.rollback(record)

    def _resolve(self, device: Device) -> None:
        waiting: list[ConflictEntry] = device.store.conflicts(waiting=True)
        if waiting:
            device.store.resolve(waiting[0], self._random.choice(("local", "remote")))

    def _untracked(self, device: Device) -> None:
        with device.store.untracked():
            self._write(device)

    def _defer(self, device: Device) -> None:
        for record in device.airport.select().limit(1):
            device.store.defer(record)
            device.store.mark_for_upload(record)

    def _together(self, device: Device) -> None:
        with device.store.database.atomic() as transaction:
            self._write(device)
            self._defer(device)
            self._delete(device)
            self._defer(device)
            if self._random.random() < 0.3:
                transaction.rollback()


@pytest.mark.parametrize("seed", range(examples(2, 18)))
def test_a_mirror_that_is_kept_by_the_news_is_what_is_in_the_table(
    here: Device, there: Device, seed: int
) -> None:
    path = here.store._parts.database.path
    with device_on(path, here.remote) as other:
        life = Life(here, other, there, seed)
        mirror = Mirror(here)
        for number in range(60):
            life.step()
            if number % 6 == 5:
                assert mirror.is_right(), life.steps
        mirror.observation.stop()
    assert len(set(life.steps)) > 10


def test_what_another_process_does_amid_two_looks_is_not_missed(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a change back, and makes the very same one again, with other values."""
    here.add(1)
    here.sync()
    monkeypatch.setattr(looks, "OFTEN", 0.3)
    with closing(Store.open(here.store._parts.database.path)) as other:
        mirror = Mirror(here)
        for number in range(3):
            here.edit("k00000", name=f"first {number}")
            assert mirror.is_right()
            other.rollback()
            here.edit("k00000", name=f"second {number}")
            assert mirror.is_right()
        mirror.observation.stop()


def test_a_log_that_another_process_has_read_and_that_is_as_long_again_is_not_missed(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both records wait already, so that the outbox looks as before."""
    here.add(2)
    here.store.retry()
    monkeypatch.setattr(looks, "OFTEN", 0.3)
    with closing(Store.open(here.store._parts.database.path)) as other:
        mirror = Mirror(here)
        for number in range(3):
            here.edit("k00000", name=f"first {number}")
            assert mirror.is_right()
            other.retry()
            here.edit("k00001", name=f"second {number}")
            assert mirror.is_right()
        mirror.observation.stop()
