"""What a scan may be asked by is checked before a database is asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from statesync.hub import Hub
from statesync.wire import Feed, Scan

from ..cost.asking import refusal, without_database
from ..devices import Device

LONG = "k" * 255


def asked(hub: Hub, device: Device, scan: object) -> tuple[int, str]:
    with without_database(hub):
        return refusal(hub, "pull", device.pull_document({"A": {"cursor": 0, "scan": scan}}))[:2]


@pytest.mark.parametrize(
    "scan",
    [
        [], 1, "", {"since": "1"}, {"since": 1.5}, {"since": None}, {"since": 1, "after": 1, "until": "b"},
        {"since": 1, "after": None, "until": "b"}, {"since": 1, "after": "a", "until": ["b"]},
    ],
)  # fmt: skip
def test_what_is_no_scan_is_malformed(hub: Hub, device: Device, scan: object) -> None:
    assert asked(hub, device, scan) == (400, "malformed")


@pytest.mark.parametrize("since", [-1, 1 << 63, 10**30])
def test_a_scan_since_a_version_that_no_hub_gives_out_is_malformed(
    hub: Hub, device: Device, since: int
) -> None:
    assert asked(hub, device, {"since": since, "after": "a", "until": "b"}) == (400, "malformed")


@pytest.mark.parametrize("field", ["after", "until"])
@pytest.mark.parametrize("key", [LONG + "k", "a\0b", "\0"])
def test_a_scan_with_a_key_that_no_record_has_is_malformed(
    hub: Hub, device: Device, field: str, key: str
) -> None:
    scan: dict[str, Any] = {"since": 1, "after": "a", "until": "~" * 255}
    assert asked(hub, device, scan | {field: key}) == (400, "malformed")


@pytest.mark.parametrize("scan", [{"after": "a"}, {"until": "b"}, {"since": 0, "after": "a", "until": "b"}])
def test_a_scan_that_begins_says_nothing_of_where_it_is(hub: Hub, device: Device, scan: object) -> None:
    assert asked(hub, device, scan) == (400, "malformed")


@pytest.mark.parametrize(
    "scan",
    [
        {"since": 1}, {"since": 1, "after": "a"}, {"since": 1, "after": "b", "until": "a"},
        {"since": 1, "after": "\U0001f600", "until": "\uffff"},
    ],
)  # fmt: skip
def test_a_scan_that_goes_on_has_an_end_and_is_not_behind_it(hub: Hub, device: Device, scan: object) -> None:
    assert asked(hub, device, scan) == (400, "malformed")


@pytest.mark.parametrize(
    ("scan", "said"),
    [
        (Scan(), {}),
        (Scan(3, "a", "b"), {"since": 3, "after": "a", "until": "b"}),
        (Scan(3, "", "b"), {"since": 3, "until": "b"}),
        (Scan(spares=True), {"spares": True}),
    ],
)
def test_a_scan_travels_as_it_is_written_down(scan: Scan, said: dict[str, Any]) -> None:
    assert msgspec.to_builtins(Feed(0, scan=scan)) == {"cursor": 0, "scan": said}
    assert "scan" not in msgspec.to_builtins(Feed(0))
