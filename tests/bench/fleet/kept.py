"""One simulated keeper: the library's own core, which says when to sync and when to ask, over a device.

It decides by what a keeper decides by (``keeping.decide``, ``keeping.asking``, ``session.timers``). So
thousands of them fit into a process, and come to a hub as thousands of programs do.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from attrs import define, field

from statesync.errors import RemoteError
from statesync.keeping.asking import Asking
from statesync.keeping.decide import decide
from statesync.keeping.ending import meaning_of
from statesync.keeping.messages import (
    AskConditions,
    BeginSession,
    Changed,
    ConditionsAsked,
    Event,
    Signalled,
    Ticked,
)
from statesync.keeping.options import KeeperOptions
from statesync.keeping.standing import Moment, Standing
from statesync.lifecycle import KeeperPhase
from statesync.machine import KeeperMachine
from statesync.session.timers import backoff
from statesync.values import SyncOptions

from .device import COME_AGAIN, Device, Failed, Tally

_HUNG = 60.0
"""Seconds that a keeper waits for an answer, besides what it has asked the hub to wait."""


@define(eq=False)
class Returns:
    """What the hub has seen of all keepers, second by second, and what it told those that it turned away."""

    asked: Counter[int] = field(factory=Counter)
    """Requests that were answered, by their second."""
    verbs: Counter[str] = field(factory=Counter)
    """The same by what was asked."""
    refused: Counter[str] = field(factory=Counter)
    refused_at: Counter[int] = field(factory=Counter)
    """Refusals, by their second."""
    without_a_time: int = 0
    """Refusals that did not say when to come again."""
    unreached: int = 0

    def note(self, verb: str, status: int, headers: Mapping[str, str], answer: Mapping[str, Any]) -> None:
        """Count one answer."""
        second = int(time.monotonic())
        self.asked[second] += 1
        self.verbs[verb] += 1
        if status in COME_AGAIN:
            self.refused[f"{verb}: {answer['error']['message']}"] += 1
            self.refused_at[second] += 1
            self.without_a_time += "retry-after" not in headers


class KeptDevice(Device):
    """A device whose sessions give up as real ones do, so that their keeper has to begin another."""

    returns: Returns

    async def _ask(self, verb: str, said: dict[str, Any], tally: Tally, until: float) -> dict[str, Any]:
        body, wait, words = msgspec.json.encode(said), None, ""
        for attempt in range(1, SyncOptions().max_attempts + 1):
            if attempt > 1:
                await asyncio.sleep(backoff(attempt, wait))
            try:
                status, headers, answer = await asyncio.wait_for(self.exchange("POST", verb, body), _HUNG)
            except (OSError, EOFError, TimeoutError) as error:
                self.returns.unreached += 1
                wait, words = None, repr(error)
                self.hang_up()
                continue
            self.returns.note(verb, status, headers, answer)
            if status == 200:
                self._hub, self._epoch = answer["hub"], answer["epoch"]
                return answer
            if status not in COME_AGAIN:
                raise Failed(f"{verb}: {status} {answer['error']}")
            wait, words = float(headers.get("retry-after", 0)), str(answer["error"])
        raise RemoteError(words, retryable=True, retry_after=wait)


@define(eq=False)
class Kept:
    """A keeper that listens, with the device that it keeps in sync."""

    device: KeptDevice
    listener: KeptDevice
    returns: Returns
    options: KeeperOptions
    waiting: int = 0
    """Changes that were made here, and were not sent yet."""
    synced: list[float] = field(factory=list)
    """When sessions were done that left nothing."""
    sessions: int = 0
    _machine: KeeperMachine = field(factory=KeeperMachine)
    _queue: asyncio.Queue[Event] = field(factory=asyncio.Queue)
    _asking: Asking = field(factory=Asking)
    _told: int = 0
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.device.returns = self.listener.returns = self.returns

    @property
    def phase(self) -> KeeperPhase:
        """The keeper's phase."""
        return self._machine.phase

    @property
    def synced_at(self) -> float:
        """When the last session was done that left nothing."""
        return self.synced[-1] if self.synced else 0.0

    def first_after(self, moment: float) -> float:
        """Return when the first such session after a moment was done."""
        return next(each for each in self.synced if each > moment)

    def change(self) -> None:
        """Make a change, as a program does."""
        self.waiting += 1
        self._queue.put_nowait(Changed())

    async def live(self) -> None:
        """Begin sessions, and ask for news in between, until it is cancelled."""
        standing = Standing.begun(self.options, _now())
        poll: asyncio.Task[None] | None = None
        event: Event = Ticked()
        while True:
            decision = decide(standing, _now(), event)
            if decision.trigger is not None:
                self._machine.fire(decision.trigger, facts=decision.facts)
            standing = decision.standing.entered(self.phase)
            listens = self.phase is KeeperPhase.LISTENING
            if poll is not None and not listens:
                if poll.cancel():  # one that is over keeps its connection for the next
                    self.listener.hang_up()
                poll = None
            elif poll is None and listens:
                poll = self._begin(self._listen())
            for action in decision.actions:
                if isinstance(action, AskConditions):
                    self._queue.put_nowait(ConditionsAsked())
                elif isinstance(action, BeginSession):
                    self._begin(self._session())
            event = await self._next(standing)

    async def _next(self, standing: Standing) -> Event:
        wakes_at = standing.wakes_at()
        left = None if wakes_at is None else max(0.0, wakes_at - time.monotonic())
        try:
            return await asyncio.wait_for(self._queue.get(), left)
        except TimeoutError:
            return Ticked()

    def _begin(self, what: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _session(self) -> None:
        error, tally, count = None, Tally(), self.waiting
        self.sessions += 1
        try:
            await self.device.sync_once(count, tally, float("inf"))
            self.waiting -= count
            self._asking = self._asking.reached()
            if not self.waiting:
                self.synced.append(time.monotonic())
        except RemoteError as failure:
            error = failure
        self._queue.put_nowait(meaning_of(error, random.random()))

    async def _listen(self) -> None:
        since = max(self._told, self.device.cursor)
        self._told = 0
        while self._told == 0:
            await asyncio.sleep(max(0.0, self._asking.at - time.monotonic()))
            await self._poll(since)

    async def _poll(self, since: int) -> None:
        began, wait = time.monotonic(), self._asking.wait
        try:
            asked = self.listener.exchange("GET", f"changes?since={since}&wait={wait:.3f}", b"")
            status, headers, said = await asyncio.wait_for(asked, wait + _HUNG)
        except (OSError, EOFError, TimeoutError) as error:
            self.returns.unreached += 1
            self.listener.hang_up()
            self._fail(RemoteError(repr(error)), began)
            return
        self.returns.note("changes", status, headers, said)
        if status != 200:
            self._fail(_refusal(status, headers), began)
            return
        self._asking = self._asking.answered(began)
        if said["head"] != since:
            self._told = said["head"]
            self._queue.put_nowait(Signalled())

    def _fail(self, error: RemoteError, began: float) -> None:
        self._asking = self._asking.failed(error, began, time.monotonic(), random.random())


def _now() -> Moment:
    return Moment(time.monotonic(), time.time())


def _refusal(status: int, headers: Mapping[str, str]) -> RemoteError:
    wait = headers.get("retry-after")
    return RemoteError("refused", status=status, retry_after=None if wait is None else float(wait))
