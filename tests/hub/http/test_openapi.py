"""The OpenAPI document is true: no answer of a live hub that it does not describe."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from rig.search import examples

from statesync import wire

from ..devices import Device, Service, upsert

pytestmark = pytest.mark.any_database

if TYPE_CHECKING:
    from .described import Described

LONGEST_WAIT = 60.0
"""Seconds that a hub lets a question for news wait."""

FEW = settings(
    max_examples=examples(3, 30),
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    answer = service.ask("GET", "/openapi.json")
    assert answer.status == 200
    described: dict[str, Any] = json.loads(answer.data)
    return described


@pytest.fixture(scope="module")
def described(service: Service, document: dict[str, Any]) -> Described:
    from .described import Described  # takes half a second, which nobody else needs to spend

    return Described(service.address, document)


def test_every_route_is_described(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    routes = {
        (path, verb) for path, item in document["paths"].items() for verb in item if verb != "parameters"
    }
    assert routes == {
        ("/v1/spaces/{space}/push", "post"), ("/v1/spaces/{space}/pull", "post"),
        ("/v1/spaces/{space}/survey", "post"), ("/v1/spaces/{space}/changes", "get"), ("/healthz", "get"),
        ("/readyz", "get"), ("/openapi.json", "get"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "shape",
    [
        wire.PushAnswer,
        wire.Page,
        wire.Scanned,
        wire.SurveyAnswer,
        wire.Push,
        wire.Pull,
        wire.Feed,
        wire.Scan,
        wire.Signal,
        wire.Problem,
    ],
)
def test_the_shapes_have_the_fields_of_the_wire(
    document: dict[str, Any], shape: type[msgspec.Struct]
) -> None:
    described = document["components"]["schemas"][shape.__name__]
    fields = msgspec.structs.fields(shape)
    assert set(described["properties"]) == {field.encode_name for field in fields}
    assert set(described["required"]) == {field.encode_name for field in fields if field.required}


def test_a_hub_takes_every_version_that_it_gives_out(document: dict[str, Any]) -> None:
    shapes = document["components"]["schemas"]
    taken = [
        shapes[name]["properties"][field]
        for name, field in (("Push", "head"), ("Pull", "head"), ("Feed", "cursor"), ("Scan", "since"))
    ]
    given = [shapes[name]["properties"]["head"] for name in ("PushAnswer", "Page", "SurveyAnswer")]
    given += [shapes["Accepted"]["properties"]["version"], shapes["Entry"]["properties"]["version"]]
    given.append(shapes["Scanned"]["properties"]["since"])
    assert {field["maximum"] for field in (*taken, *given)} == {wire.MAX_VERSION}


@pytest.mark.crossed
@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("verb", ["push", "pull", "survey"])
def test_a_live_hub_answers_only_as_the_document_says(
    described: Described, device: Device, verb: str, mode: str
) -> None:
    device.push(upsert("a", {}))
    seen: set[int] = set()

    @FEW
    @given(case=described.cases(f"/v1/spaces/{{space}}/{verb}", "POST", mode))
    def run(case: Any) -> None:
        seen.add(described.ask(case))
        if isinstance(case.body, dict):  # the same from a device that the hub has reason to listen to
            case.path_parameters["space"] = device.space
            case.body |= {"client": str(uuid.uuid4()), "hub": None, "epoch": None, "bounds": [""]}
            case.body["number"] = 1 if verb == "push" else 0
            seen.add(described.ask(case))

    run()
    assert (200 if mode == "positive" else 400) in seen


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_the_open_routes_answer_as_the_document_says(described: Described, path: str) -> None:
    described.ask(described.route(path, "GET").Case())


def is_obeyed(wait: object) -> bool:
    """Whether a hub would answer only after so many seconds."""
    try:
        return 0 < float(str(wait)) <= LONGEST_WAIT
    except ValueError:
        return False


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_question_for_news_answers_as_the_document_says(
    described: Described, device: Device, mode: str
) -> None:
    head = device.push(upsert("a", {}))[0]["version"]
    seen: set[int] = set()

    @FEW
    @given(case=described.cases("/v1/spaces/{space}/changes", "GET", mode))
    def run(case: Any) -> None:
        wait = (case.query or {}).get("wait", "soon")
        case.query = {**(case.query or {}), "wait": 0 if mode == "positive" or is_obeyed(wait) else wait}
        seen.add(described.ask(case))

    run()
    assert head == 1
    assert (200 if mode == "positive" else 400) in seen
