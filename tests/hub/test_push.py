from __future__ import annotations

from typing import Any

import pytest

from .devices import Device, Service, accepted, delete, upsert


def codes(results: list[dict[str, Any]]) -> list[str]:
    return [str(result.get("code", result["status"])) for result in results]


def test_versions_count_the_accepted_changes_of_a_space(device: Device, other: Device) -> None:
    assert device.push(upsert("a", {}), upsert("b", {})) == [accepted(1), accepted(2)]
    assert other.push(upsert("c", {}), upsert("c", {}, name="Country")) == [accepted(3), accepted(4)]


def test_spaces_count_apart(service: Service, device: Device, space: str) -> None:
    device.push(upsert("a", {}))
    assert service.device(f"{space[:-1]}x").push(upsert("a", {})) == [accepted(1)]


def test_a_record_that_somebody_else_wrote_since_is_a_conflict(device: Device, other: Device) -> None:
    device.push(upsert("a", {"name": "first", "é": [1.10, None]}))
    assert other.push(upsert("a", {"name": "second"})) == [
        {"status": "conflict", "version": 1, "deleted": False, "data": {"name": "first", "é": [1.1, None]}}
    ]
    assert other.push(upsert("a", {"name": "second"}, base=1)) == [accepted(2)]


def test_a_writer_is_never_in_conflict_with_itself(device: Device) -> None:
    device.push(upsert("a", {"n": 1}))
    assert device.push(upsert("a", {"n": 2})) == [accepted(2)]


def test_a_deleted_record_is_a_conflict_for_who_did_not_see_the_delete(device: Device, other: Device) -> None:
    device.push(upsert("a", {}))
    device.push(delete("a", base=1))
    assert other.push(upsert("a", {}, base=1)) == [{"status": "conflict", "version": 2, "deleted": True}]


def test_an_upsert_over_a_delete_that_was_seen_writes_the_record_anew(device: Device, other: Device) -> None:
    device.push(upsert("a", {"old": 1}))
    device.push(delete("a", base=1))
    assert other.push(upsert("a", {"new": 1}, base=2)) == [accepted(3)]
    assert device.read_all("Airport", own=True)[0] == {"Airport/a": {"new": 1}}


def test_a_delete_of_what_is_not_there_is_accepted_and_writes_nothing(device: Device, other: Device) -> None:
    assert device.push(delete("never")) == [accepted(0)]
    device.push(upsert("a", {}))
    device.push(delete("a"))
    assert other.push(delete("a"), delete("never")) == [accepted(2), accepted(2)]
    assert other.pull({"Airport": {"cursor": 1}})["changes"] == [
        {"object": "Airport", "key": "a", "version": 2, "deleted": True}
    ]


def test_an_upsert_keeps_the_fields_that_it_does_not_mention(device: Device, other: Device) -> None:
    device.push(upsert("a", {"name": "x", "runways": 3}))
    other.push(upsert("a", {"name": "y"}, base=1))
    assert other.read_all("Airport", own=True)[0] == {"Airport/a": {"name": "y", "runways": 3}}


def test_a_record_travels_as_the_text_that_came_in(service: Service, device: Device, other: Device) -> None:
    text = '{ "price": 1.10, "big": 123456789012345678901234567890, "e": 1e99, "s": "\\u00e9é" }'
    body = (
        f'{{"client":"{device.client}","number":1,"batch":"b","hub":null,"epoch":null,"changes":'
        f'[{{"object":"Airport","key":"a","op":"upsert","base":0,"data":{text}}}]}}'
    )
    assert device.send("push", body.encode())[0] == 200
    pull = b'{"client":"c","number":0,"hub":null,"epoch":null,"objects":{"Airport":{"cursor":0}},"limit":0}'
    answer = service.ask("POST", f"/v1/spaces/{device.space}/pull", pull)
    assert text.encode() in answer.data


def test_a_record_that_cannot_be_taken_leaves_the_rest_of_its_batch_alone(device: Device) -> None:
    results = device.push(
        upsert("a", {}),
        upsert("", {}),
        upsert("nul\0", {}),
        upsert("k" * 256, {}),
        upsert("k" * 255, {}),
        upsert("list", [1]),
        {"object": "Airport", "key": "none", "op": "upsert", "base": 0},
        upsert("null", None),
        upsert("big", {"x": "y" * (1 << 20)}),
        upsert("x", {}, name=""),
        upsert("b", {}),
    )
    assert codes(results) == [
        "accepted", "bad_key", "bad_key", "key_too_long", "accepted",
        "bad_record", "bad_record", "bad_record",
        "record_too_large", "unknown_object", "accepted",
    ]  # fmt: skip
    assert set(device.read_all("Airport", own=True)[0]) == {"Airport/a", "Airport/b", "Airport/" + "k" * 255}


def test_a_repeat_gets_the_same_bytes_and_is_not_applied_again(device: Device, other: Device) -> None:
    document = device.push_document(upsert("a", {"n": 1}), upsert("list", []))
    first = device.send("push", document)
    other.push(upsert("b", {}))
    assert device.send("push", document) == first
    assert other.read_all("Airport", own=True)[1] == {"Airport": 2}


@pytest.mark.parametrize("keys", [[], ["a"], ["a", "b", "c"]])
def test_a_repeat_with_another_number_of_changes_is_refused_in_words(
    device: Device, other: Device, keys: list[str]
) -> None:
    document = device.push_document(upsert("a", {"n": 1}), upsert("b", {}))
    first = device.send("push", document)
    status, answer = device.send("push", document | {"changes": [upsert(key, {"n": 9}) for key in keys]})
    assert (status, answer["error"]["code"]) == (400, "malformed")
    assert "batch had 2 changes" in answer["error"]["message"]
    assert device.send("push", document) == first
    assert other.read_all("Airport")[0] == {"Airport/a": {"n": 1}, "Airport/b": {}}


def test_an_empty_batch_has_a_receipt_too(device: Device) -> None:
    assert device.push() == []
    assert device.send("push", device.push_document(number=1))[1]["error"]["code"] == "client_forked"


@pytest.mark.parametrize(("number", "batch"), [(2, "another"), (1, "first"), (0, "x"), (-5, "x")])
def test_a_client_behind_its_receipt_is_a_fork(device: Device, number: int, batch: str) -> None:
    device.send("push", device.push_document(number=1, batch="first"))
    device.send("push", device.push_document(number=2, batch="second"))
    status, answer = device.send("push", device.push_document(upsert("a", {}), number=number, batch=batch))
    assert (status, answer["error"]["code"], answer["error"]["number"]) == (409, "client_forked", 2)
    status, answer = device.send("pull", device.pull_document({"Airport": {"cursor": 0}}, number=1))
    assert (status, answer["error"]["code"]) == (409, "client_forked")


def test_a_client_ahead_of_its_receipt_shows_a_restored_hub(device: Device) -> None:
    device.push(upsert("a", {}))
    before = device.epoch
    status, answer = device.send("push", device.push_document(upsert("b", {}), number=3))
    error = answer["error"]
    assert (status, error["code"], error["number"], error["hub"]) == (409, "epoch_changed", 1, device.hub)
    assert error["epoch"] != before
    assert device.send("push", device.push_document(upsert("b", {})))[1]["error"]["epoch"] == error["epoch"]
    device.epoch = error["epoch"]
    (verdict,) = device.push(upsert("b", {}))
    assert verdict["status"] == "accepted"
    assert verdict["version"] > 2, (
        "what was lost with the backup had version 2, perhaps, and is another record"
    )


def test_another_hubs_records_are_refused(device: Device) -> None:
    device.push(upsert("a", {}))
    status, answer = device.send("push", device.push_document(upsert("b", {}), hub="another", epoch="any"))
    assert (status, answer["error"]["code"], answer["error"]["hub"]) == (409, "wrong_hub", device.hub)
    status, answer = device.send("pull", device.pull_document({"Airport": {"cursor": 0}}, hub="another"))
    assert (status, answer["error"]["code"]) == (409, "wrong_hub")
    assert device.read_all("Airport", own=True)[1] == {"Airport": 1}


def test_who_never_saw_a_record_is_not_in_conflict_with_its_delete(device: Device, other: Device) -> None:
    device.push(upsert("a", {"old": 1}))
    device.push(delete("a"))
    assert other.push(upsert("a", {"new": 1})) == [accepted(3)]


def test_who_has_heard_of_all_deletes_brings_back_what_a_backup_had_not(
    service: Service, device: Device, other: Device, space: str
) -> None:
    """After a new epoch bases say nothing of edits: ``since`` says which deletes the device has heard of."""
    device.push(upsert("gone", {}), upsert("a", {}))
    device.push(delete("gone", base=2))
    assert service.hub.purge(space, 3) == 1
    missed = {"status": "conflict", "version": 3, "deleted": True}
    assert other.push(
        upsert("k", {}, base=1),
        upsert("l", {}, base=1) | {"since": 2},
        upsert("m", {}, base=1) | {"since": 3},
        upsert("n", {}, base=3) | {"since": 1},
        upsert("o", {}, base=0),
        upsert("a", {}, base=1) | {"since": 3},
    ) == [
        missed,
        missed,
        accepted(4),
        accepted(5),
        accepted(6),
        {"status": "conflict", "version": 2, "deleted": False, "data": {}},
    ]


def test_a_new_record_that_the_hub_may_have_had_meets_its_delete(
    service: Service, device: Device, other: Device, space: str
) -> None:
    """The device had no answer to it: others may have read it, and deleted it, since."""
    device.push(upsert("a", {}), upsert("b", {}), upsert("c", {}))
    device.push(delete("a", base=3), delete("b", base=3))
    assert service.hub.purge(space, 4) == 1
    assert other.push(
        upsert("a", {}) | {"since": 3},
        upsert("b", {}) | {"since": 3},
        upsert("c", {}) | {"since": 3},
        upsert("d", {}) | {"since": 4},
        delete("e") | {"since": 4},
    ) == [
        {"status": "conflict", "version": 4, "deleted": True},
        {"status": "conflict", "version": 5, "deleted": True},
        {"status": "conflict", "version": 3, "deleted": False, "data": {}},
        accepted(6),
        accepted(7),
    ]
