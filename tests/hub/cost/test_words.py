"""What a client sends comes back in messages and in receipts: shortened, and read where it is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from statesync.hub import Hub, HubLimits, Right
from statesync.hub.access.rights import Rights
from statesync.hub.db.database import Database
from statesync.hub.texts.quoting import quoted, shortened

from ..devices import Device, delete, upsert
from .asking import ask, refusal, survey_document

pytestmark = pytest.mark.any_database

LONG = "\x7f\U000e0001\\" * 30_000
MOST = 1000
"""Bytes of a message that a client's texts have part in."""

ONLY_A = Rights({"A": frozenset(Right)})


@pytest.mark.crossed
@pytest.mark.parametrize(
    ("verb", "document"),
    [
        ("push", {"changes": [upsert("a", {}) | {"op": LONG}]}),
        ("push", {"changes": [upsert("a", {}) | {LONG: 1, "base": LONG}]}),
        ("push", {"client": LONG}), ("push", {"epoch": {LONG: LONG}}),
        ("pull", {"objects": {LONG: {"cursor": 0}}}),
        ("pull", {"objects": {"A": {"cursor": 0, "filter": {LONG: LONG}}}}),
        ("pull", {"objects": {"\x7f" * 255: {"cursor": 0, "filter": {"a": [10**400]}}}}),
        ("survey", {"columns": [LONG]}), ("survey", {"filter": {"a": [{LONG: LONG}]}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_refusal_quotes_no_more_than_how_a_text_begins(
    hub: Hub, device: Device, verb: str, document: dict[str, Any], ascii_only: bool
) -> None:
    whole = survey_document() if verb == "survey" else device.push_document() | device.pull_document({})
    status, _, message = refusal(hub, verb, json.dumps(whole | document, ensure_ascii=ascii_only))
    assert status in (400, 422)
    assert len(json.dumps(message)) <= MOST
    assert message.isprintable()


@pytest.mark.parametrize(
    ("name", "code"), [("\x7f" * 3800, "unknown_object"), ("\x7f" * 255, "forbidden"), ("B", "forbidden")]
)
def test_a_batch_that_may_not_be_written_leaves_no_more_than_it_was(
    hub: Hub, device: Device, name: str, code: str
) -> None:
    document = device.push_document(*(delete(f"{n}", name=name) for n in range(300)))
    answer = hub.push("one", json.dumps(document).encode(), ONLY_A)
    assert {each["code"] for each in json.loads(answer)["results"]} == {code}
    with hub.database.reading():
        kept = str(hub.database.run("SELECT answer FROM receipt").fetchone()[0])
    assert len(answer) + len(kept) <= 300 * 2 * 250


def test_the_words_of_an_answer_are_bounded_and_take_no_record_from_what_is_in_conflict(
    hub: Hub, device: Device
) -> None:
    hub.limits = HubLimits(page_bytes=2000)
    ask(hub, "push", device.push_document(upsert("mine", {"n": 1}, name="A")))
    rejected = [delete(f"{n}", name="\x7f" * 200) for n in range(200)]
    conflicts = [upsert("mine", {"n": 2}, name="A")]
    document = device.push_document(*rejected, *conflicts, client="other", offers_again=True)
    results = json.loads(hub.push("one", json.dumps(document).encode(), ONLY_A))["results"]
    assert {each["code"] for each in results[:-1]} == {"forbidden"}
    assert sum(len(each["message"]) for each in results[:-1]) <= 2000 + 200 * 60
    assert "no more room" in results[-2]["message"]
    assert (results[-1]["status"], results[-1]["data"]) == ("conflict", {"n": 1})


class Asked(Database):
    """A database that notes what it is asked."""

    def __init__(self, known: Database) -> None:
        super().__init__(known.pool, known.dialect, known.writer_lock)
        self.statements: list[str] = []

    def run(self, sql: str, *parameters: object) -> Any:
        self.statements.append(sql)
        return super().run(sql, *parameters)

    def reads_answers(self) -> bool:
        read, self.statements = self.statements, []
        return any("answer" in sql for sql in read if sql.lstrip().startswith("SELECT"))


def test_only_the_repeat_of_a_batch_reads_what_was_answered(hub: Hub, device: Device) -> None:
    ask(hub, "push", first := device.push_document(upsert("a", {})))
    hub.database = asked = Asked(hub.database)
    ask(hub, "pull", device.pull_document({"Airport": {"cursor": 0}}, number=1))
    ask(hub, "survey", survey_document(client=device.client))
    ask(hub, "push", device.push_document(upsert("b", {}), number=2))
    assert asked.statements
    assert not asked.reads_answers()
    refusal(hub, "push", first)
    assert not asked.reads_answers()
    again = device.push_document(upsert("c", {}), number=3)
    assert ask(hub, "push", again) == ask(hub, "push", again)
    assert asked.reads_answers()


def test_what_is_short_and_plain_is_quoted_as_it_is() -> None:
    assert quoted("Airport") == "'Airport'"
    assert quoted("it's") == '"it\'s"'
    assert quoted("x" * 60) == repr("x" * 60)
    assert quoted("x" * 61) == "'" + "x" * 60 + "…'"
    assert shortened("it is so") == "it is so"
    assert shortened("é" * 300) == "é" * 300
    assert shortened("x" * 301) == "x" * 300 + "…"
    assert shortened("a\nb") == "a\\nb…"
