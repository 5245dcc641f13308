"""A survey has its time and its share: it reads some records at a time, and ends early, with what it has."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from statesync.hub import Hub
from statesync.hub.db.database import Database
from statesync.hub.survey import Pace

from ..devices import Device, upsert
from .asking import ask, fill, refusal, survey_document


def whole(hub: Hub, document: dict[str, Any]) -> tuple[int, int, int]:
    """Ask on until all is tallied; return the count, the sum of the digests, and the requests it took."""
    count = total = requests = 0
    while True:
        answer = ask(hub, "survey", document)
        requests += 1
        count += sum(tally["count"] for tally in answer["tallies"])
        total += sum(int(tally["digest"], 16) for tally in answer["tallies"])
        if answer["goes_on_at"] is None:
            return count, total % 2**64, requests
        assert answer["goes_on_at"] > document["bounds"][0]
        document = document | {"bounds": [answer["goes_on_at"]]}


def test_a_survey_that_takes_too_long_is_answered_in_parts_that_add_up(hub: Hub, device: Device) -> None:
    fill(hub, device, 30)
    count, total, requests = whole(hub, survey_document(partial=True))
    assert (count, requests) == (30, 1)
    hub.limits = evolve(hub.limits, survey_seconds=1e-9)
    assert whole(hub, survey_document(partial=True)) == (count, total, 30)


def test_who_takes_no_parts_is_told_the_limit_and_what_to_do(hub: Hub, device: Device) -> None:
    fill(hub, device, 2)
    hub.limits = evolve(hub.limits, survey_seconds=1e-9)
    status, code, message = refusal(hub, "survey", survey_document())
    assert (status, code) == (422, "survey_too_long")
    assert "1e-09 seconds" in message
    assert "newer statesync" in message


def test_a_list_that_takes_too_long_goes_on_where_it_ended(hub: Hub, device: Device) -> None:
    fill(hub, device, 3)
    hub.limits = evolve(hub.limits, survey_seconds=1e-9)
    found: list[list[str]] = []
    low: str | None = ""
    while low is not None:
        answer = ask(hub, "survey", survey_document(listed=True, bounds=[low]))
        found.append([record["key"] for record in answer["records"]])
        low = answer["goes_on_at"]
    assert found == [["k00000"], ["k00001"], ["k00002"]]


class Watched(Database):
    """A database that notes the rows and the bytes of data that each statement brings."""

    most_rows = 0
    most_bytes = 0

    def run(self, sql: str, *parameters: object) -> Any:
        rows = super().run(sql, *parameters)
        return self.noted(rows.fetchall()) if "FROM record" in sql else rows

    def noted(self, rows: list[Any]) -> Any:
        self.most_rows = max(self.most_rows, len(rows))
        self.most_bytes = max(self.most_bytes, sum(len(row[-1] or "") for row in rows))
        return Rows(rows)


class Rows:
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def fetchall(self) -> list[Any]:
        return self.rows

    def fetchone(self) -> Any:
        return self.rows[0]


def test_a_survey_reads_some_records_at_a_time_and_large_ones_alone(hub: Hub, device: Device) -> None:
    fill(hub, device, 1200)
    large = [upsert(f"l{n}", {"n": n, "text": "é" * 100_000}) for n in range(20)]
    ask(hub, "push", device.push_document(*large, number=2))
    expected = whole(hub, survey_document(bounds=["", "k00600", "l1"]))
    hub.database = watched = Watched(hub.database.pool, hub.database.dialect)
    assert whole(hub, survey_document(bounds=["", "k00600", "l1"])) == expected
    assert expected[0] == 1220
    assert watched.most_rows <= 501
    assert watched.most_bytes < 1_000_000


def test_a_survey_rests_while_others_ask_until_its_time_is_over() -> None:
    now, others, rests = [0.0], [7], list[float]()
    pace = Pace(1.0, lambda: others[0], clock=lambda: now[0], sleep=rests.append)

    def goes_on_at(*times: float) -> bool:
        answers = []
        for each in times:
            now[0] = each
            answers.append(pace.goes_on())
        return all(answers)

    assert goes_on_at(0.001, 0.003, 0.004)
    assert rests == [0], "nobody else is there: it only lets others through"
    others[0] = 8
    assert goes_on_at(0.005, 0.006, 0.007, 0.009)
    assert rests == [0, pytest.approx(4 * 0.003), 0]
    others[0] = 9
    assert goes_on_at(0.109)
    assert rests[-1] == pytest.approx(4 * 0.1), "one record may be large"
    assert not goes_on_at(1.0)
