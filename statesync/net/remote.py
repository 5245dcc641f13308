"""The client's side of a hub: ``HttpRemote``, a ``Remote`` over HTTP.

A remote does one request at a time, never retries by itself (the conversation decides that), and turns
everything that can go wrong into a ``RemoteError``. What a hub says of itself is judged here; what becomes
of the connection, in ``transport``. Both decide whether a request that failed may have been applied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from statesync.checks import is_utf8
from statesync.errors import BadAnswer, BadOptions, RemoteError, Unauthorized, WrongHub
from statesync.net.identity.tokens import Token, TokenSource
from statesync.net.options import ClientCertificate, Timeouts, Trust
from statesync.net.signals import Signals
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

if TYPE_CHECKING:
    from statesync.net.transport import RawAnswer, Transport

_Answer = TypeVar("_Answer", PushAnswer, Page, SurveyAnswer)

_RETRYABLE = frozenset({408, 429})
_NOT_PROCESSED = frozenset({401, 407, 411, 413, 414, 415, 417, 421, 422, 426, 431})
"""Statuses that say, whoever answers, that the request itself was looked at and not processed (RFC 9110, RFC
6585). Any other page may stand in the place of an answer of the hub's: a filter for answers says 403 or 406
after a push was applied, and 303 follows what was done."""

NEWS_TIMEOUT = 15.0
"""Seconds that a question for news is silent at most once its wait is over; a hub needs ten of them."""

_WORTH_PACKING = 1 << 10
_IN_A_PATH = "/%:@!$&'()*+,;=~"


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

    ``space`` names the set of records. ``token`` is sent as a bearer token: a text, or a function that
    returns one, or None where there is none at present. It is asked before the first request, and once more
    when the hub refuses what it gave (401); the request is sent again with what it gives then, if that is
    another one. It is called in threads of the library's, by one at a time. What it raises is told without
    its words: they might quote a token. ``connect_timeout``, ``read_timeout`` and ``request_timeout`` are
    seconds: to connect (to look the name up, to reach one of its addresses, to pass a proxy and to begin
    TLS, all together), of silence while an answer is awaited, and for the whole request, however slowly its
    answer drips. An answer of more than ``max_answer`` bytes (after decompression) is refused as
    ``BadAnswer``. ``compress`` packs bodies both ways with gzip, or has the hub answer in zstd where this
    Python reads that (3.14, or the extra ``zstd``): worth it where the network is slower than the processor.

    ``proxy`` is the address of an HTTP proxy, ``http://user:password@proxy:3128`` or https. By default it is
    what the environment's ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say, which never
    concerns a hub on the same machine; None passes by all of them. ``client_certificate`` is what the hub, or
    the server before it, knows the device by. ``ca_certs`` is a file of certificates to trust in place of the
    usual ones. ``trust`` says which those are: OpenSSL's (``"openssl"``), or those of the operating system's
    own store (``"system"``, which takes the extra ``truststore``), where companies put theirs.

    Raises ``BadOptions`` for an address that is none, of a hub or of a proxy; for a token with characters
    that none has, and a space that UTF-8 cannot write; and for files that do not hold the certificates or
    the key that they are named for.
    """

    def __init__(
        self,
        url: str,
        space: str,
        token: str | TokenSource | None = None,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        request_timeout: float = 600.0,
        max_answer: int = 64 << 20,
        compress: bool = False,
        proxy: str | None = "environment",
        ca_certs: str | None = None,
        trust: Trust = "openssl",
        client_certificate: ClientCertificate | None = None,
    ) -> None:
        # Loaded with the first remote: a program that works offline starts a third sooner without it.
        from statesync.net.answers import ACCEPTED
        from statesync.net.transport import Transport, Way

        self._space = space
        self._url = url
        self._compress = compress
        _check_texts(url, space)
        timeouts = Timeouts(connect_timeout, read_timeout, request_timeout)
        way = Way(proxy, ca_certs, trust, client_certificate)
        self._transport = Transport(url, timeouts, max_answer, way)
        self._timeouts, self._way = timeouts, way
        self._path = _path_of(url, space)
        self._same_headers = {
            "Accept": "application/json",
            "User-Agent": "statesync",
        }
        if compress:
            self._same_headers["Accept-Encoding"] = ACCEPTED
        self._token = Token(token)
        self._token_watchers: dict[Callable[[], object], None] = {}

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

    def signals(self) -> Signals:
        """Return who asks for news, on a connection of its own; its time-outs begin when the wait is over.

        That of silence is 15 seconds at most: a connection that is idle for so long may have died.
        """
        from statesync.keeping.asking import LONGEST_WAIT
        from statesync.net.asking import HttpSignals
        from statesync.net.transport import Transport

        known = self._timeouts
        silence = LONGEST_WAIT + min(known.read, NEWS_TIMEOUT)
        timeouts = Timeouts(known.connect, silence, known.request + LONGEST_WAIT)
        transport = Transport(self._url, timeouts, 1 << 16, self._way)

        def get(question: str) -> RawAnswer:
            return self._exchanged(transport, question, None, self._headers, "GET")

        return HttpSignals(transport, get, self._refused)

    def renew_token(self, token: str | TokenSource | None) -> None:
        """Take another token, for the next request on; keepers that wait for one go on. From any thread.

        Give the function again to have it asked again. Raises ``BadOptions`` for a text that is no token.
        """
        self._token = Token(token)
        for tell in list(self._token_watchers):
            tell()

    def watch_token(self, tell: Callable[[], object]) -> None:
        """Call ``tell``, which returns at once, whenever there is another token."""
        self._token_watchers[tell] = None

    def unwatch_token(self, tell: Callable[[], object]) -> None:
        """Call it no more."""
        self._token_watchers.pop(tell, None)

    def interrupt(self) -> None:
        """Shut the connection under a waiting request; see ``Remote.interrupt``."""
        self._transport.cut()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._transport.close()

    def _ask(self, verb: str, request: Push | Pull | Survey, kind: type[_Answer]) -> _Answer:
        sent, headers = self._packed(msgspec.json.encode(request))
        status, retry_after, body = self._exchanged(self._transport, verb, sent, headers, "POST")
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

    def _exchanged(
        self, transport: Transport, what: str, body: bytes | None, headers: dict[str, str], method: str
    ) -> RawAnswer:
        """Make a request, and make it again where the hub refuses its token and there is another one."""
        path = f"{self._path}/{what}"
        answer = transport.exchange(path, body, headers, method)
        if answer.status != 401 or (renewed := self._token.renewed(headers)) is None:
            return answer
        return transport.exchange(path, body, headers | renewed, method)

    @property
    def _headers(self) -> dict[str, str]:
        """What every request says. Raises ``Unauthorized`` where a function gives no token."""
        return self._same_headers | self._token.headers()

    def _packed(self, body: bytes) -> tuple[bytes, dict[str, str]]:
        headers = self._headers | {"Content-Type": "application/json"}
        if not self._compress or len(body) < _WORTH_PACKING:
            return body, headers
        import gzip  # few requests are that large

        return gzip.compress(body, compresslevel=1, mtime=0), headers | {"Content-Encoding": "gzip"}

    def _refused(self, status: int, retry_after: float | None, body: bytes) -> RemoteError:
        try:
            return refusal(status, msgspec.json.decode(body, type=Refusal).error, retry_after)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            # Not a hub's own words: perhaps a proxy's, which need not know what the hub has done.
            return BadAnswer(
                f"{self._url} answered {status} and no hub's error document ({error}); "
                "is it a statesync hub?",
                status=status,
                retryable=status in _RETRYABLE or status >= 500,
                maybe_applied=status not in _NOT_PROCESSED,
                retry_after=retry_after,
            )


def _check_texts(*texts: object) -> None:
    """Refuse an address or a space that is no text; neither is shown, for it may be anything."""
    if not all(isinstance(text, str) and is_utf8(text) for text in texts):
        raise BadOptions("the hub's address and the name of the space have to be texts that UTF-8 can write")


def _path_of(url: str, space: str) -> str:
    """Return where a space is at a hub."""
    base = quote(urlsplit(url).path.rstrip("/"), safe=_IN_A_PATH)
    return f"{base}/v1/spaces/{quote(space, safe='')}"
