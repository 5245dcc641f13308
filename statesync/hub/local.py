"""A hub in the same process, as a remote: the same hub code without HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from statesync.hub.access.rights import Right, Rights
from statesync.hub.errors import Refused
from statesync.hub.hub import Hub
from statesync.net.remote import refusal
from statesync.wire import Page, Pull, Push, PushAnswer, Survey, SurveyAnswer

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
