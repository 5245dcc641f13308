"""The verdict on one record: ``wait_for`` says what has become of its change, and in time."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import peewee
import pytest
from rig.device import Device, quick_store
from rig.gate import PATIENCE, Gate, pass_on, rejecting

from statesync import BadOptions, Outcome, Store, SyncError, UnknownObject, UsageError, decide_later
from statesync.store.news import verdict


def test_a_record_that_the_hub_has_taken_is_accepted(here: Device, gate: Gate) -> None:
    here.add(1)
    held = gate.hold()
    session = here.scope.start_sync()
    with pytest.raises(TimeoutError, match="Airport k00000 still waits after"):
        here.store.wait_for(here.airport, "k00000", timeout=0.1)
    held.release()
    verdict = here.store.wait_for(here.airport.get_by_id("k00000"), timeout=20)
    assert (verdict.object, verdict.key, verdict.outcome) == ("Airport", "k00000", Outcome.ACCEPTED)
    session.result()


def test_it_comes_when_the_batch_is_stored_and_not_only_at_the_sessions_end(here: Device, gate: Gate) -> None:
    here.add(1)
    gate.plan(pass_on)
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    assert here.store.wait_for(here.airport, "k00000", timeout=20).outcome is Outcome.ACCEPTED
    assert not session.done()
    held.release()
    session.result()


def test_a_record_that_the_hub_refuses_comes_with_its_words(here: Device, gate: Gate) -> None:
    gate.plan(rejecting(field="name"))
    here.add(1)
    session = here.scope.start_sync()
    verdict = here.store.wait_for("Airport", "k00000", timeout=20)
    session.wait()
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.change is not None
    parked = verdict.change.parked
    assert parked is not None
    assert (parked.code, parked.message, parked.field) == ("no", "the test says so", "name")


def test_a_record_in_conflict_says_that_somebody_has_to_decide(here: Device, there: Device) -> None:
    here.add(1)
    here.sync()
    there.sync()
    there.edit("k00000", name="theirs")
    there.sync()
    here.edit("k00000", name="ours")
    here.sync(conflict_policy=decide_later)
    verdict = here.store.wait_for(here.airport, "k00000", timeout=0)
    assert verdict.outcome is Outcome.IN_CONFLICT
    assert verdict.change is not None
    assert verdict.change.in_conflict


def test_a_record_that_was_not_changed_here_is_accepted(here: Device) -> None:
    assert here.store.wait_for(here.airport, "nobody", timeout=0).outcome is Outcome.ACCEPTED


def test_what_was_made_and_deleted_here_waits_for_nothing(here: Device) -> None:
    here.add(2)
    here.delete("k00000")
    assert here.store.wait_for(here.airport, "k00000", timeout=0).outcome is Outcome.ACCEPTED


def test_what_is_deferred_says_so_when_its_time_is_over(here: Device) -> None:
    here.add(1)
    here.store.defer(here.airport.get_by_id("k00000"))
    with pytest.raises(TimeoutError, match="Airport k00000 is deferred after 0 seconds"):
        here.store.wait_for(here.airport, "k00000", timeout=0)


def test_it_waits_neither_in_a_transaction_nor_in_a_callback_of_a_session(here: Device) -> None:
    here.add(1)
    with here.store.database.atomic(), pytest.raises(UsageError, match="end the transaction"):
        here.store.wait_for(here.airport, "k00000")
    raised: list[Exception] = []

    def wait(_: object) -> None:
        try:
            here.store.wait_for(here.airport, "k00000")
        except UsageError as error:
            raised.append(error)

    here.scope.sync(on_progress=wait)
    assert raised
    assert "callback of a session" in str(raised[0])


def test_it_has_to_be_told_which_record(here: Device) -> None:
    with pytest.raises(UsageError, match="give the key"):
        here.store.wait_for(here.airport)
    with pytest.raises(UnknownObject, match="Ship"):
        here.store.wait_for("Ship", "k00000")


def test_a_record_whose_object_is_dropped_meanwhile_is_waited_for_no_longer(here: Device) -> None:
    here.add(1)
    here.store.drop()
    with pytest.raises(UnknownObject, match="Airport was dropped"):
        verdict.wait_for(here.store._parts, "Airport", "k00000", timeout=1.0)


def test_a_uuid_is_the_same_key_however_it_is_written(tmp_path: Path) -> None:
    """Else a record that waits is told to be accepted."""

    class Meter(peewee.Model):
        id = peewee.UUIDField(primary_key=True, default=uuid.uuid4)
        name = peewee.TextField()

    with quick_store(tmp_path / "meters.db") as store:
        store.track(Meter)
        store.setup()
        meter = Meter.create(name="m")
        for what in (Meter, "Meter"):
            for key in (meter.id, str(meter.id), meter.id.hex, str(meter.id).upper()):
                with pytest.raises(TimeoutError, match="still waits"):
                    store.wait_for(what, key, timeout=0)
        assert store.retry(Meter, meter.id) == 0
    with Store.open(tmp_path / "meters.db") as store, pytest.raises(UsageError, match="as it is stored"):
        store.wait_for("Meter", meter.id, timeout=0)


@pytest.mark.parametrize("key", [5, b"k00000", ("k", 0), "\ud800"])
def test_what_is_no_key_is_refused_in_words(here: Device, key: Any) -> None:
    with pytest.raises(UsageError, match="is no key of Airport"):
        here.store.wait_for("Airport", key, timeout=0)


@pytest.mark.parametrize("timeout", [float("nan"), "1", (1,)])
def test_a_time_that_is_none_is_refused_and_not_waited_for(here: Device, timeout: Any) -> None:
    here.add(1)
    with pytest.raises(BadOptions, match="timeout must be a number of seconds"):
        here.store.wait_for("Airport", "k00000", timeout=timeout)


def test_an_object_that_is_dropped_is_waited_for_no_longer(here: Device) -> None:
    here.add(1)
    raised: list[Exception] = []

    def wait() -> None:
        try:
            here.store.wait_for("Airport", "k00000", timeout=PATIENCE)
        except SyncError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    here.store.drop_object("Airport")
    waiting.join(PATIENCE)
    assert [type(error) for error in raised] == [UnknownObject]
