"""A remote before a real hub that refuses records as a validator of the hub's would."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from attrs import define, field

from statesync.hub import LocalRemote
from statesync.wire import Change, Page, Pull, Push, PushAnswer, Rejected, Survey, SurveyAnswer, Verdict

Judge = Callable[[Change], Rejected | None]


def take_all(change: Change) -> Rejected | None:
    """Refuse nothing."""
    return None


@define(eq=False)
class JudgedRemote:
    """Let the hub judge what ``judge`` does not refuse; ``sent`` are the keys that went up, in order."""

    hub: LocalRemote
    judge: Judge = take_all
    sent: list[str] = field(factory=list)

    @property
    def space(self) -> str:
        return self.hub.space

    def push(self, request: Push) -> PushAnswer:
        changes = msgspec.json.decode(request.changes, type=list[Change])
        self.sent += [change.key for change in changes]
        refused = [self.judge(change) for change in changes]
        passed = [change for change, no in zip(changes, refused, strict=True) if no is None]
        taken = msgspec.Raw(msgspec.json.encode(passed))
        answer = self.hub.push(msgspec.structs.replace(request, changes=taken))
        judged = iter(answer.results)
        verdicts: list[Verdict] = [next(judged) if no is None else no for no in refused]
        return msgspec.structs.replace(answer, results=verdicts)

    def pull(self, request: Pull) -> Page:
        return self.hub.pull(request)

    def survey(self, request: Survey) -> SurveyAnswer:
        return self.hub.survey(request)

    def interrupt(self) -> None:
        self.hub.interrupt()

    def close(self) -> None:
        self.hub.close()
