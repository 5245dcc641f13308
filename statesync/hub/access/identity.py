"""Tokens of an identity provider: JWTs, signed with a key whose public half the hub has.

The claim ``statesync`` says what the holder may do: ``{"acme": {"*": ["read", "write"]}}`` grants everything
in the space ``acme``. An object's name in place of ``*`` grants that object alone.
"""

from __future__ import annotations

import hashlib

import jwt
import msgspec

from statesync.classes import frozen
from statesync.hub.access.rights import Right, Rights
from statesync.hub.errors import forbidden, unauthorized

_CLAIM = "statesync"
# Signatures only: with a shared secret, everybody who can check a token could make one.
_ALGORITHMS = ["EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]

_Grants = dict[str, dict[str, frozenset[Right]]]


@frozen
class Issuer:
    """An identity provider: its public key (PEM), and the audience and issuer that a token has to name."""

    public_key: str
    audience: str | None = None
    issuer: str | None = None

    def admit(self, space: str, token: str) -> Rights:
        """Return what ``token`` allows in ``space``; raise a 401 for a bad one, a 403 elsewhere."""
        try:
            claims = jwt.decode(
                token,
                self.public_key,
                algorithms=_ALGORITHMS,
                audience=self.audience,
                issuer=self.issuer,
                options={"require": ["exp"], "verify_aud": self.audience is not None},
            )
            grants = msgspec.convert(claims.get(_CLAIM, {}), _Grants)
        except (jwt.PyJWTError, msgspec.ValidationError) as error:
            raise unauthorized() from error
        if space not in grants:
            raise forbidden()
        return Rights(grants[space], holder=_holder(claims.get("sub"), token))


def _holder(subject: str | None, token: str) -> str:
    """Return who has the rights: the token's subject, or else the token itself, which nobody has to share."""
    return f"jwt:{subject}" if subject else f"jwt-alone:{hashlib.sha256(token.encode()).hexdigest()}"
