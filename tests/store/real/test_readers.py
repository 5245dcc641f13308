"""A device that may not write goes on downloading, also where a restored hub has lost what it has read.

What the hub has lost is offered again by every device. Who may only read did not ask for that: its offers are
parked, and make no session fail. A change that somebody made there is told of as before.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rig.device import Device, device_on

from statesync import ConnectionLost, Phase, SyncFailed, Unauthorized
from statesync.hub import Hub, HubLimits, LocalRemote, Right, create_token, prepare
from statesync.wire import Push, PushAnswer

KEPT, LOST = "k00000", "k00001"


class Restorable:
    """A hub with tokens, which can be restored from a backup, and its devices."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._path, self._stack = folder / "hub.db", stack
        self._rights: dict[Device, frozenset[Right]] = {}
        prepare(self._url)
        self.hub = self._open()
        stack.callback(lambda: self.hub.close())

    @property
    def _url(self) -> str:
        return f"sqlite:///{self._path}"

    def _open(self) -> Hub:
        return Hub(self._url, limits=HubLimits(epoch_pause=0.0))

    def device(self, name: str, rights: frozenset[Right]) -> Device:
        path = self._path.with_name(f"{name}.db")
        device = self._stack.enter_context(device_on(path, LocalRemote(self.hub, "sp")))
        self.give(device, rights)
        return device

    def give(self, device: Device, rights: frozenset[Right]) -> None:
        """Give a device another token."""
        self._rights[device] = rights
        device.remote = LocalRemote(self.hub, "sp", create_token(self.hub.database, "sp", {"*": rights}))

    def back_up(self) -> None:
        self.hub.close()
        shutil.copy(self._path, self._path.with_name("backup.db"))
        self._begin_anew()

    def restore(self) -> None:
        self.hub.close()
        shutil.copy(self._path.with_name("backup.db"), self._path)
        self._begin_anew()
        self.hub.begin_epoch("sp")

    def _begin_anew(self) -> None:
        self.hub = self._open()
        for device, rights in self._rights.items():
            self.give(device, rights)


@pytest.fixture
def restorable(tmp_path: Path) -> Iterator[Restorable]:
    with ExitStack() as stack:
        yield Restorable(tmp_path, stack)


@pytest.fixture
def writer(restorable: Restorable) -> Device:
    return restorable.device("writer", frozenset(Right))


@pytest.fixture
def reader(restorable: Restorable, writer: Device) -> Device:
    """A device that may only read, and has a record that the hub has lost, and one that it has kept."""
    reader = restorable.device("reader", frozenset({Right.READ}))
    writer.add(1)
    writer.sync()
    reader.sync()
    restorable.back_up()
    writer.add(1, first=1)
    writer.sync()
    reader.sync()
    restorable.restore()
    return reader


@pytest.fixture
def refused(reader: Device) -> Device:
    """The reader once it has learned of the loss, and then offered what the hub has lost."""
    reader.sync()
    reader.sync()
    assert parked(reader) == {LOST: "forbidden"}
    return reader


def parked(device: Device) -> dict[str, str]:
    """Return the code by the key of what is parked."""
    return {change.key: change.parked.code for change in device.store.pending() if change.parked}


def test_what_a_restored_hub_has_lost_is_parked_in_words_and_no_session_fails(reader: Device) -> None:
    for _ in range(3):
        assert reader.sync().phase is Phase.DONE
    assert reader.keys() == [KEPT, LOST]
    (change,) = reader.store.pending()
    assert change.parked is not None
    assert (change.key, change.parked.code, change.parked.attempts) == (LOST, "forbidden", 1)
    assert "a restored hub has lost this record" in change.parked.message
    assert change.parked.retry_at is not None


def test_what_others_write_comes_although_offers_were_refused(reader: Device, writer: Device) -> None:
    writer.add(1, first=100)
    writer.sync()
    assert reader.sync().phase is Phase.DONE
    assert reader.keys() == [KEPT, LOST, "k00100"]


def test_the_hubs_record_takes_the_place_of_the_offer_once_somebody_brings_it(
    refused: Device, writer: Device
) -> None:
    writer.sync()
    writer.sync()
    refused.sync()
    assert not refused.store.has_pending()
    assert refused.rows() == writer.rows()
    assert refused.store.conflicts() == []
    writer.edit(LOST, name="later")
    writer.sync()
    refused.sync()
    assert refused.field(LOST, "name") == "later"


def test_another_record_in_the_place_of_the_offer_leaves_ours_in_the_conflict_log(
    refused: Device, writer: Device
) -> None:
    writer.edit(LOST, name="another")
    writer.sync()
    refused.sync()
    assert refused.field(LOST, "name") == "another"
    assert not refused.store.has_pending()
    ((key, local),) = [(one.key, one.local) for one in refused.store.conflicts()]
    assert (key, local and local["name"]) == (LOST, "n1")


def test_a_lost_write_is_parked_too_and_the_next_one_of_the_hub_replaces_it(
    restorable: Restorable, writer: Device
) -> None:
    reader = restorable.device("reader", frozenset({Right.READ}))
    writer.add(1)
    writer.sync()
    reader.sync()
    restorable.back_up()
    writer.edit(KEPT, name="lost")
    writer.sync()
    reader.sync()
    restorable.restore()
    for _ in range(2):  # it learns of the loss as it reads, and offers it in the session after that
        assert reader.sync().phase is Phase.DONE
    assert parked(reader) == {KEPT: "forbidden"}
    assert reader.field(KEPT, "name") == "lost"
    writer.edit(KEPT, name="again")
    writer.sync()
    assert reader.sync().phase is Phase.DONE
    assert reader.field(KEPT, "name") == "again"
    assert not reader.store.has_pending()


def test_a_change_that_was_made_here_is_told_as_ever_and_no_page_replaces_it(
    refused: Device, writer: Device
) -> None:
    reader = refused
    reader.edit(LOST, name="mine")
    writer.add(1, first=100)
    writer.edit(LOST, name="theirs")
    writer.sync()
    for _ in range(2):
        with pytest.raises(Unauthorized):
            reader.sync()
    assert reader.keys() == [KEPT, LOST, "k00100"]
    assert reader.field(LOST, "name") == "mine"
    assert reader.operations().keys() == {LOST}
    assert parked(reader) == {}


def test_an_offer_goes_up_by_itself_within_an_hour_once_the_token_may_write(
    restorable: Restorable, refused: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorable.give(refused, frozenset(Right))
    assert refused.sync().stats.uploaded == 0
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    assert refused.sync().stats.uploaded == 1
    assert not refused.store.has_pending()


def test_an_offer_goes_up_at_once_by_retry(restorable: Restorable, refused: Device) -> None:
    restorable.give(refused, frozenset(Right))
    assert refused.store.retry() == 1
    assert refused.sync().stats.uploaded == 1


class LosesRequest(LocalRemote):
    """A hub that no push reaches."""

    def push(self, request: Push) -> PushAnswer:
        raise ConnectionLost("the request was lost", maybe_applied=True)


def test_offers_whose_request_was_lost_stop_no_later_session(restorable: Restorable, reader: Device) -> None:
    reader.sync()
    reader.remote = LosesRequest(restorable.hub, "sp")
    with pytest.raises(SyncFailed):
        reader.sync(max_attempts=1)
    restorable.give(reader, frozenset({Right.READ}))
    assert reader.sync().phase is Phase.DONE
    assert parked(reader) == {LOST: "forbidden"}


class LosesAnswer(LocalRemote):
    """A hub whose answers to pushes are lost on the way."""

    def push(self, request: Push) -> PushAnswer:
        super().push(request)
        raise ConnectionLost("the answer was lost", maybe_applied=True)


def test_who_may_not_write_any_more_reads_on_although_a_batch_is_in_doubt(
    restorable: Restorable, writer: Device
) -> None:
    """The hub has taken the batch, and says so to who may read; the device stays who it is."""
    device = restorable.device("device", frozenset(Right))
    writer.add(1)
    writer.sync()
    device.add(1, first=1)
    token = create_token(restorable.hub.database, "sp", {"*": frozenset(Right)})
    device.remote = LosesAnswer(restorable.hub, "sp", token)
    with pytest.raises(SyncFailed):
        device.sync(max_attempts=1)
    restorable.give(device, frozenset({Right.READ}))
    assert device.sync().phase is Phase.DONE
    assert device.keys() == [KEPT, LOST]
    restorable.give(device, frozenset(Right))
    device.sync()
    assert not device.store.has_pending()
    writer.sync()
    assert writer.rows() == device.rows()
