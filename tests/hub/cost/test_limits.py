"""Limits of surveys and filters, and what no database takes: all of it is refused before one is asked."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from statesync.hub import Hub, HubLimits

from ..devices import Device, upsert
from .asking import ask, fill, refusal, survey_document, without_database

pytestmark = pytest.mark.any_database

SMALL = HubLimits(columns=3, bounds=3, filter_fields=2, filter_values=3)


# -- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "code", "words"),
    [
        ({"columns": ["a", "b", "c", "d"]}, "too_many_columns", ["4 columns", "3"]),
        ({"bounds": ["a", "b", "c", "d"]}, "too_many_bounds", ["4 bounds", "3"]),
        ({"filter": {"a": [], "b": [], "c": []}}, "filter_too_large", ["Airport", "3 fields", "2"]),
        ({"filter": {"a": [1, 2], "b": [3, 4]}}, "filter_too_large", ["Airport", "4 values", "3"]),
    ],
)
def test_a_survey_past_a_limit_is_refused_with_the_limit(
    hub: Hub, document: dict[str, Any], code: str, words: list[str]
) -> None:
    hub.limits = SMALL
    status, found, message = refusal(hub, "survey", survey_document(**document))
    assert (status, found) == (422, code)
    assert all(word in message for word in words), message


def test_a_filter_past_a_limit_is_refused_by_a_pull_with_its_object_and_the_limit(
    hub: Hub, device: Device
) -> None:
    hub.limits = SMALL
    feeds = {"Country": {"cursor": 0}, "Airport": {"cursor": 0, "filter": {"code": [1, 2, 3, 4]}}}
    status, code, message = refusal(hub, "pull", device.pull_document(feeds))
    assert (status, code) == (422, "filter_too_large")
    assert "'Airport' asks for 4 values, and the limit is 3" in message


def test_what_is_at_its_limit_is_answered(hub: Hub, device: Device) -> None:
    hub.limits = SMALL
    fill(hub, device, 1)
    document = survey_document(columns=list("abc"), bounds=["", "a", "b"], filter={"n": [0, 1], "b": [None]})
    assert [tally["count"] for tally in ask(hub, "survey", document)["tallies"]] == [0, 0, 1]


def test_the_limit_of_keys_is_none_of_names(hub: Hub, device: Device) -> None:
    fill(hub, device, 1)
    hub.limits = HubLimits(key=3)
    document = survey_document(object="Warehouse", columns=["description"], bounds=["a"])
    assert len(ask(hub, "survey", document)["tallies"]) == 1


@pytest.mark.parametrize(
    ("limit", "value"), [("columns", 0), ("bounds", 0), ("filter_fields", 101), ("filter_values", 10_001),
                         ("survey_seconds", 0.0), ("survey_seconds", float("nan")), ("rate", float("inf"))],
)  # fmt: skip
def test_a_limit_out_of_its_range_is_refused_with_its_name(limit: str, value: float) -> None:
    with pytest.raises(ValueError, match=limit):
        HubLimits(**{limit: value})  # type: ignore[arg-type]


# -- what no database takes --------------------------------------------------------------------------

TOO_LARGE = ["1e400", "-1e400", "9" * 400, "9" * 5000, "9223372036854775809"]


@pytest.mark.parametrize(
    "wrong", [{"bounds": ["", "a\0"]}, {"bounds": ["\0"]}, {"until": "\0"}, {"columns": ["\0"]},
              {"object": "\0"}, {"client": "\0"}, {"bounds": ["b", "a"]}, {"bounds": ["a", "a"]},
              {"bounds": []}, {"columns": ["n", "m", "n"]}],
)  # fmt: skip
def test_a_survey_that_no_database_could_answer_is_refused_before_one_is_asked(
    hub: Hub, wrong: dict[str, Any]
) -> None:
    with without_database(hub):
        assert refusal(hub, "survey", survey_document(**wrong))[:2] == (400, "malformed")


@pytest.mark.parametrize("number", TOO_LARGE)
def test_a_number_that_no_column_holds_is_refused_wherever_it_stands(
    hub: Hub, device: Device, number: str
) -> None:
    pull = json.dumps(device.pull_document({"Airport": {"cursor": 0, "filter": {"n": ["HERE"]}}}))
    survey = json.dumps(survey_document(filter={"n": ["HERE"]}))
    with without_database(hub):
        for verb, text in (("pull", pull), ("survey", survey)):
            assert refusal(hub, verb, text.replace('"HERE"', number))[:2] == (400, "malformed")


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000])
def test_a_record_with_a_number_that_nobody_can_read_is_rejected_and_the_others_are_taken(
    hub: Hub, device: Device, number: str
) -> None:
    bad = json.dumps(device.push_document(upsert("bad", {"deep": [{"n": "HERE"}]}), upsert("good", {"n": 1})))
    results = ask(hub, "push", bad.replace('"HERE"', number))["results"]
    assert [(result["status"], result.get("code")) for result in results] == [
        ("rejected", "bad_record"), ("accepted", None),
    ]  # fmt: skip


def test_numbers_that_a_column_holds_are_taken_and_found(hub: Hub, device: Device) -> None:
    held = ["9223372036854775807", "-9223372036854775808", "1e308", "100000000000000000000", "1e-400", "-0.0"]
    for place, number in enumerate(held):
        document = device.push_document(upsert(f"{place}", {"n": "HERE"}), number=place + 1)
        assert (
            ask(hub, "push", json.dumps(document).replace('"HERE"', number))["results"][0]["status"]
            == "accepted"
        )
        wanted = json.dumps(survey_document(listed=True, filter={"n": ["HERE"]})).replace('"HERE"', number)
        assert f"{place}" in [record["key"] for record in ask(hub, "survey", wanted)["records"]]


def test_a_record_that_an_older_hub_took_and_nobody_can_read_is_found_to_differ(
    hub: Hub, device: Device
) -> None:
    fill(hub, device, 2)
    with hub.database.writing():
        hub.database.run(
            "UPDATE record SET data = ? WHERE space = ? AND key = ?", '{"n":1e400}', "one", "k00000"
        )
    records = ask(hub, "survey", survey_document(listed=True))["records"]
    assert [record["key"] for record in records] == ["k00000", "k00001"]
    assert records[0]["digest"] != records[1]["digest"]
    feed = {"cursor": 0, "own": True, "filter": {"n": [1]}}
    page = ask(hub, "pull", device.pull_document({"Airport": feed}, number=1))
    assert [(entry["key"], entry.get("deleted", False)) for entry in page["changes"]] == [
        ("k00000", True), ("k00001", False),
    ]  # fmt: skip


def test_the_deletes_up_to_any_number_can_be_purged(hub: Hub, device: Device) -> None:
    fill(hub, device, 1)
    for through in (10**30, -(10**30), 2**63):
        assert hub.purge("one", through) == 0


# -- filters -----------------------------------------------------------------------------------------


def test_a_filter_of_ten_thousand_values_costs_hardly_more_than_one_of_ten(hub: Hub, device: Device) -> None:
    fill(hub, device, 2000)

    def seconds(count: int) -> float:
        feed = {"cursor": 0, "filter": {"n": list(range(-count, 0))}}
        document = device.pull_document({"Airport": feed}, 2000, client="reader", number=0)
        begun = time.thread_time()
        ask(hub, "pull", document)
        return time.thread_time() - begun

    few = min(seconds(10) for _ in range(3))
    assert min(seconds(10_000) for _ in range(3)) < 20 * few
