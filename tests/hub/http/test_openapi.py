"""The OpenAPI document is true: no answer of a live hub that it does not describe."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from rig.search import examples
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from statesync import wire

from ..devices import Device, Service, upsert

FEW = settings(
    max_examples=examples(5),
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    answer = service.ask("GET", "/openapi.json")
    assert answer.status == 200
    described: dict[str, Any] = json.loads(answer.data)
    return described


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
    [wire.PushAnswer, wire.Page, wire.SurveyAnswer, wire.Push, wire.Pull, wire.Signal, wire.Problem],
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
        for name, field in (("Push", "head"), ("Pull", "head"), ("Feed", "cursor"))
    ]
    given = [shapes[name]["properties"]["head"] for name in ("PushAnswer", "Page", "SurveyAnswer")]
    given += [shapes["Accepted"]["properties"]["version"], shapes["Entry"]["properties"]["version"]]
    assert {field["maximum"] for field in (*taken, *given)} == {wire.MAX_VERSION}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("verb", ["push", "pull", "survey"])
def test_a_live_hub_answers_only_as_the_document_says(
    service: Service, document: dict[str, Any], device: Device, verb: str, mode: GenerationMode
) -> None:
    device.push(upsert("a", {}))
    operation = schemathesis.openapi.from_dict(document)[f"/v1/spaces/{{space}}/{verb}"]["POST"]
    seen: set[int] = set()

    def ask(case: Any) -> None:
        answer = case.call(base_url=service.address)
        case.validate_response(answer, checks=CHECKS)
        seen.add(answer.status_code)

    @FEW
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        ask(case)
        if isinstance(case.body, dict):  # the same from a device that the hub has reason to listen to
            case.path_parameters["space"] = device.space
            case.body |= {"client": str(uuid.uuid4()), "hub": None, "epoch": None, "bounds": [""]}
            case.body["number"] = 1 if verb == "push" else 0
            ask(case)

    run()
    assert (200 if mode is GenerationMode.POSITIVE else 400) in seen


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_the_open_routes_answer_as_the_document_says(
    service: Service, document: dict[str, Any], path: str
) -> None:
    case = schemathesis.openapi.from_dict(document)[path]["GET"].Case()
    case.validate_response(case.call(base_url=service.address), checks=CHECKS)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_question_for_news_answers_as_the_document_says(
    service: Service, document: dict[str, Any], device: Device, mode: GenerationMode
) -> None:
    head = device.push(upsert("a", {}))[0]["version"]
    operation = schemathesis.openapi.from_dict(document)["/v1/spaces/{space}/changes"]["GET"]
    seen: set[int] = set()

    @FEW
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        case.query = {**(case.query or {}), **({"wait": 0} if mode is GenerationMode.POSITIVE else {})}
        if case.query.get("wait") != 0 and mode is GenerationMode.NEGATIVE:
            case.query.setdefault("wait", "soon")
        answer = case.call(base_url=service.address)
        case.validate_response(answer, checks=CHECKS)
        seen.add(answer.status_code)

    run()
    assert head == 1
    assert (200 if mode is GenerationMode.POSITIVE else 400) in seen
