"""What the tests of keepers share: keepers that are stopped at the end, whatever a test has left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rig.device import Device
from rig.gate import wait_for

from statesync import AutoSync

Keep = Callable[..., AutoSync]


def is_done(keeper: AutoSync) -> bool:
    """Ask for a session; tell whether it went well."""
    before = keeper.status().last
    keeper.nudge()
    assert wait_for(lambda: keeper.status().last is not before)
    last = keeper.status().last
    return last is not None and last.error is None


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Start a keeper of a device: ``keep(device, every=…)``. Its gap is nothing, unless the test says so."""
    kept: list[AutoSync] = []

    def begin(device: Device, **settings: Any) -> AutoSync:
        keeper = AutoSync(device.scope, **{"min_gap": 0, "every": 3600, **settings})
        kept.append(keeper)
        keeper.start()
        return keeper

    yield begin
    for keeper in kept:
        keeper.stop(grace=0)
