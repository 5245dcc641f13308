"""What the tests of keepers share: keepers that are stopped at the end, whatever a test has left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rig.device import Device
from rig.gate import Gate, Reply, Step

from statesync import AutoSync

Keep = Callable[..., AutoSync]


def rejecting(**more: object) -> Step:
    """Turn the hub's verdicts on a push into refusals, and let the rest pass; ``more`` is in each of them.

    The hub has heard of the push, so that it goes on counting with the device.
    """
    verdict = {"status": "rejected", "code": "no", "message": "the test says so", **more}

    def reject(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        status, named, said = gate.ask_hub(path, body, headers)
        answer = json.loads(said)
        if "results" in answer:
            answer["results"] = [verdict] * len(answer["results"])
        return status, named, json.dumps(answer).encode()

    return reject


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
