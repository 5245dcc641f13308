"""The hub itself, without HTTP: requests go in as bytes, answers come out as bytes, ``Refused`` is raised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from statesync.hub import epochs, push, requests, retention, spaces, survey
from statesync.hub.access import tokens
from statesync.hub.access.rates import Rates, cost_of_body, cost_of_work
from statesync.hub.access.rights import ALL_RIGHTS, Right, Rights
from statesync.hub.access.tokens import Admitted
from statesync.hub.db.database import Database, defects_as_refusals, failures_as_refusals
from statesync.hub.db.opening import open_ready, useful_connections
from statesync.hub.errors import Refused, nothing_here, refused
from statesync.hub.limits import Ask, HubLimits, unbounded
from statesync.hub.pages import pull
from statesync.hub.push import Terms
from statesync.hub.requests import PushRequest
from statesync.hub.retention import Retention
from statesync.hub.signals.opening import watch_over
from statesync.hub.signals.watch import Watch
from statesync.hub.spaces import ClientState
from statesync.wire import Pull, Survey

if TYPE_CHECKING:
    from statesync.hub.access.identity import Issuer

_Outcome = TypeVar("_Outcome")
_Found = TypeVar("_Found")

_MOST_AMID = 1000
"""Clients of which it is known that they are amid a read."""

_READY_SECONDS = 1.0
"""Seconds for which it holds that the database could be written."""


class Hub:
    """The hub over the database at ``url``. It holds no state of its own, so run as many as you like.

    ``without_tokens`` lets everybody do everything. ``objects`` are the names of the objects that records
    may belong to (None: any). ``issuer`` is an identity provider whose tokens are good here too.
    ``connections`` is how many transactions run at once, on SQLite besides those that write (None: 2 there,
    and 8 on PostgreSQL), ``patience`` how many seconds a request waits for its turn, ``retention`` how long
    deletes are remembered.

    Raises ``BadDatabase``, ``HubNotReady`` and ``HubTooNew``. All methods may be called from any thread.
    """

    def __init__(
        self,
        url: str,
        *,
        without_tokens: bool = False,
        limits: HubLimits | None = None,
        objects: Iterable[str] | None = None,
        issuer: Issuer | None = None,
        connections: int | None = None,
        patience: float = 10.0,
        retention: Retention | None = None,
    ) -> None:
        self.url = url
        self.limits: HubLimits = limits or HubLimits()
        self.connections: int = connections or useful_connections(url)
        self.patience = patience
        self._without_tokens = without_tokens
        self._retention = retention or Retention()
        self._issuer = issuer
        self._rates = Rates()
        self._ready_until = 0.0
        self._asked = 0
        self._amid: dict[tuple[str, str], None] = {}
        """Spaces and clients whose last page here was not the last one there is; some of them."""
        self._objects = None if objects is None else frozenset(objects)
        self.database: Database = open_ready(url, connections=self.connections, patience=patience)
        self.watch: Watch = watch_over(self.database)

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in, and no database is asked who it is."""
        return self._without_tokens

    def admit(self, space: str, token: str | None, right: Right, client: str | None = None) -> Rights:
        """Return what ``token`` allows in ``space``, and count the request for its rate.

        Where ``client`` stands is read in the same statement. So what is returned is for one request of that
        client, which is made at once. Raises ``Refused``: 401 for no good token, 403 without ``right``, 429
        for too many requests.
        """
        return self._counted(space, self._known(space, token, client), right)

    def admit_again(self, space: str, token: str | None, right: Right) -> Rights:
        """Return what ``token`` allows now, for a request that was admitted; raises its 401 or 403.

        A token may have ended, or have fewer rights, since the body began to come.
        """
        rights = self._known(space, token, None)
        rights.require_to_ask(right)
        return rights

    async def admit_at_once(self, space: str, token: str | None, right: Right) -> Rights | None:
        """Do what ``admit`` does, in an event loop; return None if that takes a thread."""
        if self._without_tokens:
            return self._counted(space, ALL_RIGHTS, right)
        if self._issuer is not None:
            return None
        rights = await tokens.admit_at_once(self.database, space, token, "")
        return None if rights is None else self._counted(space, rights, right)

    def push(self, space: str, body: bytes, rights: Rights = ALL_RIGHTS) -> bytes:
        """Apply the batch in ``body`` (a ``wire.Push``) whole or not at all; return a ``wire.PushAnswer``.

        Raises ``Refused``; nothing was applied then, unless its code is ``outcome_unknown``.
        """
        return self.take_push(space, body, rights)()

    def take_push(self, space: str, body: bytes, rights: Rights) -> Callable[[], bytes]:
        """Read the batch in ``body``, which takes no database; return what applies it, see ``push``."""
        self._pay(rights, body)
        with defects_as_refusals():
            request = requests.read_push(body, self.limits)
            if not rights.has_somewhere(Right.WRITE):
                return partial(self._repeated, space, request, rights)
            terms = push.terms_of(request, rights, self._objects, self.limits)
        return partial(self._apply, space, request, terms)

    def pull(self, space: str, body: bytes, rights: Rights = ALL_RIGHTS, ask: Ask = unbounded) -> bytes:
        """Return the page (a ``wire.Page``) that follows the request in ``body`` (a ``wire.Pull``).

        A space that is new is made; one that is behind a reader that may write begins a new epoch. ``ask``
        tells how large the page may be made. Raises ``Refused``, and ``NoMemory`` for a page that is not
        short, where ``ask`` does not even allow it to be begun.
        """
        return self.take_pull(space, body, rights, ask)()

    def take_pull(self, space: str, body: bytes, rights: Rights, ask: Ask = unbounded) -> Callable[[], bytes]:
        """Read the request in ``body``, which takes no database; return what answers it, see ``pull``."""
        self._pay(rights, body)
        request = requests.read_pull(body, self.limits)
        rights.require(Right.READ, request.objects)
        return partial(self._page, space, request, rights, ask)

    async def pull_at_once(
        self, space: str, body: bytes, token: str | None, let_in: Callable[[Rights], None]
    ) -> bytes | None:
        """Return the page of a pull that finds nothing new, in an event loop; None if it takes a thread.

        ``let_in`` is called with what the token allows, once that is known; what takes a thread goes on with
        that. Raises ``Refused``.
        """
        client = requests.sender_of(body)
        if client is None or self._issuer is not None or (space, client) in self._amid:
            return None
        rights: Rights | None
        if self._without_tokens:
            state = await spaces.glance(self.database, space, client)
            rights = ALL_RIGHTS if state is None else Admitted(ALL_RIGHTS.grants, client=client, state=state)
        else:
            rights = await tokens.admit_at_once(self.database, space, token, client)
            state = None if rights is None else _standing(rights, client)
        if rights is None:
            return None
        let_in(self._counted(space, rights, Right.READ))
        return None if state is None else self._nothing_new(body, rights, state)

    def survey(self, space: str, body: bytes, rights: Rights = ALL_RIGHTS) -> bytes:
        """Return what the hub has (a ``wire.SurveyAnswer``) of what ``body`` (a ``wire.Survey``) asks for.

        Raises ``Refused``.
        """
        return self.take_survey(space, body, rights)()

    def take_survey(self, space: str, body: bytes, rights: Rights) -> Callable[[], bytes]:
        """Read the request in ``body``, which takes no database; return what answers it, see ``survey``."""
        self._pay(rights, body)
        request = requests.read_survey(body, self.limits)
        rights.require(Right.READ, {request.object})
        return partial(self._surveyed, space, request, rights)

    def purge(self, space: str, through: int) -> int:
        """Forget the deletes up to the version ``through``; return how many there were.

        Devices whose cursors are older have to read everything again. Raises ``Refused``.
        """
        with failures_as_refusals():
            return retention.forget(self.database, space, through)

    def begin_epoch(self, space: str) -> None:
        """Begin a new epoch in ``space``: every device reads it again, and offers what it lacks.

        It is for whoever has restored the database from a backup, before any device has come back: so no
        version is given out twice. Raises ``Refused``.
        """
        with failures_as_refusals(), self.database.writing():
            epochs.begin_by_hand(self.database, space)
        self.watch.moved(space)

    def check_ready(self) -> None:
        """Raise ``Refused`` (503, 507) if the database cannot be written now, or nearly not any more.

        Databases tell only whoever writes, so that they are asked once a second at most; at once, if a
        request has met what whoever runs the hub has to mend, such as a full disk, or if a file is away.
        """
        if time.monotonic() < self._ready_until and self.database.seems_well():
            return
        with failures_as_refusals():
            self.database.check_writable()
        self._ready_until = time.monotonic() + _READY_SECONDS

    def close(self) -> None:
        """Close the database; requests that are under way close what they use at their end.

        Who waits for a head to move is told to come again.
        """
        self.watch.close()
        self.database.close()

    def _known(self, space: str, token: str | None, client: str | None) -> Rights:
        return ALL_RIGHTS if self._without_tokens else self._identify(space, token, client)

    def _counted(self, space: str, rights: Rights, right: Right) -> Rights:
        """Return ``rights`` if they are enough, and count the request."""
        rights.require_to_ask(right)
        spaces.check_name(space)
        self._rates.spend(rights.holder, self.limits)
        self._asked += 1
        return rights

    def _nothing_new(self, body: bytes, rights: Rights, state: ClientState) -> bytes | None:
        request = requests.read_pull(body, self.limits)
        rights.require(Right.READ, request.objects)
        page = pull.nothing_new(request, self.limits, state, may_begin=rights.has_somewhere(Right.WRITE))
        if page is not None:
            self._pay(rights, body)
            self._rates.charge(rights.holder, self.limits, cost_of_work(0, len(page)))
        return page

    def _pay(self, rights: Rights, body: bytes) -> None:
        """Pay for the body before it is read; ``admit`` has taken 1 for the request."""
        self._rates.spend(rights.holder, self.limits, cost_of_body(len(body)), paid=1)

    def _identify(self, space: str, token: str | None, client: str | None) -> Rights:
        if self._issuer is not None and token is not None and tokens.SEPARATOR not in token:
            return self._issuer.admit(space, token)
        return tokens.admit(self.database, space, token, client)

    def _apply(self, space: str, request: PushRequest, terms: Terms) -> bytes:
        answer, effort = b"", terms.effort
        apply = partial(push.apply_batch, self.database, space, request, terms, self._retention)
        look_up = partial(push.look_up, self.database, space, request, terms)
        try:
            answer = self._write(space, request.envelope.client, apply, look_up).encode()
        finally:
            cost = cost_of_work(effort.records, effort.size + len(answer))
            self._rates.charge(terms.rights.holder, self.limits, cost)
        return answer

    def _repeated(self, space: str, request: PushRequest, rights: Rights) -> bytes:
        """Answer the repeat of a batch whose sender may not write any more; raise the 403 for all else."""
        with failures_as_refusals(), self.database.reading():
            state = spaces.find(self.database, space, request.envelope.client)
            if state is None or not push.is_repeat(state, request.envelope):
                rights.require_somewhere(Right.WRITE)
            answer = push.answer_again(self.database, space, request, rights).encode()
        self._rates.charge(rights.holder, self.limits, cost_of_work(0, len(answer)))
        return answer

    def _page(self, space: str, request: Pull, rights: Rights, ask: Ask) -> bytes:
        asked, may_begin = (self.database, space, request, self.limits), rights.has_somewhere(Right.WRITE)
        read = partial(pull.answer, *asked, may_begin=may_begin, ask=ask)
        with failures_as_refusals():
            is_amid = (space, request.client) in self._amid
            answer = read(seen=_standing(rights, request.client), is_amid=is_amid)
            if answer is None:

                def renew(state: ClientState, _found: None) -> Refused | None:
                    return pull.renew(*asked, state, may_begin=may_begin)

                self._write(space, request.client, renew, lambda: None)
                answer = read()
            if answer is None:
                raise refused(503, "busy", f"the space {space!r} is being changed; try again", 1)
        self._rates.charge(rights.holder, self.limits, cost_of_work(answer.records, len(answer.page)))
        self._note_amid(space, request.client, more=answer.more)
        return answer.page

    def _note_amid(self, space: str, client: str, *, more: bool) -> None:
        """Note whether a client's next pull takes a thread in any case, so that nobody looks before.

        It is a guess, and a wrong one costs a look or a thread.
        """
        if not more:
            self._amid.pop((space, client), None)
        elif len(self._amid) < _MOST_AMID:
            self._amid[space, client] = None
        else:
            self._amid = {}

    def _surveyed(self, space: str, request: Survey, rights: Rights) -> bytes:
        pace, answer = survey.Pace(self.limits.survey_seconds, lambda: self._asked), b""
        try:
            with failures_as_refusals(), self.database.reading():
                state = spaces.find(self.database, space, request.client)
                if state is None:
                    raise nothing_here()
                answer = survey.answer(self.database, space, state, request, pace)
        finally:
            cost = cost_of_work(pace.records, len(answer) + pace.size, len(request.columns))
            self._rates.charge(rights.holder, self.limits, cost)
        return answer

    def _write(
        self,
        space: str,
        client: str,
        step: Callable[[ClientState, _Found], _Outcome | Refused],
        ask: Callable[[], _Found],
    ) -> _Outcome:
        """Run ``step`` in a transaction that holds the space's row, and return what it returns.

        ``ask`` begins to read, under that lock, what the step is given besides the client's state. A refusal
        that it returns is raised once the transaction is committed: the epoch that it tells of, of a space
        that may be new, must not be rolled back.
        """

        def locked() -> _Outcome | Refused:
            most = self.limits.spaces
            return step(*spaces.lock_and_ask(self.database, space, client, most, ask))

        try:
            with failures_as_refusals(), defects_as_refusals():
                outcome = self.database.write(locked)
        finally:
            self.watch.moved(space)  # also where nobody knows what has become of the commit
        if isinstance(outcome, Refused):
            raise outcome
        return outcome


def _standing(rights: Rights, client: str) -> ClientState | None:
    """Return where the client stood when its token was read, if it was asked for then."""
    return rights.state_of(client) if isinstance(rights, Admitted) else None
