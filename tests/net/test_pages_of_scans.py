"""What a page may say of scans; of one that says something else, nothing reaches the device."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from statesync import BadAnswer
from statesync.wire import Page, Scanned

from .server import PULL, Meeting, answered

PAGE: dict[str, Any] = {
    "hub": "hub", "epoch": "epoch", "head": 9, "changes": [], "cursors": {"A": 0}, "more": True,
}  # fmt: skip
SCANNED: dict[str, Any] = {"since": 9, "until": "z", "last": "b", "done": False}
LONG = "k" * 255


def page_with(**scanned: Any) -> bytes:
    return msgspec.json.encode(PAGE | {"scans": {"A": SCANNED | scanned}})


def test_a_page_tells_how_far_each_scan_is(meeting: Meeting) -> None:
    meeting.will(answered(page_with(stubs=["a", LONG], count=7, later="field")))
    page = meeting.remote().pull(PULL)
    assert page.scans == {"A": Scanned(9, "z", "b", False, ["a", LONG], 7)}


def test_a_page_of_an_older_hub_has_no_scans(meeting: Meeting) -> None:
    meeting.will(answered(msgspec.json.encode(PAGE)))
    assert meeting.remote().pull(PULL).scans == {}


def test_a_page_of_feeds_says_nothing_of_scans() -> None:
    """So an older device is answered by the very bytes that it knows."""
    page = Page("hub", "epoch", 9, [], {"A": 0}, more=True)
    assert msgspec.to_builtins(page) == PAGE


def test_what_a_page_need_not_say_of_a_scan_it_does_not_say() -> None:
    assert msgspec.to_builtins(Scanned(9, "z", "b", False)) == SCANNED
    assert msgspec.to_builtins(Scanned(9, "z", "b", True, ["a"], 0)) == SCANNED | {
        "done": True, "stubs": ["a"], "count": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": -1}, {"since": 1 << 63}, {"since": "9"}, {"since": None}, {"until": LONG + "k"},
        {"until": None}, {"last": LONG + "k"}, {"last": 1}, {"done": 1}, {"done": None}, {"stubs": "a"},
        {"stubs": [""]}, {"stubs": [LONG + "k"]}, {"stubs": [None]}, {"stubs": None}, {"count": -1},
        {"count": 1 << 63}, {"count": 1.5},
    ],
)  # fmt: skip
def test_a_page_that_says_what_no_hub_says_of_a_scan_is_a_bad_answer(
    meeting: Meeting, wrong: dict[str, Any]
) -> None:
    meeting.will(answered(page_with(**wrong)))
    with pytest.raises(BadAnswer):
        meeting.remote().pull(PULL)


@pytest.mark.parametrize("field", ["since", "until", "last", "done"])
def test_a_page_that_leaves_out_where_a_scan_is_is_a_bad_answer(meeting: Meeting, field: str) -> None:
    scanned = {name: value for name, value in SCANNED.items() if name != field}
    meeting.will(answered(msgspec.json.encode(PAGE | {"scans": {"A": scanned}})))
    with pytest.raises(BadAnswer):
        meeting.remote().pull(PULL)


@pytest.mark.parametrize("scans", [None, [], {"A": None}, {"A": []}])
def test_scans_that_are_none_are_a_bad_answer(meeting: Meeting, scans: object) -> None:
    meeting.will(answered(msgspec.json.encode(PAGE | {"scans": scans})))
    with pytest.raises(BadAnswer):
        meeting.remote().pull(PULL)
