from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig.search import examples

from statesync.hub import Hub, HubLimits, Refused, Right, Rights

from .devices import Device, Service, apply, delete, upsert


def keys(page: dict[str, Any]) -> list[str]:
    return [entry["key"] for entry in page["changes"]]


def test_nothing_new_is_an_empty_page_at_the_head(device: Device, other: Device) -> None:
    device.push(upsert("a", {}))
    page = other.pull({"Airport": {"cursor": 1}, "Country": {"cursor": 0}})
    assert (page["changes"], page["cursors"], page["more"], page["head"]) == (
        [], {"Airport": 1, "Country": 1}, False, 1,
    )  # fmt: skip


def test_a_space_that_nobody_has_written_can_be_read(device: Device) -> None:
    page = device.pull({"Airport": {"cursor": 0}})
    assert (page["changes"], page["cursors"], page["more"]) == ([], {"Airport": 0}, False)


def test_feeds_are_merged_by_version_each_from_its_own_cursor(device: Device, other: Device) -> None:
    device.push(*(upsert(f"{n}", {}, name="Airport" if n % 2 else "Country") for n in range(1, 9)))
    page = other.pull({"Airport": {"cursor": 4}, "Country": {"cursor": 0}, "Other": {"cursor": 0}}, limit=4)
    assert (keys(page), page["more"]) == (["2", "4", "5", "6"], True)
    assert page["cursors"] == {"Airport": 6, "Country": 6, "Other": 6}
    page = other.pull({name: {"cursor": at} for name, at in page["cursors"].items()}, limit=2)
    assert (keys(page), page["more"], page["cursors"]) == (
        ["7", "8"],
        False,
        dict.fromkeys(page["cursors"], 8),
    )


def test_a_hub_that_does_not_know_a_field_of_a_feed_answers_as_if_it_were_not_there(
    device: Device, other: Device
) -> None:
    """So a newer device is told by the answer that this hub does not know what it has asked for."""
    device.push(*(upsert(f"{n}", {}) for n in range(3)))
    later = {"since": 2, "after": "0", "until": "2"}
    asked = other.pull({"Airport": {"cursor": 0, "later": later}})
    plain = other.pull({"Airport": {"cursor": 0}})
    assert asked == plain
    assert keys(plain) == ["0", "1", "2"]


def test_a_cursor_never_goes_back(device: Device, other: Device) -> None:
    device.push(*(upsert(f"{n}", {}) for n in range(5)))
    page = other.pull({"Airport": {"cursor": 0}, "Country": {"cursor": 4}}, limit=2)
    assert page["cursors"] == {"Airport": 2, "Country": 4}


def test_more_is_true_only_if_a_record_follows(device: Device, other: Device) -> None:
    device.push(*(upsert(f"{n}", {}) for n in range(4)))
    assert other.pull({"Airport": {"cursor": 0}}, limit=3)["more"] is True
    assert other.pull({"Airport": {"cursor": 0}}, limit=4)["more"] is False
    other.push(upsert("own", {}))
    page = other.pull({"Airport": {"cursor": 0}}, limit=4)
    assert (page["more"], page["cursors"]) == (False, {"Airport": 5})


def test_own_writes_come_only_if_asked_for(device: Device, other: Device) -> None:
    device.push(upsert("mine", {}))
    other.push(upsert("yours", {}))
    assert keys(device.pull({"Airport": {"cursor": 0}})) == ["yours"]
    assert keys(device.pull({"Airport": {"cursor": 0, "own": True}})) == ["mine", "yours"]


def test_a_record_written_twice_comes_once_as_it_is_now(device: Device, other: Device) -> None:
    device.push(upsert("a", {"n": 1}), upsert("b", {}))
    device.push(upsert("a", {"n": 2}))
    page = other.pull({"Airport": {"cursor": 0}})
    assert [(entry["key"], entry["version"], entry["data"]) for entry in page["changes"]] == [
        ("b", 2, {}), ("a", 3, {"n": 2}),
    ]  # fmt: skip


def test_a_first_read_has_no_deletes_and_a_later_one_has_them(device: Device, other: Device) -> None:
    device.push(upsert("a", {}), upsert("b", {}))
    device.push(delete("a"))
    assert keys(other.pull({"Airport": {"cursor": 0}})) == ["b"]
    assert other.pull({"Airport": {"cursor": 2}})["changes"] == [
        {"object": "Airport", "key": "a", "version": 3, "deleted": True}
    ]


def test_a_delete_during_a_first_read_is_seen(device: Device, other: Device) -> None:
    device.push(*(upsert(f"{n}", {}) for n in range(6)))
    held: dict[str, Any] = {}
    page = other.pull({"Airport": {"cursor": 0}}, limit=2)
    apply(held, page)
    device.push(delete("0"), delete("5"))
    while page["more"]:
        page = other.pull({"Airport": {"cursor": page["cursors"]["Airport"]}}, limit=2)
        apply(held, page)
    assert set(held) == {f"Airport/{n}" for n in (1, 2, 3, 4)}


def test_a_filter_makes_what_does_not_match_a_delete_and_a_first_read_leaves_it_out(
    device: Device, other: Device
) -> None:
    device.push(*(upsert(f"{n}", {"kind": "even" if n % 2 == 0 else "odd"}) for n in range(6)))
    feed = {"cursor": 0, "filter": {"kind": ["even"]}}
    page = other.pull({"Airport": feed}, limit=3)
    assert (keys(page), page["cursors"], page["more"]) == (["0", "2"], {"Airport": 3}, True)
    page = other.pull({"Airport": {**feed, "cursor": 3}}, limit=3)
    assert [(entry["key"], entry.get("deleted", False)) for entry in page["changes"]] == [
        ("3", True), ("4", False), ("5", True),
    ]  # fmt: skip
    assert (page["cursors"], page["more"]) == ({"Airport": 6}, False)


def test_a_page_that_a_filter_empties_still_moves_the_cursor(device: Device, other: Device) -> None:
    device.push(*(upsert(f"{n}", {"n": n}) for n in range(4)))
    page = other.pull({"Airport": {"cursor": 0, "filter": {"n": [3]}}}, limit=2)
    assert (page["changes"], page["cursors"], page["more"]) == ([], {"Airport": 2}, True)


def test_a_filter_compares_as_json_does(device: Device, other: Device) -> None:
    values: dict[str, Any] = {"true": True, "one": 1, "float": 1.0, "text": "1", "null": None, "list": [1]}
    device.push(*(upsert(key, {"v": value}) for key, value in values.items()), upsert("absent", {}))

    def matching(*allowed: object) -> set[str]:
        return set(keys(other.pull({"Airport": {"cursor": 0, "filter": {"v": list(allowed)}}})))

    assert matching(True) == {"true"}
    assert matching(1) == {"one", "float"}
    assert matching("1", None) == {"text", "null", "absent"}
    assert matching() == set()


def test_a_filter_asks_for_keys_by_the_empty_name_whatever_is_in_the_records(
    device: Device, other: Device
) -> None:
    device.push(*(upsert(key, {"": "z", "id": "z", "n": n}) for n, key in enumerate("abc")))
    wanted: dict[str, Any] = {"": ["a", "c", "z"]}
    assert keys(other.pull({"Airport": {"cursor": 0, "filter": wanted}})) == ["a", "c"]
    assert keys(other.pull({"Airport": {"cursor": 0, "filter": {**wanted, "n": [2]}}})) == ["c"]
    assert keys(other.pull({"Airport": {"cursor": 0, "filter": {"": ["z"]}}})) == []


def test_a_cursor_past_the_head_shows_a_restored_hub(device: Device) -> None:
    device.push(upsert("a", {}))
    status, answer = device.send("pull", device.pull_document({"Airport": {"cursor": 2}}))
    error = answer["error"]
    assert (status, error["code"], error["hub"], error["number"]) == (409, "epoch_changed", device.hub, 1)
    assert error["epoch"] != device.epoch
    again = device.send("pull", device.pull_document({"Airport": {"cursor": 2}}))
    assert again[1]["error"]["epoch"] == error["epoch"], "one restored backup, one new epoch"


def test_a_pull_ahead_of_its_receipt_shows_a_restored_hub(device: Device) -> None:
    status, answer = device.send("pull", device.pull_document({"Airport": {"cursor": 0}}, number=1))
    assert (status, answer["error"]["code"], answer["error"]["number"]) == (409, "epoch_changed", 0)


def test_limit_zero_is_the_hubs_choice_and_no_limit_is_above_its_own(service: Service, space: str) -> None:
    limits = HubLimits(default_page=2, page=3)
    hub = Hub(service.database, without_tokens=True, limits=limits)
    device = service.device(space)
    device.push(*(upsert(f"{n}", {}) for n in range(5)))

    def count(limit: int) -> int:
        document = service.device(space).pull_document({"Airport": {"cursor": 0}}, limit)
        return len(json.loads(hub.pull(space, json.dumps(document).encode()))["changes"])

    assert [count(limit) for limit in (0, 1, 3, 4, 1000)] == [2, 1, 3, 3, 3]
    hub.close()


def test_large_records_make_short_pages_and_none_is_lost(device: Device, other: Device) -> None:
    text = "x" * (1 << 19)
    for n in range(0, 24, 4):
        device.push(*(upsert(f"{n + i}", {"text": text}) for i in range(4)))
    page = other.pull({"Airport": {"cursor": 0}}, limit=1000)
    assert page["more"] is True
    assert len(page["changes"]) * (1 << 19) <= (8 << 20) + (1 << 20)
    assert len(other.read_all("Airport", limit=1000)[0]) == 24


def code(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


def refused(device: Device, feed: dict[str, Any], **said: Any) -> tuple[int, str]:
    return code(device.send("pull", device.pull_document({"Airport": feed}, **said)))


def test_a_cursor_below_the_horizon_has_to_read_everything_again(
    service: Service, device: Device, other: Device
) -> None:
    device.push(*(upsert(f"{n}", {}) for n in range(4)))
    device.push(delete("0"), delete("1"))
    assert service.hub.purge(device.space, through=5) == 1
    assert code(other.send("pull", other.pull_document({"Airport": {"cursor": 4}}))) == (
        410,
        "horizon_passed",
    )
    assert [entry["key"] for entry in other.pull({"Airport": {"cursor": 5}})["changes"]] == ["1"]
    assert set(other.read_all("Airport")[0]) == {"Airport/2", "Airport/3"}


def test_a_first_read_that_begins_below_the_horizon_gets_to_its_end(
    service: Service, device: Device, other: Device
) -> None:
    device.push(*(upsert(f"{n}", {}) for n in range(9)))
    device.push(delete("0"))
    service.hub.purge(device.space, through=10)
    held, cursors = other.read_all("Airport", "Country", limit=2)
    assert (set(held), cursors) == ({f"Airport/{n}" for n in range(1, 9)}, {"Airport": 10, "Country": 10})


def test_a_purge_during_a_first_read_starts_it_again(service: Service, device: Device, other: Device) -> None:
    device.push(*(upsert(f"{n}", {}) for n in range(6)))
    page = other.pull({"Airport": {"cursor": 0}}, limit=2)
    device.push(delete("0"))
    service.hub.purge(device.space, through=7)
    feed = {"cursor": page["cursors"]["Airport"], "begun": page["head"]}
    assert refused(other, feed) == (410, "horizon_passed")


def test_a_first_read_goes_on_whatever_is_purged_that_was_deleted_before_it_began(
    service: Service, device: Device, other: Device
) -> None:
    device.push(*(upsert(f"{n}", {}) for n in range(6)))
    device.push(delete("0"), delete("1"))
    held: dict[str, Any] = {}
    page = other.pull({"Airport": {"cursor": 0}}, limit=2)
    apply(held, page)
    begun = page["head"]
    for through in (7, 8):
        assert service.hub.purge(device.space, through) == 1
        page = other.pull({"Airport": {"cursor": page["cursors"]["Airport"], "begun": begun}}, limit=2)
        apply(held, page)
    assert (set(held), page["more"]) == ({f"Airport/{n}" for n in range(2, 6)}, False)


@pytest.fixture
def victim(service: Service, device: Device, other: Device) -> Device:
    """A device with nine records, which has missed the delete of one of them for good."""
    device.push(*(upsert(f"{n}", {}) for n in range(9)))
    assert len(other.read_all("Airport")[0]) == 9
    device.push(delete("3"))
    device.push(upsert("new", {}))
    assert service.hub.purge(device.space, through=10) == 1
    assert refused(other, {"cursor": 9}) == (410, "horizon_passed")
    return other


def test_a_read_that_has_ended_is_no_excuse_for_a_device_that_is_put_back(victim: Device) -> None:
    held, cursors = victim.read_all("Airport", limit=2, own=True)
    assert ("Airport/3" not in held, cursors) == (True, {"Airport": 11})
    assert refused(victim, {"cursor": 9}) == (410, "horizon_passed")


def test_nobody_takes_its_410_from_another_device(service: Service, victim: Device) -> None:
    liar = service.device(victim.space)
    liar.client = victim.client
    liar.pull({"Airport": {"cursor": 0}}, limit=1)
    liar.pull({"Airport": {"cursor": 1, "begun": 11}}, limit=1)
    assert refused(victim, {"cursor": 9}) == (410, "horizon_passed")


def test_a_device_of_an_older_version_gets_to_the_end_of_its_read(victim: Device) -> None:
    """It does not say where its read began: it is told once to begin anew, and asks for its own writes."""
    page = victim.pull({"Airport": {"cursor": 0}}, limit=3)
    assert refused(victim, {"cursor": page["cursors"]["Airport"]}) == (410, "horizon_passed")
    held: dict[str, Any] = {}
    cursor, head, more = 0, page["head"], True
    while more:
        document = victim.pull_document({"Airport": {"cursor": cursor, "own": True}}, 3, head=head)
        status, page = victim.send("pull", document)
        assert status == 200, page
        apply(held, page)
        cursor, more = page["cursors"]["Airport"], page["more"]
    assert set(held) == {f"Airport/{n}" for n in (0, 1, 2, 4, 5, 6, 7, 8, "new")}
    assert refused(victim, {"cursor": 9}, head=head) == (410, "horizon_passed")


def test_what_an_older_device_was_told_before_the_delete_does_not_do(victim: Device) -> None:
    assert refused(victim, {"cursor": 4, "own": True}, head=9) == (410, "horizon_passed")


def test_a_pull_waits_for_no_writer(service: Service, victim: Device) -> None:
    names = ["Airport", *(f"Object{n}" for n in range(20))]
    database, told = service.hub.database, list[int]()

    def read(*order: str) -> None:
        reader = service.device(victim.space)
        told.append(reader.send("pull", reader.pull_document({name: {"cursor": 0} for name in order}, 1))[0])

    with database.writing():
        database.run("UPDATE space SET head = head WHERE space = ?", victim.space)  # somebody writes
        reading = [threading.Thread(target=read, args=order) for order in (names, names[::-1])]
        for thread in reading:
            thread.start()
        for thread in reading:
            thread.join(8)
        assert told == [200, 200]


def test_an_upsert_of_a_record_whose_delete_was_purged_is_a_conflict(
    service: Service, device: Device, other: Device
) -> None:
    device.push(upsert("a", {}))
    device.push(delete("a"))
    service.hub.purge(device.space, through=2)
    assert other.push(upsert("a", {}, base=1)) == [{"status": "conflict", "version": 2, "deleted": True}]
    assert other.push(upsert("a", {}, base=2)) == [{"status": "accepted", "version": 3}]


def test_as_many_objects_as_can_be_allowed_come_in_one_page(hub: Hub, device: Device) -> None:
    hub.limits = HubLimits(objects=500)
    names = [f"Object{n}" for n in range(500)]
    document = device.push_document(*(upsert("a", {}, name=name) for name in names))
    hub.push("wide", json.dumps(document).encode())
    pull = device.pull_document({name: {"cursor": 0} for name in names}, 499, client="reader")
    page = json.loads(hub.pull("wide", json.dumps(pull).encode()))
    assert [entry["object"] for entry in page["changes"]] == names[:499]
    assert page["more"] is True


def test_a_record_larger_than_a_page_comes_alone(hub: Hub, device: Device) -> None:
    hub.limits = HubLimits(page_bytes=10)
    document = device.push_document(
        *(upsert(f"{n}", {"text": "x" * size}) for n, size in enumerate([50, 50, 1]))
    )
    hub.push("large", json.dumps(document).encode())
    cursor, pages = 0, []
    while True:
        pull = device.pull_document({"Airport": {"cursor": cursor}}, client="reader")
        page = json.loads(hub.pull("large", json.dumps(pull).encode()))
        pages.append(keys(page))
        cursor = page["cursors"]["Airport"]
        if not page["more"]:
            break
    assert pages == [["0"], ["1"], ["2"]]


@settings(
    max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Few lengths (11, 20 and 51 bytes as JSON), so that records often end exactly where the page does.
@given(
    sizes=st.lists(st.sampled_from([0, 9, 40]), max_size=8),
    limit=st.integers(1, 5),
    most=st.sampled_from([1, 11, 20, 22, 31, 40, 51, 62, 100]),
)
def test_a_page_takes_what_begins_within_its_bytes_and_its_records(
    service: Service, hub: Hub, sizes: list[int], limit: int, most: int
) -> None:
    hub.limits = HubLimits(page_bytes=most)
    texts = {f"{n}": {"text": "x" * size} for n, size in enumerate(sizes)}
    device, space = service.device("cut"), f"cut-{uuid.uuid4().hex}"
    document = device.push_document(*(upsert(key, record) for key, record in texts.items()))
    hub.push(space, json.dumps(document, separators=(",", ":")).encode())
    expected: list[list[str]] = [[]]
    size = 0
    for key, record in texts.items():
        if size >= most or len(expected[-1]) == limit:
            expected.append([])
            size = 0
        expected[-1].append(key)
        size += len(json.dumps(record, separators=(",", ":")))
    pages, cursor, more = [], 0, True
    while more:
        pull = device.pull_document({"Airport": {"cursor": cursor}}, limit, client="reader")
        page = json.loads(hub.pull(space, json.dumps(pull).encode()))
        pages.append(keys(page))
        cursor, more = page["cursors"]["Airport"], page["more"]
    assert pages == expected


# -- how far one page looks -------------------------------------------------------------------------------


def cursors_of_all_pages(device: Device, limit: int, *names: str) -> list[tuple[int, list[str], bool]]:
    """Read feeds from the start to their end: of each page the cursor, the keys, and whether it says more."""
    pages: list[tuple[int, list[str], bool]] = []
    while not pages or pages[-1][2]:
        at = pages[-1][0] if pages else 0
        page = device.pull({name: {"cursor": at} for name in names}, limit)
        assert set(page["cursors"].values()) == {page["cursors"][names[0]]}
        pages.append((page["cursors"][names[0]], keys(page), page["more"]))
    return pages


def push_many(device: Device, count: int, *names: str) -> None:
    device.push(*(upsert(f"{n}", {}, name=names[n % len(names)]) for n in range(count)))


def test_a_page_looks_at_so_many_records_that_are_not_for_the_device_and_no_more(
    device: Device, other: Device
) -> None:
    """Ten for each that it may have, and a thousand at least: so far its cursors go, and there is more."""
    push_many(device, 2500, "Airport", "Country")
    other.push(upsert("yours", {}, name="Country"))
    ended = (2501, ["yours"], False)
    assert cursors_of_all_pages(device, 1, "Airport", "Country") == [
        (1000, [], True), (2000, [], True), ended,
    ]  # fmt: skip
    assert cursors_of_all_pages(device, 200, "Country", "Airport", "None") == [(2000, [], True), ended]
    assert cursors_of_all_pages(device, 1000, "Airport", "Country") == [ended]


def test_a_first_read_looks_at_no_more_deletes_than_at_records(device: Device, other: Device) -> None:
    push_many(device, 1500, "Airport")
    device.push(*(delete(f"{n}") for n in range(1200)))
    page = other.pull({"Airport": {"cursor": 0}, "Country": {"cursor": 2699}}, limit=400)
    assert (keys(page), page["more"]) == ([f"{n}" for n in range(1200, 1500)], False)
    push_many(device, 1, "Country")
    page = other.pull({"Airport": {"cursor": 0}}, limit=1)
    assert (keys(page), page["cursors"], page["more"]) == (["1200"], {"Airport": 1201}, True)
    device.push(*(delete(f"{n}") for n in range(1200, 1500)))
    page = other.pull({"Airport": {"cursor": 0}, "Country": {"cursor": 0}}, limit=1)
    assert (keys(page), page["cursors"], page["more"]) == ([], {"Airport": 2500, "Country": 2500}, True)


def test_records_that_are_far_between_come_in_full_pages(device: Device, other: Device) -> None:
    """What is written again leaves its version behind: among 3,000 versions there are few records."""
    push_many(device, 1500, "Airport")
    push_many(device, 1500, "Airport")
    push_many(device, 30, "Country")
    pages = cursors_of_all_pages(other, 10, "Country")
    assert [(at, len(found), more) for at, found, more in pages] == [
        (3010, 10, True), (3020, 10, True), (3030, 10, False),
    ]  # fmt: skip


def test_what_a_page_looks_at_costs_a_token_a_tenth_of_what_is_sent(hub: Hub, device: Device) -> None:
    hub.limits = HubLimits(rate=0.001, burst=100)
    document = device.push_document(*(upsert(f"{n}", {}) for n in range(3000)), number=1)
    hub.push("wide", json.dumps(document).encode(), Rights({"*": frozenset(Right)}, holder="writer"))
    hub.limits = HubLimits(rate=0.001, burst=3)
    mine = json.dumps(device.pull_document({"Airport": {"cursor": 0}}, 1, number=1)).encode()
    reads = Rights({"*": frozenset({Right.READ})}, holder="reader")
    for _ in range(3):
        assert json.loads(hub.pull("wide", mine, reads))["more"] is True
    with pytest.raises(Refused, match="more than its rate"):
        hub.pull("wide", mine, reads)
