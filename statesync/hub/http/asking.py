"""What the head of a request says, whatever it asks for."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope


def check_path(scope: Scope) -> None:
    """Raise the 404 for a path with a slash in disguise: to a proxy it would be another route."""
    if b"%2f" in scope.get("raw_path", b"").lower():
        raise HTTPException(404)


def token_of(request: Request) -> str | None:
    """Return the bearer token; None if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
