"""A hub in the same process, as a remote: the same hub code without HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from statesync.errors import ConnectionLost
from statesync.hub.access.rights import Right, Rights
from statesync.hub.errors import Refused
from statesync.hub.hub import Hub
from statesync.hub.signals.waiters import Waiter, Wake
from statesync.net.remote import refusal
from statesync.net.signals import Signals
from statesync.wire import Page, Pull, Push, PushAnswer, Signal, Survey, SurveyAnswer

_Answer = TypeVar("_Answer", PushAnswer, Page, SurveyAnswer)


class LocalRemote:
    """A ``statesync.remote.Remote`` that calls ``hub`` directly; it has no connection that could break."""

    def __init__(self, hub: Hub, space: str, token: str | None = None) -> None:
        self._hub = hub
        self._space = space
        self._token = token

    @property
    def space(self) -> str:
        """The space on the hub that this remote speaks to."""
        return self._space

    def push(self, request: Push) -> PushAnswer:
        """Offer one upload batch; see ``Remote.push``."""
        return self._ask(request, Right.WRITE, self._hub.push, PushAnswer)

    def pull(self, request: Pull) -> Page:
        """Fetch one page; see ``Remote.pull``."""
        return self._ask(request, Right.READ, self._hub.pull, Page)

    def survey(self, request: Survey) -> SurveyAnswer:
        """Ask what the hub has of one object; raises ``RemoteError``."""
        return self._ask(request, Right.READ, self._hub.survey, SurveyAnswer)

    def signals(self) -> Signals:
        """Return who asks for news."""
        return _LocalSignals(self._hub, self._space, self._token)

    def interrupt(self) -> None:
        """Do nothing: a call into the hub ends by itself, soon."""

    def close(self) -> None:
        """Do nothing: the hub is not this remote's to close."""

    def _ask(
        self,
        request: Push | Pull | Survey,
        right: Right,
        work: Callable[[str, bytes, Rights], bytes],
        kind: type[_Answer],
    ) -> _Answer:
        try:
            rights = self._hub.admit(self._space, self._token, right)
            return msgspec.json.decode(work(self._space, msgspec.json.encode(request), rights), type=kind)
        except Refused as error:
            raise refusal(error.status, error.problem, error.retry_after) from error


class _LocalSignals:
    """The question for news to a hub in the same process."""

    def __init__(self, hub: Hub, space: str, token: str | None) -> None:
        self._hub, self._space, self._token = hub, space, token
        self._woken = threading.Event()
        self._is_interrupted = False

    def ask(self, since: int, wait: float) -> Signal:
        """Wait until the head is another one than ``since``, or ``wait`` seconds; raises ``RemoteError``."""
        try:
            self._hub.admit(self._space, self._token, Right.READ)
            self._woken.clear()
            if self._is_interrupted:
                self._woken.set()
            waiter = Waiter(self._space, since, _ring, self._woken.set)
            self._hub.watch.add(waiter)
            try:
                self._await(waiter, wait)
            finally:
                self._hub.watch.remove(waiter)
        except Refused as error:
            raise refusal(error.status, error.problem, error.retry_after) from error
        if self._is_interrupted or waiter.head is None:
            raise ConnectionLost("the question for news was ended before it had an answer", retryable=True)
        return Signal(waiter.head.epoch, waiter.head.head)

    def interrupt(self) -> None:
        """End the question that is under way, and every later one."""
        self._is_interrupted = True
        self._woken.set()

    def close(self) -> None:
        """Do nothing: the hub is not this remote's to close."""

    def _await(self, waiter: Waiter, wait: float) -> None:
        if not self._woken.wait(wait) and self._hub.watch.hurry(waiter) is None:
            self._woken.wait(self._hub.patience)


def _ring(wakes: list[Wake]) -> None:
    for wake in wakes:
        wake()
