"""The client's side of a hub: the ``Remote`` protocol, and ``HttpRemote`` that speaks it over HTTP.

A remote does one request at a time, never retries by itself (the conversation decides that), and turns
everything that can go wrong into a ``RemoteError``. What a hub says of itself is judged here; what becomes
of the connection, in ``transport``. Both decide whether a request that failed may have been applied.
"""

from __future__ import annotations

import gzip
from typing import Protocol, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from statesync.errors import BadAnswer, RemoteError, Unauthorized, WrongHub
from statesync.wire import (
    NOT_APPLIED,
    OUTCOME_UNKNOWN,
    WRONG_HUB,
    Page,
    Problem,
    Pull,
    Push,
    PushAnswer,
    Refusal,
    Survey,
    SurveyAnswer,
)

_Answer = TypeVar("_Answer", PushAnswer, Page, SurveyAnswer)

_RETRYABLE = frozenset({408, 429})
_WORTH_PACKING = 1 << 10


class Remote(Protocol):
    """What a session needs of a hub. Every method but ``interrupt`` runs in the session's worker.

    ``push`` and ``pull`` raise ``RemoteError`` and nothing else; its ``retryable`` and ``maybe_applied``
    decide whether the session tries again and whether an upload batch is in doubt.
    """

    @property
    def space(self) -> str:
        """The space on the hub that this remote speaks to."""

    def push(self, request: Push) -> PushAnswer:
        """Offer one upload batch and return a verdict for each of its changes, in order."""

    def pull(self, request: Pull) -> Page:
        """Return the records that follow the request's cursors, in the order of their versions."""

    def interrupt(self) -> None:
        """End the request that is under way, if there is one: it raises ``ConnectionLost`` soon.

        May be called from any thread, at any time.
        """

    def close(self) -> None:
        """Release the connection. The remote may be used again afterwards."""


def refusal(status: int, problem: Problem, retry_after: float | None = None) -> RemoteError:
    """Return the error for a hub's own refusal.

    What a hub refuses it has not applied, unless it says itself that it does not know.
    """
    kind, advice = RemoteError, ""
    if status in (401, 403):
        kind = Unauthorized
    elif problem.code == WRONG_HUB:
        kind, advice = (
            WrongHub,
            ", or let reset(keep_records=True) offer this hub all records",
        )
    return kind(
        f"the hub refused the request ({status} {problem.code}): {problem.message}{advice}",
        status=status,
        problem=problem,
        retryable=status in _RETRYABLE or status >= 500,
        maybe_applied=(status == 500 and problem.code != NOT_APPLIED) or problem.code == OUTCOME_UNKNOWN,
        retry_after=retry_after,
    )


class HttpRemote:
    """A hub at ``url``, over HTTP or HTTPS with one connection that is kept alive.

    ``space`` names the set of records, ``token`` is sent as a bearer token. ``connect_timeout``,
    ``read_timeout`` and ``request_timeout`` are seconds: to connect, of silence while an answer is awaited,
    and for the whole request, however slowly its answer drips. An answer of more
    than ``max_answer`` bytes (after decompression) is refused as ``BadAnswer``. ``compress`` packs bodies
    both ways with gzip: worth it where the network is slower than the processor. ``ca_certs`` is a file
    of certificates to trust in place of the system's.

    Raises ``BadOptions`` for an address that is not http:// or https://, and for a ``ca_certs`` that
    holds no certificates.
    """

    def __init__(
        self,
        url: str,
        space: str,
        token: str | None = None,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        request_timeout: float = 600.0,
        max_answer: int = 64 << 20,
        compress: bool = False,
        ca_certs: str | None = None,
    ) -> None:
        # Loaded with the first remote: a program that works offline starts a third sooner without it.
        from statesync.net.transport import Timeouts, Transport

        self._space = space
        self._url = url
        self._compress = compress
        timeouts = Timeouts(connect_timeout, read_timeout, request_timeout)
        self._transport = Transport(url, timeouts, max_answer, ca_certs)
        self._path = f"{urlsplit(url).path.rstrip('/')}/v1/spaces/{quote(space, safe='')}"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if compress:
            self._headers["Accept-Encoding"] = "gzip"
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    @property
    def space(self) -> str:
        """The space on the hub that this remote speaks to."""
        return self._space

    def push(self, request: Push) -> PushAnswer:
        """Offer one upload batch; see ``Remote.push``."""
        return self._ask("push", request, PushAnswer)

    def pull(self, request: Pull) -> Page:
        """Fetch one page; see ``Remote.pull``."""
        return self._ask("pull", request, Page)

    def survey(self, request: Survey) -> SurveyAnswer:
        """Ask what the hub has of one object; raises ``RemoteError``."""
        return self._ask("survey", request, SurveyAnswer)

    def interrupt(self) -> None:
        """Shut the connection under a waiting request; see ``Remote.interrupt``."""
        self._transport.cut()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._transport.close()

    def _ask(self, verb: str, request: Push | Pull | Survey, kind: type[_Answer]) -> _Answer:
        sent, headers = self._packed(msgspec.json.encode(request))
        status, retry_after, body = self._transport.exchange(f"{self._path}/{verb}", sent, headers)
        if status != 200:
            raise self._refused(status, retry_after, body)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadAnswer(
                f"{self._url} answered something that is no {verb} answer ({error}); is it a statesync hub?",
                status=status,
                maybe_applied=True,
            ) from error

    def _packed(self, body: bytes) -> tuple[bytes, dict[str, str]]:
        if not self._compress or len(body) < _WORTH_PACKING:
            return body, self._headers
        return gzip.compress(body, compresslevel=1, mtime=0), self._headers | {"Content-Encoding": "gzip"}

    def _refused(self, status: int, retry_after: float | None, body: bytes) -> RemoteError:
        try:
            return refusal(status, msgspec.json.decode(body, type=Refusal).error, retry_after)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            # Not a hub's own words: perhaps a proxy's, which cannot know what the hub has done.
            return BadAnswer(
                f"{self._url} answered {status} and no hub's error document ({error}); "
                "is it a statesync hub?",
                status=status,
                retryable=status in _RETRYABLE or status >= 500,
                maybe_applied=status >= 500 or status == 408,
                retry_after=retry_after,
            )
