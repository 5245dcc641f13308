"""What a page of a scan costs follows the page, never how many records there are, nor how many deletes."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import psycopg
import pytest

from statesync.hub import Hub, HubLimits, Refused, Right, Rights
from statesync.hub.db.pages.scans import count_query, last_query, stretch_query
from statesync.hub.limits import Allowance
from statesync.wire import Scan

from ..cost.asking import ask
from ..db.test_schema import plan_of
from ..devices import Device, delete, upsert


@pytest.fixture
def filled(hub: Hub, device: Device) -> Hub:
    """A hub with records in it, and no statistics of them."""
    names = ["Airport", "Country"]
    changes = [upsert(f"{n:05}", {"n": n}, name=names[n % 2]) for n in range(3000)]
    ask(hub, "push", device.push_document(*changes, number=1))
    return hub


def scan(hub: Hub, device: Device, limit: int, *names: str, **said: Any) -> dict[str, Any]:
    objects = {name: {"cursor": 0, "scan": said} for name in names or ["Airport"]}
    return ask(hub, "pull", device.pull_document(objects, limit, client="reader"))


def test_every_question_is_answered_from_one_index_in_its_order(filled: Hub) -> None:
    asked = Scan(3000, "00500", "02000")
    for sql, parameters in (
        stretch_query("one", "Airport", asked, "me", 100),
        count_query("one", "Airport", asked, 100),
        last_query("one", "Airport", 100),
    ):
        plan = plan_of(filled, sql.replace("?", filled.database.pool.param), parameters)
        assert re.search(r"record_pkey|sqlite_autoindex_record_1", plan), plan
        assert "record_feed" not in plan
        assert not re.search(r"Sort  |TEMP B-TREE|SCAN record\b|Seq Scan", plan), plan


def test_postgres_passes_the_records_on_as_the_index_has_them(
    postgres_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of a page is small is asked for around the query: that sorts nothing either."""
    seen: list[tuple[str, Any]] = []
    pool: Any = postgres_hub.database.pool
    run = psycopg.Cursor.execute

    def watched(cursor: Any, sql: Any, parameters: Any = None, **given: Any) -> Any:
        seen.append((sql, parameters))
        return run(cursor, sql, parameters, **given)

    monkeypatch.setattr(psycopg.Cursor, "execute", watched)
    dialect, asked = postgres_hub.database.dialect, Scan(9, "a", "b")
    with postgres_hub.database.reading():
        query = stretch_query("one", "Airport", asked, "me", 100)
        for size in (1000, 100_000):
            dialect.stretch(pool, query, 10, Allowance(size, size=size))
    monkeypatch.undo()
    queries = [each for each in seen if "record" in each[0]]
    assert len({sql for sql, _ in queries}) == 2
    for sql, parameters in queries:
        plan = plan_of(postgres_hub, sql, parameters)
        assert plan.count("record_pkey") == 1
        assert not re.search(r"Sort  |Seq Scan", plan), plan


def emptied(hub: Hub, device: Device, first: int, last: int) -> None:
    """Delete these records of Airport."""
    changes = [delete(f"{n:05}", base=3000) for n in range(first, last, 2)]
    ask(hub, "push", device.push_document(*changes, number=2))


def test_a_page_looks_at_so_many_deleted_records_and_no_more(filled: Hub, device: Device) -> None:
    """A thousand keys at least, ten for each record that it may have: then it ends where it has come to."""
    emptied(filled, device, 10, 2500)
    page = scan(filled, device, 10)
    scanned = page["scans"]["Airport"]
    assert ([entry["key"] for entry in page["changes"]], scanned["last"], scanned["done"]) == (
        ["00000", "00002", "00004", "00006", "00008"], "01998", False,
    )  # fmt: skip
    asked = {"since": scanned["since"], "after": scanned["last"], "until": scanned["until"]}
    page = scan(filled, device, 10, **asked)
    assert [entry["key"] for entry in page["changes"]] == [f"{n:05}" for n in range(2500, 2520, 2)]
    assert scan(filled, device, 200)["scans"]["Airport"]["last"] == f"{2500 + 2 * 194:05}"


def test_the_keys_that_a_page_looks_at_are_those_of_all_its_objects(filled: Hub, device: Device) -> None:
    emptied(filled, device, 0, 1998)
    page = scan(filled, device, 1, "Airport", "Country")
    assert {name: each["last"] for name, each in page["scans"].items()} == {"Airport": "01998"}
    assert list(scan(filled, device, 1, "Nothing", "Airport", "Country")["scans"]) == ["Nothing", "Airport"]
    several = [(f"{n:03}", name) for name in ("P", "Q") for n in range(700)]
    for number, change in ((3, partial(upsert, data={})), (4, partial(delete, base=9999))):
        some = [change(key, name=name) for key, name in several if number == 3 or key != "699"]
        ask(filled, "push", device.push_document(*some, number=number))
    page = scan(filled, device, 10, "P", "Q")
    assert {name: (each["last"], each["done"]) for name, each in page["scans"].items()} == {
        "P": ("699", True), "Q": ("299", False),
    }  # fmt: skip


def test_a_scan_ends_amid_deleted_records_where_there_are_too_many(filled: Hub, device: Device) -> None:
    emptied(filled, device, 200, 3000)
    scanned = scan(filled, device, 10)["scans"]["Airport"]
    assert (scanned["until"], scanned["count"]) == ("01000", 100)
    page = scan(filled, device, 1000)
    assert (len(page["changes"]), page["scans"]["Airport"]["done"]) == (100, True)


def test_what_a_scan_looks_at_is_charged(filled: Hub, device: Device) -> None:
    emptied(filled, device, 0, 2998)
    grants = {"*": frozenset({Right.READ})}

    def answered(burst: int, objects: dict[str, Any]) -> int:
        """How many times a token may ask before its rate holds it back."""
        filled.limits = HubLimits(rate=0.001, burst=burst)
        body = json.dumps(device.pull_document(objects, 1, client="reader")).encode()
        for times in range(100):
            try:
                filled.pull("one", body, Rights(grants, holder=f"{objects}"))
            except Refused:
                return times
        return 100

    assert answered(3, {"Airport": {"cursor": 0, "scan": {}}}) < 5
    assert answered(30, {f"N{n}": {"cursor": 0, "scan": {}} for n in range(100)}) < 5
