"""Where a device stands with its hub: which space owns an object, and a batch in doubt that is refused."""

from __future__ import annotations

import pytest
from rig.device import Device
from rig.gate import Gate, lose_answer, refuse

from statesync import ConnectionLost, HttpRemote, UsageError
from statesync.errors import RemoteError
from statesync.session import timers


def test_a_mistyped_space_owns_nothing_and_the_right_one_can_be_used_after_it(
    here: Device, there: Device, gate: Gate
) -> None:
    here.add(3)
    mistyped = HttpRemote(gate.url, "mistyped")
    gate.plan(refuse(403, "forbidden"), refuse(403, "forbidden"))
    with pytest.raises(RemoteError):
        here.store.scope(mistyped).sync()
    assert here.sync().stats.uploaded == 3
    there.sync()
    assert there.rows() == here.rows()
    with pytest.raises(UsageError, match="another space"):
        here.store.scope(mistyped).sync()
    mistyped.close()


@pytest.mark.crossed
@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.usefixtures("no_backoff")
def test_a_batch_in_doubt_that_the_hub_will_not_look_at_goes_up_anew_and_is_applied_once(
    here: Device, there: Device, gate: Gate, status: int, *, applied: bool
) -> None:
    here.add(4)
    lost = lose_answer if applied else refuse(500, "internal_error")
    gate.plan(lost)
    with pytest.raises((ConnectionLost, RemoteError)):
        here.sync(max_attempts=1)
    gate.plan(refuse(status, "over_a_limit"))
    here.sync()
    assert here.operations() == {}
    there.sync()
    assert there.rows() == here.rows()
    assert not here.store.conflicts()
    assert not there.store.conflicts()


def test_a_hub_cannot_make_a_session_wait_longer_than_five_minutes() -> None:
    for asked in (1e9, float("inf")):
        assert timers.backoff(2, asked) <= 300.0 + 1.0, "and the jitter of a first retry"
    assert timers.backoff(2, 7.0) >= 7.0
