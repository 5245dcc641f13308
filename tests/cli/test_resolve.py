"""``conflicts`` shows what waits for a decision, and ``resolve`` decides it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig.device import Device

from .shell import call

KEY = "k00000"


@pytest.fixture
def database(here: Device, there: Device, tmp_path: Path) -> Path:
    """The file of a device whose edit of one record waits beside the hub's."""
    here.add(1)
    here.sync()
    there.sync()
    there.edit(KEY, name="theirs", elevation=7)
    there.sync()
    here.edit(KEY, name="mine", is_open=False)
    here.sync(conflict_policy="later")
    return tmp_path / "here.db"


def number_of(database: Path) -> int:
    (told,) = call("conflicts", database, "--json").json()
    assert (told["waiting"], told["kept"]) == (True, None)
    assert (told["local"]["name"], told["remote"]["name"]) == ("mine", "theirs")
    return int(told["id"])


def test_what_waits_is_shown_with_its_number(database: Path) -> None:
    number = number_of(database)
    rows = [line.split() for line in call("conflicts", database).out.splitlines()]
    assert rows[0][:3] == [str(number), "Airport", KEY]
    assert ["name", "n0", "mine", "theirs", "(waits)"] in rows
    assert "in conflict" in call("pending", database).out


@pytest.mark.parametrize(("side", "name"), [("local", "mine"), ("remote", "theirs")])
def test_the_side_that_is_kept_stays(
    database: Path, here: Device, there: Device, side: str, name: str
) -> None:
    ran = call("resolve", database, number_of(database), "--keep", side)
    assert (ran.code, ran.err) == (0, "")
    assert here.field(KEY, "name") == name
    here.sync()
    there.sync()
    assert there.field(KEY, "name") == name


def test_fields_can_be_decided_one_by_one(database: Path, here: Device) -> None:
    said = ("--set", "name=a = b", "--set", "elevation=12", "--set", "is_open=true")
    ran = call("resolve", database, number_of(database), *said, "--json")
    assert (ran.code, ran.json()["waiting"]) == (0, 0)
    assert [here.field(KEY, name) for name in ("name", "elevation", "is_open")] == ["a = b", 12, True]
    assert here.execute("SELECT typeof(elevation), typeof(is_open) FROM airport").fetchall() == [
        ("integer", "integer")
    ]


def test_what_a_settled_conflict_has_lost_comes_back(database: Path, here: Device) -> None:
    number = number_of(database)
    call("resolve", database, number, "--keep", "remote")
    assert call("resolve", database, number, "--keep", "local").code == 0
    assert here.field(KEY, "name") == "mine"


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (["7", "--keep", "local"], 1, "there is no conflict 7"),
        (["1", "--set", "colour=red"], 1, "no columns ['colour']"),
        (["1", "--set", "plan=x"], 1, "plan holds bytes"),
        (["1", "--set", "name"], 2, "FIELD=VALUE"),
        (["1"], 2, "either --keep or --set"),
        (["1", "--keep", "local", "--set", "name=x"], 2, "either --keep or --set"),
        (["1", "--keep", "mine"], 2, "local"),
        (["one", "--keep", "local"], 2, "integer"),
    ],
)
def test_what_cannot_be_is_one_line(database: Path, said: list[str], code: int, words: str) -> None:
    ran = call("resolve", database, *said)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
    assert number_of(database) == 1
