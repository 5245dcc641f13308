"""What a request may make the hub say, keep and look at: bytes of the answer for each byte of the request.

The limits here are small, so that a few records are more than they allow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from statesync.hub import Hub, HubLimits, serving

from ..devices import Device, Service, delete, upsert

pytestmark = pytest.mark.any_database

RECORD, CARRIES, TOUCHED = 2000, 10_000, 60_000
BIG = {"text": "x" * 1900}
"""A record of nearly as many bytes as one may have."""
MANY = 25

TOLD, LISTED, TALLIED = 8, 12_000, 20
"""Bytes that are answered for each byte of a push; for a list of a survey; for each byte of its tallies."""


@pytest.fixture(scope="module")
def small(lasting_database: Callable[[], str]) -> Iterator[Service]:
    url = lasting_database()
    limits = HubLimits(record=RECORD, page_bytes=CARRIES, body=TOUCHED)
    hub = Hub(url, without_tokens=True, limits=limits)
    with serving(hub) as address, Service(address, hub, url) as running:
        yield running
    hub.close()


@pytest.fixture
def owner(small: Service, space: str) -> Device:
    """A device that has written ``MANY`` big records, five times as much as an answer carries."""
    device = small.device(space)
    for first in range(0, MANY, 20):
        device.push(*(upsert(f"{n}", BIG) for n in range(first, min(first + 20, MANY))))
    return device


@pytest.fixture
def other(small: Service, space: str) -> Device:
    return small.device(space)


def ask(device: Device, verb: str, document: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Return the bytes of a request and of its answer, which is a success, and the answer."""
    body = json.dumps(document).encode()
    answer = device.service.ask("POST", f"/v1/spaces/{device.space}/{verb}", body)
    assert answer.status == 200, answer.data
    return len(body), len(answer.data), json.loads(answer.data)


def receipt_of(device: Device) -> str:
    with device.service.hub.database.reading():
        row = device.service.hub.database.run(
            "SELECT answer FROM receipt WHERE space = ? AND client = ?", device.space, device.client
        ).fetchone()
    return str(row[0])


def came(answer: dict[str, Any]) -> int:
    return sum("data" in verdict for verdict in answer["results"])


def deletes(device: Device, count: int = MANY, **more: Any) -> dict[str, Any]:
    return device.push_document(*(delete(f"{n}") for n in range(count)), **more)


# -- answer bytes per request byte ---------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_a_push_is_answered_by_no_more_than_a_page_of_records(other: Device) -> None:
    sent, told, answer = ask(other, "push", deletes(other, offers_again=True))
    assert came(answer) == 6, "five are less than 10,000 bytes, and the sixth begins before their end"
    assert {each["status"] for each in answer["results"]} == {"conflict"}
    assert told <= CARRIES + RECORD + TOLD * sent
    assert "xxx" not in receipt_of(other), "a receipt keeps verdicts, and no record"


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("offers_again", [True, False])
def test_a_repeat_is_answered_by_no_record(other: Device, offers_again: bool) -> None:
    ask(other, "push", document := deletes(other, count=5))
    sent, told, answer = ask(other, "push", document | {"offers_again": offers_again})
    assert came(answer) == 0
    assert told <= TOLD * sent


@pytest.mark.parametrize(
    "change",
    [
        upsert("é" * 255, {}), upsert("\x7f" * 300, {}), delete("a", name="\x7f" * 200), upsert("", {}),
        upsert("a", []), delete("a", name="o"),
    ],
)  # fmt: skip
def test_verdicts_are_not_much_longer_than_what_they_are_about(other: Device, change: dict[str, Any]) -> None:
    changes = [change | {"object": f"{change['object']}{n}"} for n in range(30)]
    sent, told, _ = ask(other, "push", other.push_document(*changes))
    assert told <= TOLD * sent
    assert len(receipt_of(other)) <= TOLD * sent


@pytest.mark.usefixtures("owner")
def test_a_page_has_no_more_than_its_bytes_of_records(other: Device) -> None:
    sent, told, page = ask(other, "pull", other.pull_document({"Airport": {"cursor": 0}}, limit=9999))
    assert len(page["changes"]) == 6
    assert told <= CARRIES + RECORD + 20 * sent


def test_the_bytes_of_a_page_are_bytes_and_not_characters(owner: Device, other: Device) -> None:
    """Each record has 2,000 bytes in half as many characters: five are 10,000 of one, ten of the other."""
    push_texts(owner, "Text", "é" * 994 + "x", range(12))
    page = other.pull({"Text": {"cursor": 0}}, limit=9999)
    assert (len(page["changes"]), page["more"]) == (5, True)


def push_texts(device: Device, name: str, text: str, numbers: range) -> None:
    """Push records as bytes that are not escaped, so that one character is as long as it is in UTF-8."""
    changes = [upsert(f"{n}", {"text": text}, name=name) for n in numbers]
    raw = json.dumps(device.push_document(*changes), ensure_ascii=False, separators=(",", ":")).encode()
    assert device.send("push", raw)[0] == 200
    device.number += 1


@pytest.mark.usefixtures("owner")
def test_a_survey_is_answered_by_tallies_of_what_it_asks_for(other: Device) -> None:
    asked = {"client": "me", "hub": None, "epoch": None, "object": "Airport", "columns": ["text"]}
    bounds = [f"{n:04}" for n in range(500)]
    sent, told, answer = ask(other, "survey", asked | {"bounds": bounds})
    assert len(answer["tallies"]) == 500
    assert told <= TALLIED * sent
    sent, told, answer = ask(other, "survey", asked | {"bounds": [""], "listed": True})
    assert len(answer["records"]) == MANY
    assert told <= LISTED, "a list carries digests, and no record"


# -- what did not come is offered again ------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_what_did_not_come_comes_with_a_later_batch(other: Device) -> None:
    """Each answer brings at least one of the records in conflict, until all have come."""
    waiting = {f"{n}" for n in range(MANY)}
    while waiting:
        keys = sorted(waiting)
        document = other.push_document(*map(delete, keys), offers_again=True)
        answer = other.send("push", document)[1]
        other.number += 1
        come = {key for key, each in zip(keys, answer["results"], strict=True) if "data" in each}
        assert come
        waiting -= come


@pytest.mark.usefixtures("owner")
def test_a_device_that_does_not_know_conflicts_without_a_record_is_told_to_send_less(
    other: Device,
) -> None:
    """Nothing is applied, and any device cuts a batch that is refused so; one change is always answered."""
    status, answer = other.send("push", deletes(other))
    assert (status, answer["error"]["code"]) == (413, "answer_too_large")
    assert "send fewer changes" in answer["error"]["message"]
    assert came(ask(other, "push", deletes(other, count=6))[2]) == 6


@pytest.mark.usefixtures("owner")
def test_such_a_device_hears_of_a_repeat_that_it_may_offer_the_change_at_once(other: Device) -> None:
    ask(other, "push", document := deletes(other, count=1))
    _, _, answer = ask(other, "push", document)
    (verdict,) = answer["results"]
    assert (verdict["status"], verdict["code"], verdict["retry_after"]) == ("rejected", "conflict", 0.0)


# -- what is stored and looked at --------------------------------------------------------------------------


def test_a_record_does_not_grow_past_its_limit_by_fields_that_come_one_by_one(owner: Device) -> None:
    assert owner.push(upsert("grows", {"a": "x" * 900}))[0]["status"] == "accepted"
    assert owner.push(upsert("grows", {"b": "x" * 900}))[0]["status"] == "accepted"
    before = owner.read_all("Airport", own=True)[0]["Airport/grows"]
    rejected, taken = owner.push(upsert("grows", {"c": "x" * 900}), upsert("beside", {}))
    assert (rejected["status"], rejected["code"]) == ("rejected", "record_too_large")
    assert "2000 bytes" in rejected["message"]
    assert taken["status"] == "accepted"
    assert owner.read_all("Airport", own=True)[0]["Airport/grows"] == before
    assert owner.push(upsert("grows", {"a": "", "b": "", "c": "x" * 900}))[0]["status"] == "accepted"


@pytest.mark.parametrize("text", ["x" * 1900, "é" * 950, "😀" * 475], ids=["1 byte", "2 bytes", "4 bytes"])
def test_a_batch_looks_at_no_more_of_what_is_stored_than_it_may_bring(
    owner: Device, other: Device, text: str
) -> None:
    """Fields are put to 50 records of 1,900 bytes by a request of 5,000: they are too much at once."""
    for first in range(0, 50, 10):
        push_texts(owner, "Wide", text, range(first, first + 10))
    base = owner.pull({"Wide": {"cursor": 0}})["head"]
    fields = [upsert(f"{n}", {"more": 1}, base=base, name="Wide") for n in range(50)]
    status, answer = other.send("push", other.push_document(*fields))
    assert (status, answer["error"]["code"]) == (413, "batch_too_large")
    assert [each["status"] for each in other.push(*fields[:25])] == ["accepted"] * 25
    assert [each["status"] for each in other.push(*fields[25:])] == ["accepted"] * 25


def test_deletes_and_conflicts_need_not_be_looked_at(owner: Device, other: Device) -> None:
    for first in range(0, 50, 10):
        owner.push(*(upsert(f"{n}", BIG, name="Wide") for n in range(first, first + 10)))
    _, _, answer = ask(
        other,
        "push",
        other.push_document(*(delete(f"{n}", name="Wide") for n in range(50)), offers_again=True),
    )
    other.number += 1
    assert [each["status"] for each in answer["results"]] == ["conflict"] * 50
    assert 1 <= came(answer) <= 6
    base = other.pull({"Wide": {"cursor": 0}})["head"]
    verdicts = other.push(*(delete(f"{n}", base=base, name="Wide") for n in range(50)))
    assert {each["status"] for each in verdicts} == {"accepted"}


def test_a_record_that_is_larger_than_all_limits_is_found_alone(owner: Device, other: Device) -> None:
    """The limits were others when it was written; whoever asks for it alone is told all of it."""
    owner.push(upsert("old", {"text": "here"}))
    huge = json.dumps({"text": "x" * (TOUCHED + CARRIES)})
    with owner.service.hub.database.writing():
        owner.service.hub.database.run(
            "UPDATE record SET data = ? WHERE space = ? AND key = ?", huge, owner.space, "old"
        )
    _, _, answer = ask(other, "push", other.push_document(upsert("old", {})))
    assert answer["results"][0]["data"] == json.loads(huge)
    assert owner.push(upsert("old", {"text": "small"}))[0]["status"] == "accepted"
