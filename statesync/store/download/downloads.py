"""The download batches of one session: what to ask for, and storing the page that came.

Used by the session's thread alone. ``store`` writes, in the caller's transaction; nothing else here does.
"""

from __future__ import annotations

import sqlite3

import msgspec
from attrs import define, evolve, frozen

from statesync.errors import UsageError
from statesync.protocol.messages import Answered
from statesync.store import cursors, quarantine, spaces
from statesync.store.context import SessionContext
from statesync.store.cursors import Cursor
from statesync.store.download import decoding, fitting, orphans, pages
from statesync.store.download.decoding import ObjectPage
from statesync.store.download.fitting import TransactionLost
from statesync.store.download.retrying import Retries
from statesync.store.journal import batches
from statesync.values import RecordError
from statesync.wire import Page, Pull


@define(eq=False)
class Download:
    """The page that has come in answer to ``request``, decoded."""

    request: Pull
    page: Page
    parts: list[ObjectPage]


@frozen
class LeftOut:
    """The records that came and are not where they belong, and how many of them are in quarantine."""

    errors: tuple[RecordError, ...]
    quarantined: int


class Downloads:
    """What one session fetches, page by page."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._watched = orphans.watched(context.objects)
        self._download: Download | None = None
        self._asked_from: dict[str, Cursor] = {}
        self._holds = False
        self._is_apart = False
        self._retries = Retries(context.objects)
        self.orphans: list[RecordError] = []
        """Records without a parent; known once the feed is drained."""

    def connect(self, connection: sqlite3.Connection) -> None:
        """Make the session's connection ready."""
        if self._watched:
            orphans.begin(connection)
        self._holds = quarantine.has_any(connection)

    def request(self, page_size: int) -> Pull:
        """Return the request for the next page of the scope's feeds; size 0 leaves the choice to the hub."""
        context = self._context
        here = spaces.load_or_create(context.raw(), context.space)
        self._asked_from = cursors.cursors(context.raw(), context.objects)
        feeds = cursors.feeds(self._asked_from)
        return Pull(here.client, here.number, here.hub, here.epoch, feeds, page_size, here.head)

    def request_ahead(self, page_size: int) -> Pull:
        """Return what ``request`` will return once the page that has come is stored."""
        download = self._staged()
        asked, page = download.request, download.page
        feeds = {
            name: msgspec.structs.replace(
                feed,
                cursor=page.cursors[name],
                begun=cursors.begun_after(page, feed.cursor, feed.begun),
            )
            for name, feed in asked.objects.items()
        }
        head = max(asked.head, page.head)
        return Pull(asked.client, asked.number, page.hub, page.epoch, feeds, page_size, head)

    def take(self, request: Pull, page: Page) -> Answered:
        """Check and decode a page. Raises ``BadAnswer``; writes nothing.

        More follows also where more of what is in quarantine is to be tried again than one batch may.
        """
        decoding.check(request, page)
        self._is_apart = False
        self._download = Download(request, page, decoding.decode(page, self._context.objects))
        more = page.more or (self._holds and self._retries.are_left(self._context.raw()))
        size = sum(memoryview(entry.data).nbytes for entry in page.changes if entry.data)
        return Answered(len(page.changes), more=more, size=size)

    def look_closer(self, found: pages.PageDoesNotFit | TransactionLost) -> None:
        """Store the page record by record the next time: one of them does not fit its table."""
        self._is_apart = True
        if isinstance(found, TransactionLost):
            self._context.deadly.setdefault(found.name, {})[found.key] = found.reason

    def store(self, connection: sqlite3.Connection, number: int) -> pages.Stored:
        """Store the page as the batch ``number``, with its cursors.

        Raises ``StoreChanged`` where the cursors are not those that it was asked from any more. Raises
        ``PageDoesNotFit`` or ``TransactionLost`` where the page has to be stored once more, in a new
        transaction, after ``look_closer``.
        """
        download, context = self._staged(), self._context
        page = download.page
        here = spaces.load_or_create(connection, context.space)
        positions = cursors.cursors(connection, context.objects)
        if here.client != download.request.client or positions != self._asked_from:
            raise context.changed("how far its objects are read")
        spaces.learn(connection, here, page.hub, page.epoch, page.head)
        how = pages.How(context.session, self._is_apart, self._holds, context.deadly)
        stored = pages.apply(connection, page, download.parts, context.objects, positions, how)
        if self._holds and not page.more:
            stored += self._retries.take_turn(connection, evolve(how, is_apart=True))
        self._holds = self._holds or stored.held > 0
        for part in download.parts:
            if part.tracked.name in self._watched:
                orphans.note(connection, part.tracked, (entry.key for entry in part.entries))
        if self._watched and not page.more:
            self.orphans = orphans.find(connection, context.objects)
        if stored.records:
            batches.set_records(connection, context.session, number, stored.records)
        return stored

    def drop(self) -> None:
        """Let go of the page that has come."""
        self._download = None

    def left_out(self) -> LeftOut:
        """Return what is in quarantine, first the objects of which not one record fits, and the orphans."""
        if not self._holds:
            return LeftOut(tuple(self.orphans), 0)
        connection, objects = self._context.raw(), self._context.objects
        without = fitting.objects_without_a_fit(connection, objects)
        errors = (*without, *quarantine.errors(connection, objects), *self.orphans)
        return LeftOut(errors, quarantine.count_of(connection, objects))

    def _staged(self) -> Download:
        if self._download is None:
            raise UsageError("no page is staged")
        return self._download
