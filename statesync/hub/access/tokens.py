"""Tokens: the holder of one may do in its space what it grants.

A token reads ``space~id~secret``. It names its own space, so it is found by a key that begins with the space.
The secret has 256 random bits. Only its hash is kept, so it can be shown once and never again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from statesync.classes import frozen
from statesync.hub import spaces
from statesync.hub.access.rights import Right, Rights
from statesync.hub.db.database import Database
from statesync.hub.db.refusals import failures_as_refusals
from statesync.hub.errors import forbidden, unauthorized
from statesync.hub.spaces import ClientState, check_name

LAST_EXPIRY = 253_402_300_799
"""The last second that calendars have a date for, in the year 9999."""

SEPARATOR = "~"
"""The character between the parts of a token, which no JWT contains."""

_TOKEN = re.compile(r"([A-Za-z0-9._-]{1,64})~([A-Za-z0-9_-]{8,32})~([A-Za-z0-9_-]{43})")
# What a secret is compared with if there is no such token, so that the answer takes as long.
_NO_TOKEN = (hashlib.sha256(b"no token has this digest").hexdigest(), "", None, None)

_INSERT = """
INSERT INTO token (space, id, digest, rights, label, created, expires, revoked)
VALUES (?, ?, ?, ?, ?, ?, ?, NULL)
"""
_REVOKE = "UPDATE token SET revoked = ? WHERE space = ? AND id = ? AND revoked IS NULL"
_COUNT = """
SELECT count(*), count(DISTINCT space) FROM token
WHERE revoked IS NULL AND (expires IS NULL OR expires > ?)
"""
_SELECT = "SELECT space, id, rights, label, created, expires, revoked, digest FROM token WHERE space = ?"

_ADMIT = """
SELECT token.digest, token.rights, token.expires, token.revoked,
    space.hub, space.epoch, space.head, space.horizon, space.begun, receipt.number, receipt.batch
FROM token LEFT JOIN space ON space.space = token.space
LEFT JOIN receipt ON receipt.space = token.space AND receipt.client = ?
WHERE token.space = ? AND token.id = ?
"""

_RIGHTS = msgspec.json.Decoder(dict[str, frozenset[Right]])


@frozen
class Admitted(Rights):
    """What a token allows one request, and where its sender stood when that was read."""

    client: str | None = None
    state: ClientState | None = None

    def state_of(self, client: str) -> ClientState | None:
        """Return where ``client`` stood, without the answer of its receipt; None if it is not known."""
        return self.state if client == self.client else None


@frozen
class TokenRow:
    """What the hub keeps of a token; times are seconds since 1970, None for never."""

    space: str
    id: str
    rights: Mapping[str, frozenset[Right]]
    label: str
    created: int
    expires: int | None
    revoked: int | None

    def is_valid(self, now: float) -> bool:
        """Tell whether the token opens anything at ``now``."""
        return _is_valid(self.expires, self.revoked, now)


def create_token(
    database: Database,
    space: str,
    rights: Mapping[str, frozenset[Right]],
    *,
    label: str = "",
    expires: int | None = None,
) -> str:
    """Make a token for ``space`` and return its text, which cannot be had again.

    ``rights`` are granted by object, ``*`` being every object without an entry of its own. ``expires`` is in
    seconds since 1970, None for never. Raises ``Refused`` for a name that no space can have, and for a
    database that is busy or away; ``ValueError`` for an ``expires`` that no calendar has.
    """
    check_name(space)
    if expires is not None and not 0 <= expires <= LAST_EXPIRY:
        raise ValueError(f"expires is {expires}; it has to be from 0 to {LAST_EXPIRY}, in the year 9999")
    identifier, secret = secrets.token_urlsafe(9), secrets.token_urlsafe(32)
    granted = msgspec.json.encode({name: sorted(some) for name, some in rights.items()}).decode()
    row = (space, identifier, _digest(secret), granted, label, int(time.time()), expires)
    with failures_as_refusals(), database.writing():
        database.run(_INSERT, *row)
    return f"{space}~{identifier}~{secret}"


def revoke_token(database: Database, space: str, identifier: str) -> bool:
    """End a token at once; return False if the space has no such token that was still good."""
    with failures_as_refusals(), database.writing():
        return bool(database.run(_REVOKE, int(time.time()), space, identifier).rowcount == 1)


def list_tokens(database: Database, space: str) -> list[TokenRow]:
    """Return the space's tokens, oldest first; their secrets are not kept."""
    with failures_as_refusals(), database.reading():
        rows = database.run(f"{_SELECT} ORDER BY created, id", space).fetchall()
    return [_token_row(row) for row in rows]


def count_good(database: Database) -> tuple[int, int]:
    """Return how many tokens are good now, and how many spaces they open."""
    with failures_as_refusals(), database.reading():
        good, opened = database.run(_COUNT, int(time.time())).fetchone()
    return int(good), int(opened)


def admit(database: Database, space: str, token: str | None, client: str | None = None) -> Admitted:
    """Return what ``token`` allows in ``space``, and where ``client`` stands there, by one statement.

    Raises the 401 for no token and for one that is unknown, wrong, expired or revoked, all in the same
    words, and the 403 for a good one of another space.
    """
    asked = _Asked.read(token)
    with failures_as_refusals():
        rows = database.ask(_ADMIT, client or "", asked.home, asked.identifier)
    return asked.admitted(space, client, rows)


async def admit_at_once(database: Database, space: str, token: str | None, client: str) -> Admitted | None:
    """Do what ``admit`` does, in an event loop; return None if that takes a thread."""
    asked = _Asked.read(token)
    rows = await database.glance(_ADMIT, client, asked.home, asked.identifier)
    return None if rows is None else asked.admitted(space, client, rows)


class _Asked(NamedTuple):
    """A token as it came."""

    home: str
    identifier: str
    secret: str

    @classmethod
    def read(cls, token: str | None) -> _Asked:
        """Return the parts of a token; raise the 401 for what is none."""
        parts = _TOKEN.fullmatch(token or "")
        if parts is None:
            raise unauthorized()
        return cls(*parts.groups())

    def admitted(self, space: str, client: str | None, rows: Sequence[Sequence[Any]]) -> Admitted:
        """Return what the token allows by the row that was found for it; raise what ``admit`` raises."""
        digest, rights, expires, revoked, *standing = rows[0] if rows else _NO_TOKEN
        is_right = hmac.compare_digest(digest, _digest(self.secret))
        if not rows or not is_right or not _is_valid(expires, revoked, time.time()):
            raise unauthorized()
        if self.home != space:
            raise forbidden()
        holder = f"{self.home}~{self.identifier}"
        return Admitted(_rights(rights), holder, client, spaces.state_of(standing))


def _is_valid(expires: int | None, revoked: int | None, now: float) -> bool:
    return revoked is None and (expires is None or now < expires)


def _token_row(row: Sequence[Any]) -> TokenRow:
    return TokenRow(row[0], row[1], _rights(row[2]), *row[3:7])


def _digest(secret: str) -> str:
    # A plain hash is enough: nobody guesses 256 random bits, so it need not be slow.
    return hashlib.sha256(secret.encode()).hexdigest()


def _rights(text: str) -> Mapping[str, frozenset[Right]]:
    return _RIGHTS.decode(text)
