"""The first example of the testing page works as it stands, also where a child must have a parent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test
from peewee import CharField, ForeignKeyField, IntegerField, TextField
from rig.search import examples

from statesync import Model
from statesync.testing import SyncWorld

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
SHORT = settings(max_examples=examples(2, 24), stateful_step_count=15, deadline=None, derandomize=True)

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


class Airport(Model):
    name = TextField()


class Runway(Model):
    airport = ForeignKeyField(Airport)
    length = IntegerField()


class Light(Model):
    runway = ForeignKeyField(Runway, on_delete="CASCADE")
    next_to = ForeignKeyField("self", null=True)
    colour = CharField()


def test_the_first_example_of_the_testing_page_runs_with_a_child_that_must_have_a_parent() -> None:
    example = re.search(r"## A whole world.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {"Airport": Airport, "Runway": Runway}
    exec(example[1], names)
    names["TestWorld"].settings = SHORT
    names["TestWorld"]("runTest").runTest()


def test_children_and_their_children_are_made_once_their_parents_are_there() -> None:
    made: set[str] = set()

    class World(SyncWorld):
        models = [Light, Runway, Airport]

        @invariant()
        def look(self) -> None:
            for device in self.devices:
                made.update(model.__name__ for model in self.models if self.keys(model, device))

    run_state_machine_as_test(World, settings=SHORT)
    assert made == {"Airport", "Runway", "Light"}
