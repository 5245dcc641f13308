"""A remote that loses, repeats, delays and refuses, by a seed or by command."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import TypeVar

import msgspec

from statesync.errors import BadOptions, ConnectionLost, RemoteError
from statesync.net.remote import refusal
from statesync.remote import Remote
from statesync.wire import Entry, Page, Problem, Pull, Push, PushAnswer

_Answer = TypeVar("_Answer", PushAnswer, Page)


class Fault(StrEnum):
    """What can become of one request."""

    LOSE_REQUEST = "lose_request"
    """The hub never hears it; the device cannot know that."""
    LOSE_ANSWER = "lose_answer"
    """The hub does it; the device never hears the answer."""
    DELAY = "delay"
    """The answer comes, but late."""
    REPEAT = "repeat"
    """The hub hears it twice; the device gets the second answer."""
    ARRIVE_LATE = "arrive_late"
    """The device gives up on it; the hub hears it right before a later request."""
    REFUSE = "refuse"
    """The hub is busy: it does nothing, and says so."""
    TRUNCATE = "truncate"
    """A page comes with fewer records than there are, and says that more follow."""


class FaultyRemote:
    """Any remote, with faults. The same seed makes the same faults for the same requests.

    ``rates`` says how likely each fault is for one request, from 0 to 1, all together at most 1; without
    it each has 0.05. ``inject`` puts faults in a queue that goes before chance: the next request takes the
    first. ``delay`` is in seconds. ``happened`` lists the faults that came about.

    Raises ``BadOptions`` for rates that are no probabilities.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        seed: int = 0,
        rates: Mapping[Fault, float] | None = None,
        delay: float = 0.01,
    ) -> None:
        self._remote = remote
        self._chance = random.Random(seed)
        self._rates = dict.fromkeys(Fault, 0.05) if rates is None else dict(rates)
        if any(rate < 0 for rate in self._rates.values()) or sum(self._rates.values()) > 1:
            raise BadOptions(f"rates are probabilities that add up to at most 1, not {self._rates}")
        self._delay = delay
        self._queue: deque[Fault | None] = deque()
        self._late: list[Push] = []
        self._interrupted = threading.Event()
        self.happened: list[Fault] = []

    @property
    def space(self) -> str:
        """The space on the hub that this remote speaks to."""
        return self._remote.space

    def inject(self, *faults: Fault | None) -> None:
        """Let these faults befall the next requests, one each; None is a request that goes well."""
        self._queue.extend(faults)

    def calm(self) -> None:
        """End all faults: forget those in the queue and those of chance."""
        self._queue.clear()
        self._rates = {}

    def push(self, request: Push) -> PushAnswer:
        """Offer one upload batch, or suffer a fault; see ``Remote.push``."""
        self._let_late_ones_arrive()
        fault = self._next_fault()
        if fault is Fault.ARRIVE_LATE:
            self._late.append(request)
        return self._suffer(fault, partial(self._remote.push, request))

    def pull(self, request: Pull) -> Page:
        """Fetch one page, or suffer a fault; see ``Remote.pull``."""
        self._let_late_ones_arrive()
        fault = self._next_fault()
        page = self._suffer(fault, partial(self._remote.pull, request))
        return truncated(request, page) if fault is Fault.TRUNCATE else page

    def interrupt(self) -> None:
        """End a delay that is under way, or what the remote itself does."""
        self._interrupted.set()
        self._remote.interrupt()

    def close(self) -> None:
        """Close the remote."""
        self._remote.close()

    def _next_fault(self) -> Fault | None:
        fault = self._queue.popleft() if self._queue else self._by_chance()
        if fault is not None:
            self.happened.append(fault)
        return fault

    def _by_chance(self) -> Fault | None:
        place = self._chance.random()
        for fault, rate in self._rates.items():
            place -= rate
            if place < 0:
                return fault
        return None

    def _let_late_ones_arrive(self) -> None:
        """Give the hub what it has not heard yet. Nobody waits for these answers any more."""
        while self._late:
            with suppress(RemoteError):
                self._remote.push(self._late.pop(0))

    def _suffer(self, fault: Fault | None, ask: Callable[[], _Answer]) -> _Answer:
        if fault in (Fault.LOSE_REQUEST, Fault.ARRIVE_LATE):
            raise _lost("before it was answered")
        if fault is Fault.REFUSE:
            raise refusal(503, Problem("busy", "the hub has too much to do"), retry_after=0.0)
        answer = ask()
        if fault is Fault.REPEAT:
            answer = ask()
        if fault is Fault.LOSE_ANSWER:
            raise _lost("after the hub had answered")
        if fault is Fault.DELAY:
            self._wait()
        return answer

    def _wait(self) -> None:
        self._interrupted.clear()
        if self._interrupted.wait(self._delay):
            raise _lost("because it was interrupted")


def _lost(when: str) -> ConnectionLost:
    return ConnectionLost(
        f"the connection broke {when} (a fault on purpose)", retryable=True, maybe_applied=True
    )


def truncated(request: Pull, page: Page) -> Page:
    """Return the first half of a page, as a hub with smaller pages would have sent it."""
    kept = page.changes[: len(page.changes) // 2]
    if not kept:
        return page
    if page.scans:
        return _truncated_scans(request, page, kept)
    reached = kept[-1].version
    cursors = {name: max(feed.cursor, reached) for name, feed in request.objects.items()}
    return msgspec.structs.replace(page, changes=kept, cursors=cursors, more=True)


def _truncated_scans(request: Pull, page: Page, kept: list[Entry]) -> Page:
    """Return a page of scans with these records: its last scan has come to the last of them."""
    cut, last = kept[-1].object, kept[-1].key
    names = list(page.scans)
    scans = {name: page.scans[name] for name in names[: names.index(cut) + 1]}
    stubs = [key for key in scans[cut].stubs if key <= last]
    scans[cut] = msgspec.structs.replace(scans[cut], last=last, done=False, stubs=stubs)
    cursors = {
        name: page.cursors[name] if name in scans and name != cut else feed.cursor
        for name, feed in request.objects.items()
    }
    return msgspec.structs.replace(page, changes=kept, cursors=cursors, more=True, scans=scans)
