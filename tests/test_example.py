"""The example of section 1 of the design, to the letter, over real HTTP.

100 records wait on the hub, the download batch size is 10, cancel is called while the first batch is in
progress: 10 records are saved, no further batch starts, the success callback of ``cancel_sync`` fires, and
so does the failure callback of ``start_sync``, with ``SyncCancelled``.
"""

from __future__ import annotations

import pytest
from rig.device import Device
from rig.gate import Gate

from statesync import Phase, Progress, Scope, SyncCancelled, SyncOptions, SyncResult


@pytest.fixture(params=["object level", "object-service level"])
def scope(request: pytest.FixtureRequest, here: Device) -> Scope:
    models = [here.airport] if request.param == "object level" else []
    return here.store.scope(here.remote, *models)


@pytest.fixture
def waiting(there: Device) -> list[str]:
    """The keys of 100 records that wait on the hub, in the order of the feed."""
    keys = there.add(100)
    there.sync()
    return keys


def run_example(scope: Scope, gate: Gate) -> list[tuple[str, object]]:
    """Do what the example says; return what the callbacks were told, in order."""
    told: list[tuple[str, object]] = []
    held = gate.hold()
    session = scope.start_sync(
        SyncOptions(download_batch_size=10),
        on_success=lambda result: told.append(("sync succeeded", result)),
        on_failure=lambda error: told.append(("sync failed", error)),
    )
    held.wait()
    scope.cancel_sync(
        on_success=lambda result: told.append(("cancel succeeded", result)),
        on_failure=lambda error: told.append(("cancel failed", error)),
    )
    held.release()
    with pytest.raises(SyncCancelled):
        session.result(timeout=20)
    return told


def test_ten_records_are_saved(scope: Scope, gate: Gate, waiting: list[str], here: Device) -> None:
    run_example(scope, gate)
    assert here.keys() == waiting[:10]


def test_no_further_batch_starts(scope: Scope, gate: Gate, waiting: list[str], here: Device) -> None:
    run_example(scope, gate)
    assert gate.verbs() == ["pull"]
    (session,) = here.store.sessions()
    assert [batch.records for batch in session.batches] == [10]


def test_both_callbacks_fire_once_and_rightly(scope: Scope, gate: Gate, waiting: list[str]) -> None:
    told = dict(run_example(scope, gate))
    assert sorted(told) == ["cancel succeeded", "sync failed"]
    error, result = told["sync failed"], told["cancel succeeded"]
    assert isinstance(error, SyncCancelled)
    assert error.code == 2478
    assert error.phase is Phase.CANCELLED
    assert isinstance(result, SyncResult)
    assert result.phase is Phase.CANCELLED
    assert result.stats.downloaded == 10


def test_the_next_session_fetches_the_other_ninety(
    scope: Scope, gate: Gate, waiting: list[str], here: Device
) -> None:
    run_example(scope, gate)
    result = scope.sync(SyncOptions(download_batch_size=10))
    assert result.stats.downloaded == 90
    assert here.keys() == waiting


def test_it_holds_too_where_the_cancel_comes_from_the_progress_callback(
    scope: Scope, waiting: list[str], here: Device
) -> None:
    outcomes: list[str] = []

    def cancel_in_the_first_batch(progress: Progress) -> None:
        if (progress.part, progress.state) == ("download", "in_progress"):
            scope.cancel_sync(on_success=lambda result: outcomes.append("cancelled"))

    session = scope.start_sync(SyncOptions(download_batch_size=10), on_progress=cancel_in_the_first_batch)
    with pytest.raises(SyncCancelled):
        session.result(timeout=20)
    assert outcomes == ["cancelled"]
    assert here.keys() == waiting[:10]
