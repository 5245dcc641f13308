"""Reading one page of the feed: whether a hub could have meant it, and what its records say."""

from __future__ import annotations

from collections.abc import Container, Sequence
from operator import attrgetter, ge
from typing import Any

import msgspec
from attrs import evolve

from statesync.classes import frozen
from statesync.conflicts import Record
from statesync.errors import BadAnswer
from statesync.store.download import pages_of_scans, upserts
from statesync.store.quarantine import Misfit, Reason
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.wire import MAX_KEY_LENGTH, Entry, Page, Pull

KEY, OBJECT, DATA = attrgetter("key"), attrgetter("object"), attrgetter("data")


@frozen
class ObjectPage:
    """One object's part of a page, decoded into rows of (key, *columns); ``UNSET`` marks a missing column.

    ``misfits`` are records of another shape than the object's; they are not among the others. ``is_whole``
    says that no row misses a column.
    """

    tracked: TrackedObject
    entries: tuple[Entry, ...]
    rows: tuple[upserts.Row, ...]
    deleted: tuple[str, ...]
    misfits: tuple[Misfit, ...] = ()
    is_whole: bool = False

    def without(self, keys: Container[str]) -> ObjectPage:
        """Return the page without these records."""
        return evolve(
            self,
            entries=tuple(entry for entry in self.entries if entry.key not in keys),
            rows=tuple(row for row in self.rows if row[0] not in keys),
            deleted=tuple(key for key in self.deleted if key not in keys),
        )

    @property
    def keys(self) -> list[str]:
        """The keys of all records, whether they have the object's shape or not."""
        return [*(entry.key for entry in self.entries), *(misfit.key for misfit in self.misfits)]


def check(request: Pull, page: Page) -> None:
    """Raise ``BadAnswer`` for a page that no hub could have meant as the answer to ``request``."""
    asked = request.objects
    fault = None
    if page.cursors.keys() != asked.keys():
        fault = "cursors for other objects than were asked for"
    elif any(page.cursors[name] < feed.cursor for name, feed in asked.items()):
        fault = "a cursor that goes backward"
    elif request.limit and len(page.changes) > request.limit:
        fault = f"{len(page.changes)} records where {request.limit} were asked for"
    elif any(page.cursors[name] > page.head for name in asked):
        fault = "a version or a cursor that is above its own head"
    elif not page.cursors.keys() >= set(map(OBJECT, page.changes)):
        fault = "records of an object that was not asked for"
    elif not _are_sound(page.changes):
        fault = "a record without a key or data"
    else:
        fault = pages_of_scans.fault(request, page) if page.scans else _fault_of_feeds(request, page)
    if fault:
        raise BadAnswer(f"the hub sent {fault}; nothing of the page was stored")


def _fault_of_feeds(request: Pull, page: Page) -> str | None:
    """Return what is wrong with a page of feeds, None if nothing is."""
    versions = [entry.version for entry in page.changes]
    if any(map(ge, versions, versions[1:])):
        return "records that are not in the order of their versions"
    if versions[-1:] > [page.head]:
        return "a version or a cursor that is above its own head"
    if page.more and all(page.cursors[name] == feed.cursor for name, feed in request.objects.items()):
        return "a page that leads nowhere"
    return None


def _are_sound(entries: list[Entry]) -> bool:
    lengths = list(map(len, map(KEY, entries)))
    if lengths and not 0 < min(lengths) <= max(lengths) <= MAX_KEY_LENGTH:
        return False
    return not [entry for entry in entries if entry.data is msgspec.UNSET and not entry.deleted]


def decode(page: Page, objects: Objects) -> list[ObjectPage]:
    """Decode a page into rows; records of another shape than their object's are misfits.

    Raises ``BadAnswer`` for one that is no record of any object: no hub takes such.
    """
    return [decode_object(objects[name], entries) for name, entries in _by_object(page.changes).items()]


def _by_object(entries: list[Entry]) -> dict[str, list[Entry]]:
    names = set(map(OBJECT, entries))
    if len(names) == 1:
        return {names.pop(): entries}
    parts: dict[str, list[Entry]] = {}
    for entry in entries:
        parts.setdefault(entry.object, []).append(entry)
    return parts


def decode_object(tracked: TrackedObject, entries: Sequence[Entry]) -> ObjectPage:
    """Decode one object's part of a page, as if all records were of its shape; one by one where not."""
    living = [entry for entry in entries if not entry.deleted]
    deleted = [entry.key for entry in entries if entry.deleted] if len(living) < len(entries) else ()
    for decoder in (tracked.wire.whole_decoder, tracked.wire.decoder):
        try:
            rows = _rows(decoder, living)
        except msgspec.MsgspecError:
            continue
        is_whole = decoder is tracked.wire.whole_decoder
        return ObjectPage(tracked, tuple(entries), tuple(rows), tuple(deleted), is_whole=is_whole)
    return _decode_apart(tracked, entries)


def _rows(decoder: msgspec.json.Decoder[Any], living: list[Entry]) -> list[upserts.Row]:
    """Return the rows of records. Each goes its whole way at once, so that nothing of the page lies about."""
    values = map(msgspec.structs.astuple, map(decoder.decode, map(DATA, living)))
    return [(key, *row) for key, row in zip(map(KEY, living), values, strict=True)]


def _decode_apart(tracked: TrackedObject, entries: Sequence[Entry]) -> ObjectPage:
    misfits = [misfit for entry in entries if (misfit := _misfit(tracked, entry)) is not None]
    unlike = {misfit.key for misfit in misfits}
    alike = decode_object(tracked, [entry for entry in entries if entry.key not in unlike])
    return evolve(alike, misfits=tuple(misfits))


def _misfit(tracked: TrackedObject, entry: Entry) -> Misfit | None:
    if entry.deleted:
        return None
    try:
        tracked.wire.decoder.decode(entry.data)  # type: ignore[arg-type]
    except msgspec.MsgspecError as error:
        if not bytes(entry.data).lstrip().startswith(b"{"):  # type: ignore[arg-type]
            raise BadAnswer(
                "the hub sent a record that is no object; nothing of the page was stored"
            ) from error
        return Misfit(entry.key, entry.version, text_of(entry), Reason("wrong_type", str(error)))
    return None


def text_of(entry: Entry) -> bytes | None:
    """Return a record's JSON text as it travelled; None is a delete."""
    return None if entry.deleted else bytes(entry.data)  # type: ignore[arg-type]


def remote_of(tracked: TrackedObject, entry: Entry) -> Record | None:
    """Return the hub's record; None is a delete."""
    return None if entry.deleted else tracked.wire.read(entry.data)  # type: ignore[arg-type]
