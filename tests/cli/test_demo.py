"""The demonstration runs for real, once, and every fact that it prints can be found in what it leaves."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import airportsdata
import pytest
from attrs import evolve

from statesync.cli import demo as command
from statesync.demo.report import Check, Report

from .shell import Ran, call, run

pytestmark = [pytest.mark.long, pytest.mark.exhaustive]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "kept"


@pytest.fixture(scope="module")
def played(folder: Path) -> Ran:
    return run("demo", "--json", "--keep", folder)


@pytest.fixture(scope="module")
def told(played: Ran) -> Any:
    return played.json()


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as raw:
        return raw.execute(sql).fetchall()


def test_it_exits_0_under_a_minute_with_every_check_held(played: Ran, told: Any) -> None:
    assert (played.code, played.err) == (0, "")
    assert told["passed"] is True
    assert len(told["checks"]) >= 15
    assert all(check["held"] for check in told["checks"])
    assert told["seconds"] < 60


def test_the_story_has_a_cancelled_an_interrupted_and_done_sessions(told: Any) -> None:
    ended = {(row["device"], row["phase"], row["reason"]) for row in told["sessions"]}
    assert {("A", "done", None), ("B", "cancelled", "user"), ("C", "failed", "interrupted")} <= ended
    total = len(airportsdata.load("ICAO"))
    assert told["sessions"][0]["uploaded"] == total
    cancelled, after = (row["downloaded"] for row in told["sessions"][1:3])
    assert 0 < cancelled < total
    assert cancelled + after == total


def test_hub_and_devices_hold_the_same_records(folder: Path, told: Any) -> None:
    on_hub = {
        key: json.loads(data)
        for key, data in rows(folder / "hub.db", "SELECT key, data FROM record WHERE NOT deleted")
    }
    assert {holding["records"] for holding in told["holdings"]} == {len(on_hub)}
    for name in "abc":
        database = folder / f"device-{name}.db"
        names = [row[1] for row in rows(database, "PRAGMA table_info(airport)")]
        held = {
            row[0]: dict(zip(names[1:], row[1:], strict=True))
            for row in rows(database, "SELECT * FROM airport")
        }
        assert held == on_hub


def test_the_sessions_that_it_tells_of_are_in_the_devices_histories(folder: Path, told: Any) -> None:
    for name in "abc":
        recorded = call("sessions", folder / f"device-{name}.db", "--json").json()
        mine = [row for row in told["sessions"] if row["device"] == name.upper()]
        assert [(row["id"], row["phase"]) for row in recorded] == [
            (row["session"], row["phase"]) for row in mine
        ]


def test_a_folder_that_is_in_use_is_not_touched(folder: Path, played: Ran) -> None:
    before = sorted(path.name for path in folder.iterdir())
    ran = call("demo", "--keep", folder)
    assert ran.code == 2
    assert "is not empty" in ran.err
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_check_that_fails_is_named_and_the_exit_code_is_1(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Report(True, 1.0, (Check("the sky is blue", True, "looked"),), (), (), ())
    bad = evolve(good, passed=False, checks=(*good.checks, Check("pigs fly", False, "0 of 3 pigs")))
    monkeypatch.setattr(command, "play_story", lambda folder, teller: bad)
    ran = call("demo", *options)
    assert ran.code == 1
    assert ran.err == "statesync: 1 of 2 checks failed: pigs fly\n"
