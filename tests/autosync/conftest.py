"""What the tests of keepers share: keepers that are stopped at the end, whatever a test has left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rig.device import Device
from rig.gate import Gate, Reply, Step, answer

from statesync import AutoSync

Keep = Callable[..., AutoSync]


def rejecting(**more: object) -> Step:
    """Answer a push as a hub does that takes none of it; ``more`` is in each verdict."""
    verdict = {"status": "rejected", "code": "no", "message": "the test says so", **more}

    def reject(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        sent = json.loads(body)
        said = {name: sent[name] for name in ("hub", "epoch", "head")}
        said["results"] = [verdict] * len(sent["changes"])
        return answer(200, json.dumps(said).encode())(gate, path, body, headers)

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
