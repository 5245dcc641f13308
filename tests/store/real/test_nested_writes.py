"""Writes within writes: a program's own trigger writes a record before the tracking trigger has its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peewee import IntegerField, TextField

from statesync import Store

from .sites import Site

UNTRACKED = "ALTER TABLE thing ADD COLUMN slot TEXT"
REWRITES = "UPDATE thing SET name = name WHERE id = NEW.id;"
NOTES = "UPDATE thing SET slot = 'seen' WHERE id = NEW.id;"
COUNTS = "UPDATE thing SET number = coalesce(number, 0) + 1 WHERE id = NEW.id;"


def thing(store: Store) -> Any:
    class Thing(store.Model):  # type: ignore[name-defined, misc]
        name = TextField(null=True)
        number = IntegerField(null=True)

    return Thing


def after(event: str, body: str, temp: str = "") -> str:
    return f"CREATE {temp} TRIGGER own AFTER {event} ON thing BEGIN {body} END"


@pytest.fixture
def pair(new_site: Callable[..., Site]) -> tuple[Site, Site]:
    """Two devices with the record k; the first has a column that no model knows."""
    a, b = new_site("a", thing), new_site("b", thing)
    a.execute(UNTRACKED)
    a.store.setup()
    a.model.create(id="k", name="x", number=1)
    a.sync()
    b.sync()
    return a, b


@pytest.mark.parametrize("temp", ["", "TEMP"])
@pytest.mark.parametrize("body", [REWRITES, NOTES, REWRITES + NOTES])
def test_an_edit_whose_record_a_trigger_writes_again_reaches_the_others(
    pair: tuple[Site, Site], body: str, temp: str
) -> None:
    a, b = pair
    a.execute(after("UPDATE", body, temp))
    a.model.update(number=2).execute()
    assert a.operations() == {"k": "update"}
    a.sync()
    b.sync()
    assert b.rows() == {"k": ("x", 2)}


@pytest.mark.parametrize("temp", ["", "TEMP"])
@pytest.mark.parametrize("body", [REWRITES, NOTES, COUNTS])
def test_a_new_record_that_a_trigger_writes_again_reaches_the_others(
    pair: tuple[Site, Site], body: str, temp: str
) -> None:
    a, b = pair
    a.execute(after("INSERT", body, temp))
    a.model.create(id="n", name="new", number=1)
    a.sync()
    b.sync()
    assert b.rows()["n"] == a.rows()["n"]


def test_a_write_of_what_no_model_knows_alone_is_no_change(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.execute("UPDATE thing SET slot = 'one'")
    a.execute("UPDATE thing SET slot = 'two'")
    assert a.operations() == {}
