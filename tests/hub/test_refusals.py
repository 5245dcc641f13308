from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from statesync.hub import Hub, HubLimits, Refused
from statesync.wire import Refusal

from .devices import Device, Service, upsert

pytestmark = pytest.mark.any_database


def code(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/v1/spaces/acme", 404),
        ("POST", "/v1/spaces/acme/pull/more", 404),
        ("GET", "/v1/spaces/acme/pull", 405),
        ("PUT", "/v1/spaces/acme/push", 405),
        ("POST", "/healthz", 405),
        ("POST", "/v1/spaces/acme/push", 400),
        ("POST", "/v1/spaces/a%20b/push", 422),
    ],
)
def test_every_refusal_is_a_refusal_document(service: Service, method: str, path: str, status: int) -> None:
    answer = service.ask(method, path, b"{}")
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    problem = msgspec.json.decode(answer.data, type=Refusal).error
    assert problem.code
    assert problem.message


@pytest.mark.parametrize("host", ["evil.example", "[", "a b", ""])
@pytest.mark.parametrize(
    "path", ["/v1/spaces/acme/push/", "/healthz/", "/v1/spaces/acme/pull//", "/v1/spaces/acme/push%2f", "/x"]
)
def test_a_path_that_is_no_route_is_404_and_leads_nowhere(service: Service, path: str, host: str) -> None:
    answer = service.http.request(
        "POST", service.address + path, body=b"{}", headers={"Host": host}, redirect=False
    )
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")
    assert "Location" not in answer.headers
    assert "evil" not in answer.data.decode()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"client":"\xff"}', b"[" * 63, b'{"client":1}', b"{}x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_what_is_not_the_document_is_malformed(device: Device, verb: str, body: bytes) -> None:
    assert code(device.send(verb, body)) == (400, "malformed")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client", ""), ("client", "nul\0"), ("client", "x" * 129), ("batch", ""), ("changes", {}),
        ("changes", [{"object": "A", "key": "k", "op": "replace", "base": 0}]),
        ("changes", [{"object": "A"}]),
        ("number", "1"), ("changes", [{"object": 1, "key": "k", "op": "delete", "base": 0}]),
    ],
)  # fmt: skip
def test_a_push_with_a_wrong_field_is_malformed(device: Device, field: str, value: object) -> None:
    assert code(device.send("push", device.push_document(**{field: value}))) == (400, "malformed")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", -1), ("objects", []), ("objects", {"A": {"cursor": -1}}), ("objects", {"A": {}}),
        ("objects", {"A": {"cursor": 0, "filter": {"f": 1}}}), ("objects", {"A\0": {"cursor": 0}}),
        ("objects", {"A": {"cursor": 0, "filter": {"f": [{}]}}}),
    ],
)  # fmt: skip
def test_a_pull_with_a_wrong_field_is_malformed(device: Device, field: str, value: object) -> None:
    document = device.pull_document({"A": {"cursor": 0}}) | {field: value}
    assert code(device.send("pull", document)) == (400, "malformed")


def test_numbers_beyond_every_database_are_answered(device: Device) -> None:
    device.push(upsert("a", {}, base=10**30))
    assert code(device.send("push", device.push_document(number=10**30))) == (409, "epoch_changed")
    device.epoch = None
    document = device.pull_document({"Airport": {"cursor": 10**30}}, limit=10**30)
    assert code(device.send("pull", document)) == (400, "malformed")
    for verb in ("push", "pull"):
        document = device.push_document() | device.pull_document({}) | {"head": 10**30, "number": 1}
        assert code(device.send(verb, document)) == (400, "malformed")
    assert len(device.pull({"Airport": {"cursor": 0, "own": True}}, limit=10**30)["changes"]) == 1


def test_the_same_record_twice_in_a_batch_applies_nothing(device: Device) -> None:
    document = device.push_document(upsert("a", {}), upsert("b", {}), upsert("a", {}))
    assert code(device.send("push", document)) == (422, "duplicate_key")
    assert device.read_all("Airport", own=True) == ({}, {"Airport": 0})


def test_a_body_over_the_limit_is_refused_by_its_length(service: Service, space: str) -> None:
    answer = service.ask("POST", f"/v1/spaces/{space}/push", b"x" * ((32 << 20) + 1))
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert str(32 << 20) in answer.json()["error"]["message"]


def test_a_body_without_a_length_is_refused_where_it_passes_the_limit(service: Service, space: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 40:
            sent += 1
            yield b"x" * (1 << 20)

    answer = service.ask("POST", f"/v1/spaces/{space}/push", endless())
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")


LIMITS = HubLimits(
    body=4000, record=40, key=5, batch=3, page=4, default_page=2, objects=2, nesting=5, spaces=1
)


@pytest.fixture
def small(hub: Hub) -> Hub:
    hub.limits = LIMITS
    return hub


def refusal_of(hub: Hub, verb: str, document: dict[str, Any], space: str = "one") -> tuple[int, str, str]:
    work = hub.push if verb == "push" else hub.pull
    with pytest.raises(Refused) as caught:
        work(space, json.dumps(document).encode())
    return caught.value.status, caught.value.problem.code, caught.value.problem.message


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def test_each_limit_is_in_the_message_of_its_refusal(small: Hub, device: Device) -> None:
    def push(*changes: dict[str, Any], **override: Any) -> tuple[int, str, str]:
        return refusal_of(small, "push", device.push_document(*changes, **override))

    objects = {name: {"cursor": 0} for name in "ABC"}
    cases = [
        (push(batch="x" * 4000), 413, "body_too_large", "4000"),
        (push(*(upsert(f"{n}", {}) for n in range(4))), 422, "batch_too_large", "3"),
        (push(upsert("a", {"deep": nested(2)})), 422, "too_deep", "5"),
        (refusal_of(small, "pull", device.pull_document(objects)), 422, "too_many_objects", "2"),
    ]
    for (status, name, message), *expected, limit in cases:
        assert [status, name] == expected
        assert limit in message


def test_a_batch_at_each_limit_is_taken(small: Hub, device: Device) -> None:
    changes = [upsert("12345", {"deep": nested(1), "s": "]}[["}), upsert("a", {}), upsert("b", {})]
    answer = json.loads(small.push("one", json.dumps(device.push_document(*changes)).encode()))
    assert [result["status"] for result in answer["results"]] == ["accepted"] * 3


def test_records_over_a_limit_are_rejected_with_the_limit(small: Hub, device: Device) -> None:
    changes = [upsert("123456", {}), upsert("a", {"x": "y" * 40})]
    answer = json.loads(small.push("one", json.dumps(device.push_document(*changes)).encode()))
    assert [result["code"] for result in answer["results"]] == ["key_too_long", "record_too_large"]
    assert "5" in answer["results"][0]["message"]
    assert "40" in answer["results"][1]["message"]


def test_no_more_spaces_are_made_than_the_hub_may_have(small: Hub, device: Device) -> None:
    small.push("one", json.dumps(device.push_document()).encode())
    assert refusal_of(small, "push", device.push_document(), "two")[:2] == (422, "too_many_spaces")
    assert refusal_of(small, "pull", device.pull_document({}), "two")[:2] == (422, "too_many_spaces")
    small.pull("one", json.dumps(device.pull_document({}, number=1)).encode())


def test_a_hub_that_knows_its_objects_rejects_others(service: Service, space: str, device: Device) -> None:
    hub = Hub(service.database, without_tokens=True, objects=["Airport"])
    changes = [upsert("a", {}), upsert("a", {}, name="Spaceport")]
    answer = json.loads(hub.push(space, json.dumps(device.push_document(*changes)).encode()))
    hub.close()
    assert [result.get("code") for result in answer["results"]] == [None, "unknown_object"]


def test_health_and_readiness_answer(service: Service) -> None:
    assert service.ask("GET", "/healthz").status == 200
    assert service.ask("GET", "/readyz").status == 200
