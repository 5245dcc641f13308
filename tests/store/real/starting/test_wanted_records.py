"""A filter means what a program means by it: its columns, its key, its booleans; or it is refused at once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from peewee import CharField, UUIDField
from rig.device import Device, store_at

from statesync import BadOptions, HttpRemote, Store, SyncOptions


@pytest.fixture
def on_the_hub(there: Device) -> None:
    """Four records on the hub, k1 and k3 of them closed."""
    for number in range(4):
        there.airport.create(id=f"k{number}", name=f"n{number}", elevation=1, is_open=number % 2 == 0)
    there.sync()


def stored_filter(device: Device) -> Any:
    with closing(sqlite3.connect(device.store.database.database)) as file:
        return file.execute("SELECT filter FROM statesync_cursor").fetchone()[0]


@pytest.mark.usefixtures("on_the_hub")
@pytest.mark.parametrize("column", ["is_opne", "IS_OPEN", "", "colour"])
def test_a_filter_on_a_column_that_is_not_there_is_refused_and_takes_nothing_away(
    here: Device, column: str
) -> None:
    here.sync()
    before = here.rows()
    with pytest.raises(BadOptions, match="id, name, elevation, latitude, is_open, plan"):
        here.sync(filter={"Airport": {column: True}})
    assert here.rows() == before
    assert len(here.store.sessions()) == 1
    assert here.sync().stats.downloaded == 0


@pytest.mark.usefixtures("on_the_hub")
def test_a_filter_on_the_key_brings_the_records_with_these_keys(here: Device) -> None:
    here.sync(filter={"Airport": {"id": ["k0", "k3", "nobody"]}})
    assert here.keys() == ["k0", "k3"]
    assert here.scope.diagnose().is_consistent()
    here.sync(filter={"Airport": {"id": ["k1", "k2"], "is_open": False}})
    assert here.keys() == ["k1"]
    assert here.scope.diagnose().is_consistent()
    here.sync()
    assert len(here.keys()) == 4


@pytest.mark.usefixtures("on_the_hub")
def test_a_filter_on_the_key_lets_go_of_what_it_does_not_ask_for_any_more(here: Device) -> None:
    here.sync()
    here.sync(filter={"Airport": {"id": "k2"}})
    assert here.keys() == ["k2"]


@pytest.mark.parametrize("key", [7, None, True])
def test_a_filter_that_asks_for_a_key_that_is_no_text_is_refused(here: Device, key: object) -> None:
    with pytest.raises(BadOptions, match="no text"):
        here.sync(filter={"Airport": {"id": ["k1", key]}})


def test_a_key_of_any_name_and_kind_can_be_asked_for(
    there: Device, tmp_path: Any, address: str, space: str
) -> None:
    """The hub never learns what a device calls its key."""

    def models(store: Store) -> Any:
        class Coded(store.Model):  # type: ignore[name-defined, misc]
            id = UUIDField(primary_key=True, column_name="code")
            country = CharField()

        return Coded

    one, two = "00000000000000000000000000000001", "00000000000000000000000000000002"
    with (
        closing(HttpRemote(address, space)) as remote,
        store_at(tmp_path / "one.db", models) as (first, coded),
        store_at(tmp_path / "two.db", models) as (second, seen),
    ):
        for key in (one, two):
            coded.create(id=key, country="IS")
        first.scope(remote).sync()
        second.scope(remote).sync(SyncOptions(filter={"Coded": {"code": one}}))
        assert [row.id.hex for row in seen.select()] == [one]


@pytest.mark.usefixtures("on_the_hub")
@pytest.mark.parametrize("closed", [False, 0, [False], [0, False]])
def test_a_boolean_is_asked_for_as_the_program_or_as_the_table_has_it(here: Device, closed: object) -> None:
    here.sync(filter={"Airport": {"is_open": closed}})
    assert here.keys() == ["k1", "k3"]
    assert stored_filter(here) == '{"is_open": [false]}'


@pytest.mark.usefixtures("on_the_hub")
def test_what_is_the_same_filter_reads_nothing_again(here: Device) -> None:
    here.sync(filter={"Airport": {"is_open": True, "elevation": [2, 1]}})
    assert stored_filter(here) == '{"elevation": [1, 2], "is_open": [true]}'  # as older stores have it
    for same in ({"elevation": [1, 2], "is_open": True}, {"is_open": 1, "elevation": (1, 2)}):
        assert here.sync(filter={"Airport": same}).stats.downloaded == 0
    assert here.keys() == ["k0", "k2"]


@pytest.mark.usefixtures("on_the_hub")
def test_a_number_in_a_column_of_numbers_stays_a_number(here: Device) -> None:
    here.sync(filter={"Airport": {"elevation": 1}})
    assert len(here.keys()) == 4
