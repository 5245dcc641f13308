"""Scans over HTTP, as the wire sees them: each page by hand, on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest

from statesync.hub import Hub, LocalRemote, Right, Rights, serving
from statesync.net.remote import HttpRemote
from statesync.remote import Remote
from statesync.wire import Feed, Pull, Scan, Scanned

from ..devices import Device, Service, delete, upsert

BYTE_ORDER = ["Z", "a", "ab", "b", "é", "\uffff", "\U0001d11e"]
"""As UTF-8 orders them: not as a dictionary does, nor UTF-16."""


def keys(page: dict[str, Any]) -> list[str]:
    return [entry["key"] for entry in page["changes"]]


def scan(device: Device, limit: int = 0, wanted: object = None, **said: Any) -> dict[str, Any]:
    """Ask for a page of the scan of Airport."""
    feed = {"cursor": 0, "scan": said} | ({} if wanted is None else {"filter": wanted})
    return device.pull({"Airport": feed}, limit)


def refused(device: Device, **said: Any) -> tuple[int, str]:
    status, answer = device.send("pull", device.pull_document({"Airport": {"cursor": 0, "scan": said}}))
    return status, answer["error"]["code"]


@pytest.fixture
def three(device: Device) -> Device:
    """Who has written c, a and b, in this order."""
    device.push(upsert("c", {"n": 3}), upsert("a", {"n": 1}), upsert("b", {"n": 2}))
    return device


# -- one object ------------------------------------------------------------------------------------------


def test_records_come_in_the_order_of_their_keys_and_the_feed_goes_on_from_where_the_scan_began(
    three: Device, other: Device
) -> None:
    page = scan(other, limit=2)
    assert page["changes"] == [
        {"object": "Airport", "key": "a", "version": 2, "data": {"n": 1}},
        {"object": "Airport", "key": "b", "version": 3, "data": {"n": 2}},
    ]
    assert page["scans"] == {"Airport": {"since": 3, "until": "c", "last": "b", "done": False, "count": 3}}
    assert (page["cursors"], page["more"]) == ({"Airport": 0}, True)
    three.push(upsert("d", {}))
    page = scan(other, limit=2, since=3, after="b", until="c")
    assert (keys(page), page["scans"]) == (
        ["c"],
        {"Airport": {"since": 3, "until": "c", "last": "c", "done": True}},
    )
    assert (page["cursors"], page["head"], page["more"]) == ({"Airport": 3}, 4, True)
    assert keys(other.pull({"Airport": {"cursor": 3}})) == ["d"]


def test_keys_are_in_the_order_of_their_bytes(device: Device, other: Device) -> None:
    device.push(*(upsert(key, {}) for key in reversed(BYTE_ORDER)))
    found, said = list[str](), dict[str, Any]()
    for _ in BYTE_ORDER:
        page = scan(other, 1, **said)
        found += keys(page)
        scanned = page["scans"]["Airport"]
        said = {"since": scanned["since"], "after": scanned["last"], "until": scanned["until"]}
    assert (found, scanned["done"], scanned["until"]) == (BYTE_ORDER, True, "\U0001d11e")


def test_an_object_without_records_is_read_by_one_page(device: Device, other: Device) -> None:
    nothing = {"until": "", "last": "", "done": True, "count": 0}
    page = scan(other)
    assert (page["changes"], page["scans"]) == ([], {"Airport": {"since": 0} | nothing})
    assert (page["cursors"], page["more"]) == ({"Airport": 0}, False)
    device.push(upsert("a", {}, name="Country"))
    page = scan(other)
    assert page["scans"] == {"Airport": {"since": 1} | nothing}
    assert (page["cursors"], page["more"]) == ({"Airport": 1}, False)


def test_a_page_is_not_done_before_it_has_looked_at_all(three: Device, other: Device) -> None:
    assert scan(other, limit=3)["scans"]["Airport"]["done"] is True
    assert scan(other, limit=2)["scans"]["Airport"]["done"] is False


def test_what_is_newer_than_the_scan_is_told_by_its_key_whoever_wrote_it(
    three: Device, other: Device
) -> None:
    other.push(upsert("a", {"n": 7}, base=3))
    three.push(upsert("b", {"n": 8}, base=3), upsert("bb", {"n": 9}))
    page = scan(other, since=3, until="c")
    assert keys(page) == ["c"]
    assert page["scans"]["Airport"]["stubs"] == ["a", "b", "bb"]
    assert (page["cursors"], page["more"]) == ({"Airport": 3}, True)


def test_what_its_asker_has_written_is_told_by_its_key_where_it_asks_for_that(
    three: Device, other: Device
) -> None:
    other.push(upsert("a", {"n": 7}, base=3), upsert("bb", {"n": 9}))
    page = scan(other, spares=True)
    assert (keys(page), page["scans"]["Airport"]["stubs"]) == (["b", "c"], ["a", "bb"])
    page = scan(other, spares=True, since=5, after="b", until="c")
    assert (keys(page), page["scans"]["Airport"]["stubs"]) == (["c"], ["bb"])
    assert keys(scan(three, spares=True)) == ["a", "bb"]
    assert keys(scan(other)) == ["a", "b", "bb", "c"]


def test_stubs_are_among_the_records_that_a_page_may_have(three: Device, other: Device) -> None:
    three.push(upsert("a", {}, base=3), upsert("b", {}, base=3))
    page = scan(other, limit=2, since=3, until="c")
    assert (keys(page), page["scans"]["Airport"]["stubs"]) == ([], ["a", "b"])
    assert (page["scans"]["Airport"]["last"], page["scans"]["Airport"]["done"]) == ("b", False)


def test_a_deleted_record_is_told_by_the_feed_alone(three: Device, other: Device) -> None:
    three.push(delete("b", base=3))
    page = scan(other, since=3, until="c")
    assert (keys(page), page["scans"]["Airport"].get("stubs", [])) == (["a", "c"], [])
    assert other.pull({"Airport": page["cursors"]["Airport"] and {"cursor": 3}})["changes"] == [
        {"object": "Airport", "key": "b", "version": 4, "deleted": True}
    ]


def test_no_page_looks_beyond_the_end(three: Device, other: Device) -> None:
    three.push(*(upsert(f"d{n}", {}) for n in range(5)))
    page = scan(other, limit=2, since=3, after="b", until="c")
    assert (keys(page), page["scans"]["Airport"].get("stubs")) == (["c"], None)
    assert page["scans"]["Airport"]["done"] is True


def test_a_scan_ends_at_the_last_living_record(three: Device, other: Device) -> None:
    three.push(*(upsert(f"d{n}", {}) for n in range(5)))
    three.push(*(delete(f"d{n}", base=8) for n in range(5)))
    scanned = scan(other)["scans"]["Airport"]
    assert (scanned["until"], scanned["done"], scanned["count"]) == ("c", True, 3)


def test_what_a_filter_hides_is_told_only_if_it_is_newer(three: Device, other: Device) -> None:
    three.push(upsert("b", {"n": 8}, base=3))
    page = scan(other, wanted={"n": [1]}, since=3, until="c")
    assert (keys(page), page["scans"]["Airport"]["stubs"]) == (["a"], ["b"])
    assert page["scans"]["Airport"]["done"] is True
    page = scan(other, limit=1, wanted={"n": [3]}, since=3, until="c")
    assert (keys(page), page["scans"]["Airport"]["last"], page["more"]) == ([], "a", True)


def test_large_records_make_short_pages_and_none_is_lost(device: Device, other: Device) -> None:
    for n in range(0, 24, 4):
        device.push(*(upsert(f"{n + i:02}", {"text": "x" * (1 << 19)}) for i in range(4)))
    said, found, pages, done = dict[str, Any](), list[str](), 0, False
    while not done:
        page = scan(other, 1000, **said)
        assert len(page["changes"]) * (1 << 19) <= (8 << 20) + (1 << 20)
        scanned = page["scans"]["Airport"]
        said = {"since": scanned["since"], "after": scanned["last"], "until": scanned["until"]}
        found, pages, done = found + keys(page), pages + 1, scanned["done"]
    assert (found, pages) == ([f"{n:02}" for n in range(24)], 2)


def test_what_is_only_told_by_its_key_takes_nothing_of_the_bytes(device: Device, other: Device) -> None:
    for n in range(0, 24, 4):
        device.push(*(upsert(f"{n + i:02}", {"text": "x" * (1 << 19)}) for i in range(4)))
    page = scan(other, 1000, since=1, until="99")
    assert (keys(page), len(page["scans"]["Airport"]["stubs"])) == (["00"], 23)
    assert page["scans"]["Airport"]["done"] is True


def test_how_many_records_there_are_follows_writes_and_deletes(three: Device, other: Device) -> None:
    def count() -> int:
        found: int = scan(other, 1)["scans"]["Airport"]["count"]
        return found

    assert count() == 3
    three.push(upsert("a", {"n": 4}, base=3), delete("b", base=3), delete("x", base=3))
    assert count() == 2
    three.push(upsert("b", {}, base=9), upsert("y", {}), delete("a", base=9))
    assert count() == 3


# -- several objects -------------------------------------------------------------------------------------


def test_many_small_objects_come_in_one_page(device: Device, other: Device) -> None:
    names = [f"Object{n}" for n in range(30)]
    device.push(*(upsert(key, {}, name=name) for key in "ba" for name in names))
    page = other.pull({name: {"cursor": 0, "scan": {}} for name in names}, 100)
    assert [(entry["object"], entry["key"]) for entry in page["changes"]] == [
        (name, key) for name in names for key in "ab"
    ]
    assert all(scanned["done"] and scanned["count"] == 2 for scanned in page["scans"].values())
    assert (page["cursors"], page["more"]) == (dict.fromkeys(names, 60), False)


@pytest.mark.parametrize(
    ("limit", "served"), [(2, ["Airport"]), (3, ["Airport"]), (4, ["Airport", "Country"])]
)
def test_an_object_that_a_page_does_not_reach_is_not_in_it(
    three: Device, other: Device, limit: int, served: list[str]
) -> None:
    three.push(upsert("x", {}, name="Country"), upsert("y", {}, name="Country"))
    page = other.pull({name: {"cursor": 0, "scan": {}} for name in ("Airport", "Country")}, limit)
    assert (list(page["scans"]), len(page["changes"]), page["more"]) == (served, limit, True)
    done = {"Airport": 5 if limit > 2 else 0, "Country": 0}
    assert page["cursors"] == done


def test_the_bytes_of_a_page_are_those_of_all_its_objects(device: Device, other: Device) -> None:
    names = ["A", "B", "C"]
    for name in names:
        device.push(*(upsert(f"{n}", {"text": "x" * (1 << 19)}, name=name) for n in range(10)))
    page = other.pull({name: {"cursor": 0, "scan": {}} for name in names}, 1000)
    assert (len(page["changes"]), list(page["scans"])) == (16, ["A", "B"])
    assert page["cursors"] == {"A": 30, "B": 0, "C": 0}


def test_feeds_wait_and_no_other_cursor_moves_until_the_scans_are_done(three: Device, other: Device) -> None:
    three.push(upsert("x", {}, name="Country"), upsert("y", {}, name="Country"))
    objects = {"Country": {"cursor": 4}, "Airport": {"cursor": 0, "scan": {}}, "Other": {"cursor": 2}}
    page = other.pull(objects, 100)
    assert {entry["object"] for entry in page["changes"]} == {"Airport"}
    assert page["cursors"] == {"Country": 4, "Airport": 5, "Other": 2}
    assert (list(page["scans"]), page["more"]) == (["Airport"], True)


def test_one_range_of_a_feed_is_read_again_and_its_cursor_stays(three: Device, other: Device) -> None:
    """The device stands at the head, where a feed has nothing more to say."""
    part = {"since": 3, "after": "a", "until": "b"}
    page = other.pull({"Airport": {"cursor": 3, "scan": part}})
    assert keys(page) == ["b"]
    assert page["scans"] == {"Airport": {"since": 3, "until": "b", "last": "b", "done": True}}
    assert (page["cursors"], page["more"]) == ({"Airport": 3}, False)


# -- what is refused -------------------------------------------------------------------------------------


def purged(service: Service, device: Device, through: int = 4) -> None:
    """Forget the delete of b, which is the version 4."""
    device.push(delete("b", base=3))
    assert service.hub.purge(device.space, through) == 1


@pytest.mark.parametrize("after", ["", "a", "b", "c"])
def test_a_scan_that_began_below_the_horizon_is_refused_on_every_page(
    service: Service, three: Device, other: Device, after: str
) -> None:
    purged(service, three)
    assert refused(other, since=3, after=after, until="c") == (410, "horizon_passed")
    assert scan(other, since=4, after=after, until="c")["cursors"] == {"Airport": 4}


def test_the_feed_from_below_the_horizon_is_refused_after_a_scan_too(
    service: Service, three: Device, other: Device
) -> None:
    since = scan(other)["cursors"]["Airport"]
    purged(service, three)
    status, answer = other.send("pull", other.pull_document({"Airport": {"cursor": since}}))
    assert (status, answer["error"]["code"]) == (410, "horizon_passed")


def test_one_range_below_the_horizon_is_refused_though_nothing_is_new(
    service: Service, three: Device, other: Device
) -> None:
    purged(service, three)
    part = {"since": 3, "after": "a", "until": "b"}
    document = other.pull_document({"Airport": {"cursor": 4, "scan": part}})
    assert other.send("pull", document)[1]["error"]["code"] == "horizon_passed"


def test_a_scan_that_begins_is_not_refused_whatever_its_device_has_uploaded(
    service: Service, three: Device
) -> None:
    purged(service, three)
    page = three.pull({"Airport": {"cursor": 0, "scan": {}}, "Country": {"cursor": 0, "scan": {}}})
    assert (keys(page), page["cursors"]) == (["a", "c"], {"Airport": 4, "Country": 4})


def test_a_scan_since_a_version_that_there_is_not_shows_a_restored_hub(three: Device, other: Device) -> None:
    assert refused(other, since=4, after="a", until="c") == (409, "epoch_changed")


def test_an_object_that_a_token_may_not_read_is_not_scanned(hub: Hub, device: Device) -> None:
    rights = Rights({"Airport": frozenset({Right.READ})})
    document = device.pull_document({name: {"cursor": 0, "scan": {}} for name in ("Airport", "Country")})
    with pytest.raises(Exception, match="'Country'") as raised:
        hub.pull("one", json.dumps(document).encode(), rights)
    assert raised.value.problem.code == "forbidden"  # type: ignore[attr-defined]


# -- both versions, both ways ----------------------------------------------------------------------------


def test_who_asks_for_no_scan_is_answered_as_before(three: Device, other: Device) -> None:
    page = other.pull({"Airport": {"cursor": 0}}, limit=2)
    assert page.keys() == {"hub", "epoch", "head", "changes", "cursors", "more"}
    assert (keys(page), page["cursors"], page["more"]) == (["c", "a"], {"Airport": 2}, True)


def test_the_hub_in_process_scans_as_over_http(hub: Hub) -> None:
    device = Device(Service("", hub, hub.url), "scanned")
    document = device.push_document(upsert("b", {"n": 2}), upsert("a", {"n": 1}))
    hub.push("scanned", json.dumps(document).encode())
    with serving(hub) as address:
        remotes: list[Remote] = [LocalRemote(hub, "scanned"), HttpRemote(address, "scanned")]
        for remote in remotes:
            page = remote.pull(Pull("you", 0, None, None, {"Airport": Feed(0, scan=Scan())}, 1))
            assert page.scans == {"Airport": Scanned(2, "b", "a", False, [], 2)}
            assert [entry.key for entry in page.changes] == ["a"]
            page = remote.pull(Pull("you", 0, None, None, {"Airport": Feed(0, scan=Scan(2, "a", "b"))}, 1))
            assert page.scans == {"Airport": Scanned(2, "b", "b", True)}
            assert [entry.key for entry in page.changes] == ["b"]
            remote.close()
