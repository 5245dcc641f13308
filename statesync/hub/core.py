"""The hub itself, without HTTP: requests go in as bytes, answers come out as bytes, ``Refused`` is raised."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import peewee
from playhouse.pool import MaxConnectionsExceeded  # type: ignore[import-untyped]

from statesync.hub import distribution, offers, pulling, pushing, schema, spaces, surveying, tokens
from statesync.hub.database import Database, open_database
from statesync.hub.errors import Refused, epoch_changed, refused
from statesync.hub.limits import HubLimits
from statesync.hub.pulling import Reading
from statesync.hub.rates import Rates
from statesync.hub.retention import Retention
from statesync.hub.rights import ALL_RIGHTS, Right, Rights
from statesync.hub.spaces import Standing
from statesync.wire import Pull

if TYPE_CHECKING:
    from statesync.hub.identity import Issuer


_log = logging.getLogger(__name__)


def prepare(url: str, *, distributed: bool = False) -> int:
    """Make the hub's tables in the database at ``url``, or bring them to this version.

    Returns the number of migrations that ran. With ``distributed`` the tables are spread by their space
    over the machines of a PostgreSQL with the Citus extension. Raises ``BadDatabase``, ``HubTooNew`` and
    ``CannotDistribute``; after the last the tables are there, undistributed.
    """
    database = open_database(url)
    try:
        done = schema.prepare(database)
        if distributed:
            distribution.distribute(database)
        return done
    finally:
        database.close()


class Hub:
    """The hub over the database at ``url``; it holds no state of its own, so run as many as you like.

    ``without_tokens`` lets everybody do everything. ``objects`` are the names of the objects that records
    may belong to (None: any). ``issuer`` is an identity provider whose tokens are good here too.
    ``connections`` is how many transactions run at once, ``patience`` how many seconds a request waits for
    its turn, ``retention`` how long deletes are remembered.

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
        connections: int = 8,
        patience: float = 10.0,
        retention: Retention | None = None,
    ) -> None:
        self.url = url
        self.limits: HubLimits = limits or HubLimits()
        self.connections = connections
        self._without_tokens = without_tokens
        self._retention = retention or Retention()
        self._issuer = issuer
        self._rates = Rates()
        self._objects = None if objects is None else frozenset(objects)
        self.database: Database = open_database(url, connections=connections, patience=patience)
        try:
            schema.check(self.database)
        except BaseException:
            self.database.close()
            raise

    def admit(self, space: str, token: str | None, right: Right) -> Rights:
        """Return what ``token`` allows in ``space``.

        Raises ``Refused``: 401 for no good token, 403 without ``right``, 429 for too many requests.
        """
        rights = ALL_RIGHTS if self._without_tokens else self._identify(space, token)
        rights.require_somewhere(right)
        spaces.check_name(space)
        self._rates.spend(rights.holder, self.limits)
        return rights

    def push(self, space: str, body: bytes, rights: Rights = ALL_RIGHTS) -> bytes:
        """Apply the batch in ``body`` (a ``wire.Push``) whole or not at all; return a ``wire.PushAnswer``.

        Raises ``Refused``; nothing was applied then, unless its code is ``outcome_unknown``.
        """
        offer = offers.read_push(body, self.limits)
        rights.require(Right.WRITE, {change.object for change in offer.changes})
        rejections = {
            place: rejection
            for place, change in enumerate(offer.changes)
            if (rejection := offers.rejection(change, self._objects, self.limits))
        }
        with _database_errors(), self.database.writing():
            standing = spaces.lock(self.database, space, offer.push.client, self.limits.spaces)
            outcome = pushing.push(self.database, space, standing, offer, rejections, self._retention)
        if isinstance(outcome, Refused):
            raise outcome
        return outcome.encode()

    def pull(self, space: str, body: bytes, rights: Rights = ALL_RIGHTS) -> bytes:
        """Return the page (a ``wire.Page``) that follows the request in ``body`` (a ``wire.Pull``).

        Raises ``Refused``.
        """
        request = offers.read_pull(body, self.limits)
        rights.require(Right.READ, request.objects)
        with _database_errors():
            reading = self._read(space, request)
            if reading is None:
                self._settle(space, request)
                reading = self._read(space, request)
            if reading is None:
                raise refused(503, "busy", f"the space {space!r} is being changed; try again", 1)
            if reading.first_reads:
                self._remember(space, request, reading)
        return reading.page

    def survey(self, space: str, body: bytes, rights: Rights = ALL_RIGHTS) -> bytes:
        """Return what the hub has (a ``wire.SurveyAnswer``) of what ``body`` (a ``wire.Survey``) asks for.

        Raises ``Refused``.
        """
        request = offers.read_survey(body, self.limits)
        rights.require(Right.READ, {request.object})
        with _database_errors(), self.database.reading():
            standing = spaces.look(self.database, space, request.client)
            if standing is None:
                raise refused(404, "nothing_here", "nothing was ever synced with this space")
            return surveying.survey(self.database, space, standing, request)

    def purge(self, space: str, through: int) -> int:
        """Forget the deletes up to the version ``through``; return how many there were.

        Devices whose cursors are older have to read everything again.
        """
        with _database_errors(), self.database.writing():
            return spaces.purge(self.database, space, through)

    def check_ready(self) -> None:
        """Raise ``Refused`` (503) if the database cannot be reached."""
        with _database_errors(), self.database.asking():
            self.database.run("SELECT 1").fetchone()

    def close(self) -> None:
        """Close the database; requests that are under way fail."""
        self.database.close()

    def _identify(self, space: str, token: str | None) -> Rights:
        if self._issuer is not None and token is not None and tokens.MARK not in token:
            return self._issuer.admit(space, token)
        with _database_errors():
            return tokens.admit(self.database, space, token)

    def _read(self, space: str, request: Pull) -> Reading | None:
        """Return the page, or None if the space has to be written first: it is new, or was restored."""
        with self.database.asking():
            standing = self._look(space, request)
            if standing is not None and not pulling.is_behind(standing, request):
                return pulling.empty_page(standing, request)  # the commonest pull is one statement
            with self.database.one_state():
                standing = self._look(space, request)
                if standing is None:
                    return None
                pulling.check_horizon(self.database, space, standing, request)
                return pulling.read_page(self.database, space, standing, request, self.limits)

    def _look(self, space: str, request: Pull) -> Standing | None:
        standing = spaces.look(self.database, space, request.client)
        if standing is None:
            return None
        pulling.check_pull(standing, request)
        return None if pulling.is_ahead(standing, request) else standing

    def _remember(self, space: str, request: Pull, reading: Reading) -> None:
        with self.database.writing():
            pulling.remember_first_reads(
                self.database, space, request.client, reading.first_reads, reading.horizon
            )

    def _settle(self, space: str, request: Pull) -> None:
        """Make a new space; begin a new epoch for a reader that is ahead of it, and raise that refusal."""
        epoch = None
        with self.database.writing():
            standing = spaces.lock(self.database, space, request.client, self.limits.spaces)
            pulling.check_pull(standing, request)
            if pulling.is_ahead(standing, request):
                epoch = spaces.begin_epoch(self.database, space, pulling.seen_by(standing, request))
        if epoch is not None:
            raise epoch_changed(standing.hub, epoch, standing.number)


@contextmanager
def _database_errors() -> Generator[None]:
    """Turn a database that is busy or away into a 503; the transaction has been rolled back."""
    try:
        yield
    except MaxConnectionsExceeded as error:
        raise refused(503, "busy", "the hub has too many requests under way; try again", 1) from error
    except (peewee.OperationalError, peewee.InterfaceError, sqlite3.OperationalError) as error:
        _log.warning("the database is busy or away: %s", error)
        raise refused(
            503, "database_unavailable", "the hub's database is busy or away; try again", 1
        ) from error
