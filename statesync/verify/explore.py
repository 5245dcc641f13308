"""Which charts are explored, alone and together: sessions and their batches."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

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
from statesync.verify.space import Space, walk


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


def explore(scope: Scope, session: Chart, batch: Chart) -> Space[Configuration, Step]:
    """Visit every configuration that any order of triggers and any answer of the world can reach."""
    return _walk(
        scope,
        LAWLESS_SESSION if scope is Scope.BATCH else session,
        LAWLESS_BATCH if scope is Scope.SESSION else batch,
    )


@lru_cache(maxsize=4)  # whoever changes one chart again and again need not explore the other each time
def _walk(scope: Scope, session: Chart, batch: Chart) -> Space[Configuration, Step]:
    moves = Moves(session, batch)
    return walk(scope, moves.first(), moves.of)
