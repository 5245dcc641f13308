"""The download batches of one session: what to ask for, and storing the page that came.

Used by the session's thread alone. ``store`` writes, in the caller's transaction; nothing else here does.
"""

from __future__ import annotations

import sqlite3

import msgspec
from attrs import define

from statesync.errors import UsageError
from statesync.protocol.messages import Answered
from statesync.store import cursors, spaces
from statesync.store.context import SessionContext
from statesync.store.cursors import Cursor
from statesync.store.download import orphans, pages
from statesync.store.journal import batches
from statesync.values import RecordError
from statesync.wire import Page, Pull


@define(eq=False)
class Download:
    """The page that has come in answer to ``request``, decoded."""

    request: Pull
    page: Page
    parts: list[pages.ObjectPage]


class Downloads:
    """What one session fetches, page by page."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._watched = orphans.watched(context.objects)
        self._download: Download | None = None
        self._asked_from: dict[str, Cursor] = {}
        self.orphans: list[RecordError] = []
        """Records without a parent; known once the feed is drained."""

    def connect(self, connection: sqlite3.Connection) -> None:
        """Make the session's connection ready."""
        if self._watched:
            orphans.begin(connection)

    def request(self) -> Pull:
        """Return the request for the next page of the scope's feeds."""
        context = self._context
        here = spaces.load_or_create(context.raw(), context.space)
        self._asked_from = cursors.cursors(context.raw(), context.objects)
        feeds, limit = cursors.feeds(self._asked_from), context.options.download_batch_size
        return Pull(here.client, here.number, here.hub, here.epoch, feeds, limit, here.head)

    def request_ahead(self) -> Pull:
        """Return what ``request`` will return once the page that has come is stored."""
        download = self._staged()
        asked, page = download.request, download.page
        feeds = {
            name: msgspec.structs.replace(feed, cursor=page.cursors[name])
            for name, feed in asked.objects.items()
        }
        head = max(asked.head, page.head)
        return Pull(asked.client, asked.number, page.hub, page.epoch, feeds, asked.limit, head)

    def take(self, request: Pull, page: Page) -> Answered:
        """Check and decode a page. Raises ``BadAnswer``; writes nothing."""
        pages.check(request, page)
        self._download = Download(request, page, pages.decode(page, self._context.objects))
        return Answered(len(page.changes), more=page.more)

    def store(self, connection: sqlite3.Connection, number: int) -> int:
        """Store the page as the batch ``number``, with its cursors; return how many records it brought.

        Raises ``StoreChanged`` where the cursors are not those that it was asked from any more.
        """
        download, context = self._staged(), self._context
        page = download.page
        here = spaces.load_or_create(connection, context.space)
        positions = cursors.cursors(connection, context.objects)
        if here.client != download.request.client or positions != self._asked_from:
            raise context.changed("how far its objects are read")
        spaces.learn(connection, here, page.hub, page.epoch, page.head)
        stored = pages.apply(connection, page, download.parts, context.objects, positions, context.session)
        for part in download.parts:
            if part.tracked.name in self._watched:
                orphans.note(connection, part.tracked, (entry.key for entry in part.entries))
        if self._watched and not page.more:
            self.orphans = orphans.find(connection, context.objects)
        if stored:
            batches.set_records(connection, context.session, number, stored)
        return stored

    def drop(self) -> None:
        """Let go of the page that has come."""
        self._download = None

    def _staged(self) -> Download:
        if self._download is None:
            raise UsageError("no page is staged")
        return self._download
