"""Memory does not grow with the number of records."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from rig import TESTS

from statesync.hub import Hub

RECORDS = 100_000
MEGABYTES = 100

CHILD = """
import sys
from pathlib import Path
from rig.device import device_at

with device_at(Path(sys.argv[1]), sys.argv[2], sys.argv[3]) as device:
    result = device.sync()
    status = Path("/proc/self/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(result.stats.downloaded, device.airport.select().count(), peak)
"""


@pytest.fixture
def crowded(live_hub: tuple[Hub, str], space: str) -> str:
    """The name of a space that holds very many records."""
    client, belief = str(uuid.uuid4()), {"hub": None, "epoch": None}
    for number in range(RECORDS // 10_000):
        changes = [
            {"object": "Airport", "key": f"k{n:06}", "op": "upsert", "base": 0, "data": record(n)}
            for n in range(number * 10_000, (number + 1) * 10_000)
        ]
        request = {"client": client, "number": number + 1, "batch": str(uuid.uuid4()), **belief}
        live_hub[0].push(space, json.dumps(request | {"changes": changes}).encode())
    return space


def record(number: int) -> dict[str, object]:
    return {"name": f"airport number {number} " + "x" * 100, "elevation": number, "is_open": True}


@pytest.mark.large
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the peak")
def test_a_download_of_100000_records_stays_under_100_mb(tmp_path: Path, address: str, crowded: str) -> None:
    """In a process of its own, whose peak is that of the whole interpreter with all libraries."""
    arguments = [sys.executable, "-c", CHILD, str(tmp_path / "many.db"), address, crowded]
    said = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=TESTS).stdout
    downloaded, stored, peak = map(int, said.split())
    assert (downloaded, stored) == (RECORDS, RECORDS)
    assert peak < MEGABYTES * 1000
