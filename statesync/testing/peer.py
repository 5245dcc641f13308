"""A device as the wire sees it, for conformance tests: nothing of the client's code is in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from attrs import field

from statesync.classes import define
from statesync.errors import RemoteError
from statesync.remote import Remote
from statesync.wire import (
    Accepted,
    Change,
    Conflicted,
    Entry,
    Feed,
    Page,
    Pull,
    Push,
    PushAnswer,
    Rejected,
    Scan,
)


@define(eq=False)
class Peer:
    """A device as the wire sees it: it counts its batches and believes what the hub told it last."""

    remote: Remote
    object: str
    client: str = field(factory=lambda: str(uuid.uuid4()))
    number: int = 0
    hub: str | None = None
    epoch: str | None = None
    cursor: int = 0
    begun: int = 0
    position: Scan = field(factory=Scan)
    is_scanning: bool = True
    """Whether a read from the start, in the order of keys, is not at its end."""
    held: dict[str, Any] = field(factory=dict)

    def batch(self, *changes: Change, **other: Any) -> Push:
        """Return the next batch, not sent; ``other`` replaces fields of the request."""
        known: dict[str, Any] = {
            "client": self.client,
            "number": self.number + 1,
            "batch": str(uuid.uuid4()),
            "hub": self.hub,
            "epoch": self.epoch,
            "changes": msgspec.Raw(msgspec.json.encode(changes)),
        }
        return Push(**known | other)

    def send(self, batch: Push) -> PushAnswer:
        """Send a batch and take note of the answer."""
        answer = self.remote.push(batch)
        self.number, self.hub, self.epoch = batch.number, answer.hub, answer.epoch
        return answer

    def push(self, *changes: Change) -> list[Accepted | Conflicted | Rejected]:
        """Send the next batch and return its verdicts."""
        return self.send(self.batch(*changes)).results

    def request(self, limit: int = 0, *, own: bool = False, **other: Any) -> Pull:
        """Return the request for the next page; ``other`` replaces fields of it."""
        feeds = {self.object: Feed(self.cursor, own=own, begun=self.begun if self.cursor else 0)}
        known: dict[str, Any] = {
            "client": self.client,
            "number": self.number,
            "hub": self.hub,
            "epoch": self.epoch,
            "objects": feeds,
            "limit": limit,
        }
        return Pull(**known | other)

    def pull(self, limit: int = 0, *, own: bool = False) -> Page:
        """Fetch the next page, apply it to ``held``, and move the cursor."""
        page = self.remote.pull(self.request(limit, own=own))
        begun = self.begun if self.cursor else page.head
        self.begun = begun if page.more else 0
        self.hub, self.epoch, self.cursor = page.hub, page.epoch, page.cursors[self.object]
        self._take(page)
        return page

    def _take(self, page: Page) -> None:
        for entry in page.changes:
            if entry.deleted:
                self.held.pop(entry.key, None)
            else:
                self.held[entry.key] = read(entry)

    def scan_request(
        self, limit: int = 0, *, spares: bool = False, scan: Scan | None = None, **other: Any
    ) -> Pull:
        """Return the request for the next page of a scan, or for that of another ``scan``."""
        wanted = msgspec.structs.replace(self.position if scan is None else scan, spares=spares)
        own = self.position.since > 0
        return self.request(limit, objects={self.object: Feed(0, own=own, scan=wanted)}, **other)

    def scan(self, limit: int = 0) -> Page:
        """Fetch the next page of a read from the start in the order of keys, and apply it to ``held``.

        What it does not show of the keys that it has looked at is not there. A hub that knows no scans
        answers a page of the feed, without ``scans``: then the read goes on with ``pull``.
        """
        page = self.remote.pull(self.scan_request(limit))
        self.hub, self.epoch = page.hub, page.epoch
        scanned = page.scans.get(self.object)
        if scanned is None:
            self.begun = page.head if page.more else 0
            self.cursor, self.is_scanning = page.cursors[self.object], False
        else:
            shown = {*scanned.stubs, *(entry.key for entry in page.changes)}
            after, upto = self.position.after, None if scanned.done else scanned.last
            gone = [k for k in self.held if k > after and (upto is None or k <= upto) and k not in shown]
            for key in gone:
                del self.held[key]
            self.position = Scan(scanned.since, scanned.last, scanned.until)
            self.cursor, self.is_scanning = scanned.since if scanned.done else 0, not scanned.done
        self._take(page)
        return page

    def pull_all(self, limit: int = 0) -> None:
        """Follow the feed to its end."""
        while self.pull(limit).more:
            pass

    def upsert(self, key: str, data: Any, base: int | None = None) -> Change:
        """Return a change that makes or changes a record; its base is the cursor, unless it is given."""
        text = msgspec.Raw(msgspec.json.encode(data))
        return Change(self.object, key, "upsert", self.cursor if base is None else base, text)

    def delete(self, key: str, base: int | None = None) -> Change:
        """Return a change that deletes a record."""
        return Change(self.object, key, "delete", self.cursor if base is None else base)


def read(found: Entry | Conflicted) -> Any:
    """Return the record that an entry or a conflict carries."""
    return msgspec.json.decode(found.data) if isinstance(found.data, msgspec.Raw) else None


def refusal_of(work: Callable[[Any], object], request: Push | Pull) -> str:
    """Return the code of the refusal that a request meets; fail if it is answered, or has no code."""
    code = None
    try:
        work(request)
    except RemoteError as error:
        code = error.problem and error.problem.code
    assert code, f"a request has to be refused by a hub's own code, and was not: {request}"
    return code
