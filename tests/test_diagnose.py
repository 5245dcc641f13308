"""``diagnose`` finds every difference between device and hub, and says who is behind."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig.device import Device, as_downloaded, device_at
from rig.gate import Gate, Reply
from rig.search import examples

from statesync import BadAnswer, RemoteError, digest
from statesync.cli.care import diagnose
from statesync.diagnosis import comparing
from statesync.diagnosis.found import Difference
from statesync.hub import Hub, HubLimits, prepare, serving


def differences(device: Device) -> dict[str, Difference]:
    return {found.key: found.kind for found in device.scope.diagnose().differences}


def test_devices_that_agree_with_the_hub_are_found_equal_in_one_request(
    here: Device, there: Device, gate: Gate
) -> None:
    there.add(500)
    there.sync()
    here.sync()
    gate.seen.clear()
    found = here.scope.diagnose()
    assert (found.is_consistent(), found.differences) == (True, ())
    assert (found.objects[0].here, found.objects[0].there) == (500, 500)
    assert gate.verbs() == ["survey"]


def test_each_kind_of_difference_is_told_from_the_others(here: Device, there: Device) -> None:
    there.add(3000)
    there.sync()
    here.sync()
    with as_downloaded(here.store):
        here.edit("k00001", name="changed behind our back")
        here.delete("k00002")
        here.add(1, first=9000)
    here.edit("k00003", name="pending")
    there.edit("k00004", name="newer")
    there.delete("k00005")
    there.add(1, first=8000)
    there.sync()
    assert differences(here) == {
        "k00001": Difference.DIVERGED,
        "k00002": Difference.MISSING_HERE,
        "k09000": Difference.MISSING_THERE,
        "k00004": Difference.NOT_DOWNLOADED,
        "k00005": Difference.NOT_DOWNLOADED,
        "k08000": Difference.NOT_DOWNLOADED,
    }
    assert here.scope.diagnose().objects[0].pending == 1
    assert not here.scope.diagnose().is_consistent()


def test_what_the_next_sync_brings_is_no_inconsistency(here: Device, there: Device) -> None:
    there.add(10)
    there.sync()
    here.sync()
    there.edit("k00001", name="newer")
    there.sync()
    assert differences(here) == {"k00001": Difference.NOT_DOWNLOADED}
    assert here.scope.diagnose().is_consistent()


def test_an_empty_device_finds_everything_not_downloaded_however_much_it_is(
    here: Device, there: Device
) -> None:
    there.add(12_000)
    there.sync(upload_batch_size=4000)
    found = differences(here)
    assert len(found) == 12_000
    assert set(found.values()) == {Difference.NOT_DOWNLOADED}


def test_floats_booleans_nulls_and_blobs_are_equal_where_they_were_synced(
    here: Device, there: Device
) -> None:
    values = [0.1 + 0.2, 1.0, -0.0, 1e300, None, 5e-324, 123456789.123456789]
    for number, value in enumerate(values):
        there.airport.create(
            id=f"f{number}",
            name='é\n\0"',
            latitude=value,
            is_open=number % 2,
            plan=b"\x00\xff" * number or None,
        )
    there.sync()
    here.sync()
    assert differences(here) == differences(there) == {}


def test_the_command_prints_the_comparison_and_its_exit_code_tells(
    tmp_path: Path, address: str, space: str
) -> None:
    with device_at(tmp_path / "one.db", address, space) as device:
        device.add(5)
        device.sync()
        arguments = [str(tmp_path / "one.db"), "--remote", address, "--space", space]
        assert CliRunner().invoke(diagnose, arguments).exit_code == 0
        with as_downloaded(device.store):
            device.delete("k00002")
        found = CliRunner().invoke(diagnose, arguments)
    assert found.exit_code == 1
    assert "Airport k00002: missing here" in found.output


@pytest.mark.large
def test_a_hundred_thousand_equal_records_cost_less_than_100_kb_of_traffic(here: Device, gate: Gate) -> None:
    connection = sqlite3.connect(here.store.database.database)
    with connection:
        connection.executemany(
            "INSERT INTO airport (id, name, is_open) VALUES (?, ?, 1)",
            [(f"k{n:06}", f"name {n}") for n in range(100_000)],
        )
    connection.close()
    here.sync(upload_batch_size=5000)
    traffic = []

    def counted(through: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        reply = through.ask_hub(path, body, headers)
        traffic.append(len(body) + len(reply[2]))
        return reply

    gate.plan(*[counted] * 10)
    assert here.scope.diagnose().objects[0].there == 100_000
    assert 0 < sum(traffic) < 100_000


def test_a_hub_that_answers_in_parts_and_many_ranges_are_compared_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_RANGE", 7)
    monkeypatch.setattr(comparing, "_RANGES", 5)
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True)
    with serving(hub) as address, device_at(tmp_path / "a.db", address, "one") as here:
        here.add(100)
        here.sync()
        with as_downloaded(here.store):
            here.edit("k00050", name="changed behind our back")
            here.delete("k00099")
        expected = differences(here)
        in_one = here.scope.diagnose()
        hub.limits = HubLimits(survey_seconds=1e-9)
        in_parts = here.scope.diagnose()
    hub.close()
    assert expected == {"k00050": Difference.DIVERGED, "k00099": Difference.MISSING_HERE}
    assert in_parts.objects == in_one.objects
    assert in_parts.requests > 100 > in_one.requests


def test_a_filter_that_is_too_large_for_a_hub_fails_with_its_object_and_the_limit(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True, limits=HubLimits(filter_values=2))
    with serving(hub) as address, device_at(tmp_path / "a.db", address, "one") as here:
        here.add(1)
        with pytest.raises(
            RemoteError, match=r"'Airport' asks for 3 values, and the limit is 2; ask for fewer"
        ):
            here.sync(filter={"Airport": {"name": ["a", "b", "c"]}})
        with pytest.raises(RemoteError, match=r"'Airport' asks for 3 values"):
            here.scope.diagnose()
        here.sync(filter={"Airport": {"name": ["a", "b"]}})
    hub.close()


def test_a_key_that_no_hub_takes_begins_no_range(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_RANGE", 1)
    here.add(3)
    here.airport.create(id="k\0", name="only here")
    here.sync()
    assert differences(here) == {}
    with as_downloaded(here.store):
        here.delete("k00002")
    assert differences(here) == {"k00002": Difference.MISSING_HERE}


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"goes_on_at": ""}, "lead nowhere"),
        ({"tallies": []}, "tallied 0 ranges where 1 were asked for"),
        ({"tallies": [{"count": 1, "digest": "-1"}]}, "no survey answer"),
        ({"tallies": [{"count": -1, "digest": "0" * 16}]}, "no survey answer"),
    ],
)
def test_tallies_that_no_hub_means_are_a_bad_answer(
    here: Device, gate: Gate, lie: dict[str, object], words: str
) -> None:
    here.add(1)
    here.sync()

    def lying(through: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        status, answered, told = through.ask_hub(path, body, headers)
        return status, answered, json.dumps(json.loads(told) | lie).encode()

    gate.plan(lying)
    with pytest.raises(BadAnswer, match=words):
        here.scope.diagnose()


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False))))
def test_a_digest_depends_on_the_values_and_not_on_how_a_number_is_written(values: list[object]) -> None:
    as_floats = [float(value) if isinstance(value, int) and abs(value) < 2**50 else value for value in values]
    finite = [value for value in as_floats if value not in (float("inf"), float("-inf"))]
    others = [value for value in values if value not in (float("inf"), float("-inf"))]
    assert digest.of_record("k", finite) == digest.of_record("k", others)
    assert digest.of_record("k", others) != digest.of_record("l", others)
    assert digest.of_record("k", [*others, 1]) != digest.of_record("k", [*others, 2])
