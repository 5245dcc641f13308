"""A device as the wire sees it, for conformance tests: nothing of the client's code is in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from attrs import define, field

from statesync.errors import RemoteError
from statesync.net.remote import Remote
from statesync.wire import Accepted, Change, Conflicted, Entry, Feed, Page, Pull, Push, PushAnswer, Rejected


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
        for entry in page.changes:
            if entry.deleted:
                self.held.pop(entry.key, None)
            else:
                self.held[entry.key] = read(entry)
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
