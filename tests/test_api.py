"""The API of section 8 of the design: sessions as futures, callbacks, options, scopes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from child import start_child
from fleet import Device, airport_model
from gate import PATIENCE, Gate

from statesync import HttpRemote, NothingToCancel, Store, SyncInProgress, UsageError

# -- one session at a time ---------------------------------------------------------------------------


def test_a_second_session_of_the_same_store_is_refused(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with pytest.raises(SyncInProgress) as refused:
        here.scope.start_sync()
    assert refused.value.code == 2461
    held.release()
    session.result(PATIENCE)
    here.sync()


def test_a_second_session_from_another_thread_is_refused(here: Device, gate: Gate) -> None:
    raised: list[BaseException] = []

    def start_another() -> None:
        try:
            here.scope.start_sync()
        except SyncInProgress as error:
            raised.append(error)
        finally:
            here.store.database.close()

    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    thread = threading.Thread(target=start_another)
    thread.start()
    thread.join(PATIENCE)
    assert len(raised) == 1
    held.release()
    session.result(PATIENCE)


def test_a_second_session_through_another_store_on_the_same_file_is_refused(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with Store(here.store.database.database) as second:
        airport_model(second)
        second.setup()
        with pytest.raises(SyncInProgress):
            second.scope(here.remote).start_sync()
    held.release()
    session.result(PATIENCE)


def test_a_session_of_another_process_is_respected_while_it_lives(
    gate: Gate, space: str, tmp_path: Path, new_device: Callable[..., Device]
) -> None:
    held = gate.hold()
    with start_child(tmp_path / "shared.db", gate.url, space) as child:
        held.wait()
        device = new_device("shared", gate.url)
        (running,) = device.store.sessions()
        assert running.phase == "downloading"
        with pytest.raises(SyncInProgress):
            device.scope.start_sync()
        held.release()
        assert child.wait(PATIENCE) == 0
    device.sync()


def test_clearing_is_refused_while_a_session_runs(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    for forbidden in (here.store.clear, here.store.reset, here.store.drop):
        with pytest.raises(SyncInProgress):
            forbidden()
    held.release()
    session.result(PATIENCE)


# -- what is wrong before a session exists -------------------------------------------------------------


def test_a_session_that_could_not_begin_leaves_nothing_to_cancel_or_to_wait_for(
    here: Device, gate: Gate
) -> None:
    here.sync()
    with closing(HttpRemote(gate.url, "another-space")) as elsewhere:
        with pytest.raises(UsageError, match="another space"):
            here.store.scope(elsewhere).start_sync()
        with pytest.raises(NothingToCancel):
            here.store.scope(elsewhere).cancel_sync()
    here.sync()
    here.store.close()
