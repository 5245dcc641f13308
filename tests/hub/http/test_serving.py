"""A worker opens the hub that its set-up describes, with everything that a hub can be told."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from statesync.hub import Hub, HubLimits, Retention, Setup
from statesync.hub.access.identity import Issuer

from ..devices import upsert

DEFAULTS = {"limits": HubLimits(), "retention": Retention()}
"""What a hub takes where its parameter is None."""


def test_a_setup_has_the_parameters_of_the_hub_with_the_same_defaults() -> None:
    parameters = {name: one.default for name, one in inspect.signature(Hub).parameters.items()}
    setup = Setup(url="sqlite:///hub.db")
    assert {field.name for field in attrs.fields(Setup)} == set(parameters)
    assert parameters.pop("url") is inspect.Parameter.empty
    for name, default in parameters.items():
        assert getattr(setup, name) == DEFAULTS.get(name, default), name


def test_a_setup_hands_on_all_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {
        "url": "sqlite:///other.db", "without_tokens": True, "limits": HubLimits(batch=7),
        "objects": frozenset({"Airport"}), "issuer": Issuer("a key"), "connections": 3, "patience": 5.0,
        "retention": Retention(60.0),
    }  # fmt: skip
    monkeypatch.setattr("statesync.hub.http.serving.Hub", dict)
    opened: object = Setup(**said).open()
    assert opened == said


def test_a_served_hub_takes_the_objects_of_its_setup_only(new_database: Callable[[], str]) -> None:
    hub = Setup(url=new_database(), without_tokens=True, objects=frozenset({"Airport"})).open()
    envelope = {"client": "me", "number": 1, "batch": "1", "hub": None, "epoch": None}
    changes = [upsert("a", {}), upsert("a", {}, name="Country")]
    answer = json.loads(hub.push("acme", json.dumps(envelope | {"changes": changes}).encode()))
    assert [result["status"] for result in answer["results"]] == ["accepted", "rejected"]
    assert answer["results"][1]["code"] == "unknown_object"
    hub.close()
