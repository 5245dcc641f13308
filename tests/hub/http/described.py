"""A live hub's answers, held against its OpenAPI document by schemathesis."""

from __future__ import annotations

from typing import Any

import schemathesis
from attrs import frozen
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@frozen
class Described:
    """The hub at ``address``, and the document that it gives out."""

    address: str
    document: dict[str, Any]

    def route(self, path: str, verb: str) -> Any:
        return schemathesis.openapi.from_dict(self.document)[path][verb]

    def cases(self, path: str, verb: str, mode: str) -> st.SearchStrategy[Any]:
        """Return requests that the document allows ("positive"), or forbids ("negative")."""
        strategy: st.SearchStrategy[Any] = self.route(path, verb).as_strategy(
            generation_mode=GenerationMode(mode)
        )
        return strategy

    def ask(self, case: Any) -> int:
        """Ask the hub, fail where its answer is none of those that are described, and return its status."""
        answer = case.call(base_url=self.address)
        case.validate_response(answer, checks=CHECKS)
        status: int = answer.status_code
        return status
