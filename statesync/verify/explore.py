"""Breadth first through everything that can happen, remembering the shortest way to every configuration."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache

from attrs import frozen

from statesync.lifecycle import (
    BATCH,
    SESSION,
    AnyPhase,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Edge,
    Phase,
    Trigger,
)
from statesync.verify.configuration import Configuration
from statesync.verify.moves import Moves, Step


class Scope(StrEnum):
    """Which charts are explored. A chart that is looked at alone has a lawless partner.

    The partner allows every trigger everywhere, without a guard. So what holds of one chart alone holds
    by that chart's own guards, and not because the other one happens to refuse the step as well.
    """

    PRODUCT = "product"
    SESSION = "session chart"
    BATCH = "batch chart"


_OPEN_PHASES = tuple(phase for phase in BatchPhase if phase not in BATCH.finals)
_BEFORE_CANCEL = (Phase.IDLE, Phase.UPLOADING, Phase.DOWNLOADING)


def _anywhere(
    trigger: AnyTrigger, target: AnyPhase | None, sources: tuple[AnyPhase, ...]
) -> tuple[Edge, ...]:
    return tuple(Edge(trigger, source, target or source) for source in sources)


LAWLESS_SESSION = Chart(
    "lawless session",
    SESSION.initial,
    SESSION.finals,
    (
        *_anywhere(Trigger.START, Phase.UPLOADING, _BEFORE_CANCEL),
        *_anywhere(Trigger.OPEN_BATCH, None, (*_BEFORE_CANCEL, Phase.CANCELLING)),
        *_anywhere(Trigger.COMMIT_BATCH, None, (*_BEFORE_CANCEL, Phase.CANCELLING)),
        *_anywhere(Trigger.ABORT_BATCH, None, (*_BEFORE_CANCEL, Phase.CANCELLING)),
        *_anywhere(Trigger.FINISH_UPLOAD, Phase.DOWNLOADING, _BEFORE_CANCEL),
        *_anywhere(Trigger.FINISH_DOWNLOAD, Phase.DONE, _BEFORE_CANCEL),
        *_anywhere(Trigger.CANCEL, Phase.CANCELLING, _BEFORE_CANCEL),
        *_anywhere(Trigger.SETTLE, Phase.CANCELLED, (Phase.CANCELLING,)),
        *_anywhere(Trigger.FAIL, Phase.FAILED, (*_BEFORE_CANCEL, Phase.CANCELLING)),
    ),
)

LAWLESS_BATCH = Chart(
    "lawless batch",
    BATCH.initial,
    BATCH.finals,
    (
        *_anywhere(BatchTrigger.SEND, BatchPhase.IN_FLIGHT, _OPEN_PHASES),
        *_anywhere(BatchTrigger.RECEIVE, BatchPhase.RECEIVED, _OPEN_PHASES),
        *_anywhere(BatchTrigger.RETRY, BatchPhase.WAITING, _OPEN_PHASES),
        *_anywhere(BatchTrigger.COMMIT, BatchPhase.COMMITTED, _OPEN_PHASES),
        *_anywhere(BatchTrigger.ABORT, BatchPhase.ABORTED, _OPEN_PHASES),
    ),
)


@frozen
class Way:
    """Steps that follow each other, from ``start``, where a session begins."""

    start: Configuration
    steps: tuple[Step, ...]


@frozen
class Space:
    """All that was explored: ``steps`` out of every configuration, in the order of their discovery.

    ``reached_by`` holds the step that discovered a configuration; following it back gives a shortest way.
    """

    scope: Scope
    steps: dict[Configuration, tuple[Step, ...]]
    reached_by: dict[Configuration, Step]

    @property
    def transitions(self) -> int:
        """How many steps lead from one configuration to another or to itself."""
        return sum(len(steps) for steps in self.steps.values())

    def way_to(self, configuration: Configuration, *last: Step) -> Way:
        """Return a shortest way from where a session begins to ``configuration``, and then ``last``."""
        path = [*reversed(last)]
        while step := self.reached_by.get(configuration):
            path.append(step)
            configuration = step.source
        return Way(configuration, tuple(reversed(path)))

    def that_can_reach(
        self, goal: Callable[[Step], bool], *, using: Callable[[Step], bool]
    ) -> set[Configuration]:
        """Return the configurations from which steps ``using`` holds for lead to a ``goal`` step."""
        backward: dict[Configuration, list[Configuration]] = {}
        frontier: list[Configuration] = []
        for source, steps in self.steps.items():
            for step in steps:
                if using(step):
                    backward.setdefault(step.target, []).append(source)
                    if goal(step):
                        frontier.append(source)
        found = set(frontier)
        while frontier:
            new = [source for source in backward.get(frontier.pop(), ()) if source not in found]
            found.update(new)
            frontier += new
        return found


def explore(scope: Scope, session: Chart, batch: Chart) -> Space:
    """Visit every configuration that any order of triggers and any answer of the world can reach."""
    return _walk(
        scope,
        LAWLESS_SESSION if scope is Scope.BATCH else session,
        LAWLESS_BATCH if scope is Scope.SESSION else batch,
    )


@lru_cache(maxsize=4)  # whoever changes one chart again and again need not explore the other each time
def _walk(scope: Scope, session: Chart, batch: Chart) -> Space:
    moves = Moves(session, batch)
    steps: dict[Configuration, tuple[Step, ...]] = {}
    reached_by: dict[Configuration, Step] = {}
    frontier = deque(moves.first())
    seen = set(frontier)
    while frontier:
        now = frontier.popleft()
        steps[now] = tuple(dict.fromkeys(moves.of(now)))
        for step in steps[now]:
            if step.target not in seen:
                seen.add(step.target)
                reached_by[step.target] = step
                frontier.append(step.target)
    return Space(scope, steps, reached_by)
