"""A second runner that slipped past the lock can commit nothing: each write compares the phase first."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from rig.device import Device
from rig.gate import PATIENCE, Gate

from statesync.errors import StaleRunner


@pytest.mark.parametrize(
    "taken_over",
    [
        "UPDATE statesync_session SET phase = 'failed' WHERE phase = 'downloading'",
        "UPDATE statesync_batch SET phase = 'aborted' WHERE phase = 'in_flight'",
    ],
)
def test_a_session_whose_phase_another_runner_has_moved_stores_nothing(
    here: Device, there: Device, gate: Gate, taken_over: str
) -> None:
    there.add(3)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with closing(sqlite3.connect(here.store.database.database)) as other:
        assert other.execute(taken_over).rowcount == 1
        other.commit()
    before = here.store.journal(session.id)
    held.release()
    assert isinstance(session.exception(PATIENCE), StaleRunner)
    assert here.rows() == {}
    assert here.store.journal(session.id) == before
