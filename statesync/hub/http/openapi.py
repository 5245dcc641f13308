"""The hub's OpenAPI 3.1 document. Its shapes are made from the wire's own, so the two cannot drift apart."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Annotated, Any

import msgspec

from statesync import wire
from statesync.hub.http.waiting.changes import LONGEST, USUAL

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern="^[^\\u0000]*$")]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Name = Annotated[str, msgspec.Meta(max_length=wire.MAX_KEY_LENGTH, pattern="^[^\\u0000]*$")]


_Bound = Annotated[str, msgspec.Meta(pattern="^[^\\u0000]*$")]


class Push(wire.Push, frozen=True):
    """One upload batch: it is applied whole, or not at all."""

    client: _Text
    batch: _Text
    head: wire.Version = 0
    changes: list[wire.Change]  # type: ignore[assignment]


class Scan(wire.Scan, frozen=True, omit_defaults=True):
    """How far a read of one object in the order of its keys has come; {} for one that begins."""

    since: wire.Version = 0
    after: _Name = ""
    until: _Name = ""


class Feed(wire.Feed, frozen=True, omit_defaults=True):
    """How one object is to be read."""

    cursor: wire.Version
    begun: wire.Version = 0
    scan: Scan | None = None


class Pull(wire.Pull, frozen=True):
    """Ask for one page of the records that follow the cursors."""

    client: _Text
    head: wire.Version = 0
    objects: dict[_Name, Feed]  # type: ignore[assignment]
    limit: _Count


class Survey(wire.Survey, frozen=True):
    """Ask what the hub has of one object."""

    client: _Text
    object: _Name
    columns: list[_Name]
    bounds: Annotated[list[_Bound], msgspec.Meta(min_length=1)]
    until: _Bound | None = None


class Health(msgspec.Struct, frozen=True):
    """What the health and readiness routes answer."""

    status: str


_REFUSALS = {
    400: "The head says two things, or the body is not the document that the route asks for (`malformed`).",
    401: "No bearer token, or none that is good (`unauthorized`).",
    403: "The token does not allow this, here or at all (`forbidden`).",
    404: "There is no such route (`not_found`), or nothing in the space yet that a survey could find "
    "(`nothing_here`).",
    405: "The route has no such method (`method_not_allowed`).",
    408: "The body did not come as fast as it has to (`too_slow`).",
    409: "`wrong_hub`, `epoch_changed`, `client_forked`: device and hub do not agree on where they stand; "
    "`epoch_awaited`: they will in Retry-After seconds; `versions_used_up`: the space can take no more.",
    410: "A cursor is older than the deletes that are still known (`horizon_passed`): read everything again.",
    413: "The body is over its limit (`body_too_large`), or grows too much when unpacked (`ratio_too_high`); "
    "the batch meets or changes too much that is stored (`answer_too_large`, `batch_too_large`).",
    415: "The body has a content coding that the hub does not know (`unsupported_encoding`).",
    422: "A limit is passed, which the message names (`batch_too_large`, `too_deep`, `too_many_objects`, "
    "`too_many_columns`, `too_many_bounds`, `filter_too_large`, `survey_too_long`, `too_many_spaces`), or "
    "there can be no such space (`bad_space`) or batch (`duplicate_key`).",
    429: "Too many requests with this token (`too_many_requests`); Retry-After says when to come again.",
    500: "A defect of the hub (`internal_error`); `not_applied`: nothing of the batch was applied.",
    503: "Busy (`busy`), without its database (`database_unavailable`), or with one that only reads "
    "(`database_read_only`); `outcome_unknown`: send the same again. Retry-After says when.",
    507: "The hub's disk is full (`storage_full`), and nothing was applied. Retry-After says when.",
}
_OF_EVERY_ROUTE = (400, 404, 405, 500)
_OF_A_QUESTION = (*_OF_EVERY_ROUTE, 401, 403, 422, 429, 503, 507)


@cache
def document() -> bytes:
    """Return the OpenAPI document as JSON."""
    shapes = [
        Push,
        wire.PushAnswer,
        Pull,
        wire.Page,
        Survey,
        wire.SurveyAnswer,
        wire.Signal,
        wire.Refusal,
        Health,
    ]
    _, schemas = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "statesync hub",
                "version": version("statesync"),
                "description": "Records of offline-first devices: push changes, pull what others changed.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "paths": _paths(),
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _paths() -> dict[str, Any]:
    return {
        "/v1/spaces/{space}/push": {
            "parameters": [_space()],
            "post": _operation("push", "Offer one upload batch", "Push", "PushAnswer"),
        },
        "/v1/spaces/{space}/pull": {
            "parameters": [_space()],
            "post": _operation("pull", "Fetch one page", "Pull", "Page"),
        },
        "/v1/spaces/{space}/survey": {
            "parameters": [_space()],
            "post": _operation("survey", "Ask what the hub has, to compare", "Survey", "SurveyAnswer"),
        },
        "/v1/spaces/{space}/changes": {
            "parameters": [_space(), _since(), _wait()],
            "get": _guarded("changes", "Wait until the head has moved", "Signal", _OF_A_QUESTION)
            | {"description": "Answers as soon as the head differs from `since`, or after `wait` seconds."},
        },
        "/healthz": {"get": _question("health", "Does the process run?", ())},
        "/readyz": {"get": _question("ready", "Can requests be served now?", (503, 507))},
        "/openapi.json": {"get": _question("openapi", "This document", (), {"type": "object"})},
    }


def _operation(name: str, summary: str, request: str, answer: str) -> dict[str, Any]:
    return {
        **_guarded(name, summary, answer, tuple(_REFUSALS)),
        "description": "Bodies may be packed, both ways: Content-Encoding and Accept-Encoding gzip or zstd.",
        "requestBody": {"required": True, "content": _content(_reference(request))},
    }


def _guarded(name: str, summary: str, answer: str, refusals: tuple[int, ...]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        # A hub that was opened to everybody asks for no token.
        "security": [{"token": []}, {}],
        "responses": _responses(_reference(answer), refusals),
    }


def _question(
    name: str, summary: str, refusals: tuple[int, ...], schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": _responses(schema or _reference("Health"), (*_OF_EVERY_ROUTE, *refusals)),
    }


def _responses(answer: dict[str, Any], refusals: tuple[int, ...]) -> dict[str, Any]:
    success = {"200": {"description": "Done.", "content": _content(answer)}}
    refused = {
        str(status): {"description": _REFUSALS[status], "content": _content(_reference("Refusal"))}
        for status in sorted(refusals)
    }
    return success | refused


def _space() -> dict[str, Any]:
    schema = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
    return {"name": "space", "in": "path", "required": True, "schema": schema}


def _since() -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0, "maximum": wire.MAX_VERSION, "default": 0}
    return {"name": "since", "in": "query", "schema": schema}


def _wait() -> dict[str, Any]:
    schema = {"type": "number", "minimum": 0, "maximum": LONGEST, "default": USUAL}
    return {"name": "wait", "in": "query", "schema": schema}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
