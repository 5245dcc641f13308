"""The download batches of one session: what to ask for, and storing the page that came.

Used by the session's thread alone. ``store`` writes, in the caller's transaction; nothing else here does.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter

import msgspec
from attrs import evolve

from statesync.classes import define, frozen
from statesync.errors import UsageError
from statesync.protocol.messages import Answered
from statesync.store import quarantine, spaces
from statesync.store.context import SessionContext
from statesync.store.cursors import applied
from statesync.store.cursors.cursor import MISSED_DELETES, Cursor, begun_after
from statesync.store.download import decoding, fitting, orphans, pages, scans
from statesync.store.download.decoding import ObjectPage
from statesync.store.download.fitting import PageDoesNotFit, TransactionLost
from statesync.store.download.groups import Groups
from statesync.store.download.retrying import Retries
from statesync.store.download.scans import Range
from statesync.store.file.reading import is_in_byte_order
from statesync.store.indexes import marks
from statesync.store.indexes.choosing import has_key_alone
from statesync.store.journal import batches
from statesync.store.outbox.queue import count_pending
from statesync.store.rereading import reread
from statesync.store.tracking import records
from statesync.values import RecordError
from statesync.wire import Feed, Page, Pull, Scan


@define(eq=False)
class Download:
    """The page that has come in answer to ``request``, decoded; ``ranges`` are what its scans looked at.

    ``is_last`` says that nothing more is read after it.
    """

    request: Pull
    page: Page
    parts: list[ObjectPage]
    ranges: list[Range]
    is_last: bool


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
        self._groups = Groups(list(context.objects))
        self._asked_from: dict[str, Cursor] = {}
        self._holds = False
        self._is_apart = False
        self._retries = Retries(context.objects)
        self._scans = True
        self.orphans: list[RecordError] = []
        """Records without a parent; known once the feed is drained."""

    def connect(self, connection: sqlite3.Connection) -> None:
        """Make the session's connection ready."""
        if self._watched:
            orphans.begin(connection)
        at = applied.cursors(connection, self._context.objects)
        self._spare_memory(connection, [name for name, cursor in at.items() if cursor.is_scanned])
        self._holds = quarantine.has_any(connection)
        self._scans = is_in_byte_order(connection)

    def request(self, page_size: int) -> Pull:
        """Return the request for the next page of the scope's feeds; size 0 leaves the choice to the hub."""
        context = self._context
        here = spaces.load_or_create(context.raw(), context.space)
        self._asked_from = applied.cursors(context.raw(), context.objects)
        feeds = self._feeds(self._asked_from, self._groups.current)
        return Pull(here.client, here.number, here.hub, here.epoch, feeds, page_size, here.head)

    def request_ahead(self, page_size: int) -> Pull:
        """Return what ``request`` will return once the page that has come is stored."""
        download = self._staged()
        asked, page = download.request, download.page
        following = () if page.more else self._groups.following(page.head)
        if following:
            feeds = self._feeds(applied.cursors(self._context.raw(), following), following)
        else:
            feeds = {name: _followed(name, feed, page) for name, feed in asked.objects.items()}
        head = max(asked.head, page.head)
        return Pull(asked.client, asked.number, page.hub, page.epoch, feeds, page_size, head)

    def _feeds(self, cursors: Mapping[str, Cursor], names: Collection[str]) -> dict[str, Feed]:
        return {name: at.feed(scans=self._scans) for name, at in cursors.items() if name in names}

    def begin_again(self) -> None:
        """Read all objects from now on, as what was known of them is not any more."""
        self._groups.begin_again()

    def take(self, request: Pull, page: Page) -> Answered:
        """Check and decode a page. Raises ``BadAnswer``; writes nothing.

        More follows also where other objects are still to be asked for, and where more of what is in
        quarantine is to be tried again than one batch may.
        """
        decoding.check(request, page)
        self._is_apart = False
        objects, raw, upto = self._context.objects, self._context.raw(), dict[str, str]()
        if page.scans:
            page, upto = scans.cut(raw, page, objects, self._asked_from)
        to_come, behind = self._to_come(request, page)
        ranges = [
            scans.range_of(objects[name], self._asked_from[name], page, upto, behind.get(name))
            for name in page.scans
        ]
        is_last = not (page.more or self._groups.following(page.head))
        self._download = Download(request, page, decoding.decode(page, objects), ranges, is_last)
        more = not is_last or (self._holds and self._retries.are_left(raw))
        size = sum(map(len, filter(None, map(decoding.DATA, page.changes))))
        unbuilt = not more and marks.are_any(raw)
        return Answered(
            len(page.changes),
            more=more,
            size=size,
            unbuilt=unbuilt,
            expected=sum(to_come.values()) if to_come else None,
            behind=None if page.scans else page.head - min(page.cursors.values(), default=page.head),
        )

    def _to_come(self, request: Pull, page: Page) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many records each scan has yet to bring, with this page and behind it.

        Of scans alone whose records the hub has counted. It counts what a filter hides as well: where one
        has a filter nobody knows.
        """
        if any(feed.scan is not None and feed.filter is not None for feed in request.objects.values()):
            return {}, {}
        here = Counter(map(attrgetter("object"), page.changes)) if page.scans else Counter[str]()
        known = {name: at.to_come for name, at in self._asked_from.items()}
        known |= {
            name: self._of_others(request, name, it.count)
            for name, it in page.scans.items()
            if it.count is not None
        }
        done = {name for name, scanned in page.scans.items() if scanned.done}
        found = {name: max(count, here[name]) for name, count in known.items() if count is not None}
        to_come = {name: here[name] if name in done else count for name, count in found.items()}
        return to_come, {name: count - here[name] for name, count in to_come.items()}

    def _of_others(self, request: Pull, name: str, count: int) -> int:
        """Return how many of the ``count`` records that the hub has of an object will come with its scan."""
        scan = request.objects[name].scan
        if scan is None or not scan.spares:
            return count
        raw, tracked = self._context.raw(), self._context.objects[name]
        return max(0, count - records.count(raw, tracked) + count_pending(raw, name))

    def look_closer(self, found: PageDoesNotFit | TransactionLost) -> None:
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
        positions = applied.cursors(connection, context.objects)
        if here.client != download.request.client or positions != self._asked_from:
            raise context.changed("how far its objects are read")
        positions = {name: positions[name] for name in download.request.objects}
        spaces.learn(connection, here, page.hub, page.epoch, page.head)
        how = pages.How(
            context.session,
            self._is_apart,
            self._holds,
            notes_keys=not page.scans,
            deadly=context.deadly,
        )
        parts = download.parts
        if not page.scans and any(at.since for at in positions.values()):
            page, positions, parts = self._let_scans_go(connection, page, positions, parts)
        stored = pages.apply(connection, page, parts, context.objects, positions, how, download.ranges)
        self._spare_memory(connection, [r.tracked.name for r in download.ranges if r.begins_with_many])
        if self._holds and download.is_last:
            stored += self._retries.take_turn(connection, evolve(how, is_apart=True, notes_keys=False))
        self._holds = self._holds or stored.held > 0
        for part in download.parts:
            if part.tracked.name in self._watched:
                orphans.note(connection, part.tracked, (entry.key for entry in part.entries))
        if self._watched and download.is_last:
            self.orphans = orphans.find(connection, context.objects)
        if stored.records:
            batches.set_records(connection, context.session, number, stored.records)
        return stored

    def _spare_memory(self, connection: sqlite3.Connection, scanned: Iterable[str]) -> None:
        """Keep little of the file in memory where SQLite writes one row of an object behind the other."""
        objects = [self._context.objects[name] for name in scanned]
        if objects and all(has_key_alone(connection, tracked) for tracked in objects):
            self._context.parts.database.peewee.spare_memory()

    def _let_scans_go(
        self,
        connection: sqlite3.Connection,
        page: Page,
        positions: Mapping[str, Cursor],
        parts: list[ObjectPage],
    ) -> tuple[Page, dict[str, Cursor], list[ObjectPage]]:
        """Begin anew in the order of versions, at an older hub that has taken the place of the one before.

        Return what is to be stored: the page of one that was asked for a range of keys is another thing.
        """
        objects = self._context.objects
        scanned = {name: objects[name] for name, at in positions.items() if at.since}
        reread(connection, scanned, MISSED_DELETES)
        left = [name for name, at in positions.items() if not at.is_part]
        changes = [entry for entry in page.changes if entry.object in left]
        page = msgspec.structs.replace(page, changes=changes, cursors={n: page.cursors[n] for n in left})
        parts = [part for part in parts if part.tracked.name in left]
        return page, applied.cursors(connection, left), parts

    def end_page(self) -> None:
        """Let go of the page that has come, and is stored now, if one is."""
        if self._download is not None and not self._download.page.more:
            self._groups.end_current(self._download.page.head)
        self.drop()

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


def _followed(name: str, feed: Feed, page: Page) -> Feed:
    """Return what follows a page of one object; what it has of a scan that goes on says how."""
    scanned, at = page.scans.get(name), page.cursors[name]
    if scanned is None and page.scans:  # the page was full before it came to this object
        return feed
    if scanned is None:
        begun, own = begun_after(page, feed.cursor, feed.begun), feed.own and page.more
        return msgspec.structs.replace(feed, cursor=at, begun=begun, own=own, scan=None)
    if scanned.done:
        return msgspec.structs.replace(feed, cursor=at, own=False, scan=None)
    if not scanned.until:
        return feed
    spares = feed.scan is not None and feed.scan.spares
    scan = Scan(scanned.since, scanned.last, scanned.until, spares=spares)
    return msgspec.structs.replace(feed, own=feed.own or not at, scan=scan)
