"""The conversation of a session, sans I/O: events come in, decisions come out.

``decide`` is a pure function. It knows no clock, socket, thread or SQL, and it never changes a phase: it
says which triggers to fire, and the machine does it. The threaded driver, the asyncio driver, the
simulator and the explorer all run this one piece of code.

A driver does with each decision, in this order:

1. start what ``meanwhile`` asks for;
2. fire ``triggers`` with ``facts`` as one transaction that also writes ``effects``;
3. only if that was committed, adopt ``conversation`` and tell it what the transaction came to and the
   phases that the machine is in now (``Conversation.after``); if it was rolled back, keep the old one and
   report ``LocalFailure``;
4. do ``actions``; each leads to the event that its docstring names.

Between two events the driver looks for a cancel, which goes before everything else that waits. So what is
decided of a ``Continued`` is decided after a look for a cancel: above all, whether a batch is sent (K5).

Source: section 4 of the design, and K1 to K11. Which batch is next is in ``next_batch``, what came
of one in ``outcome``, the ends of a session in ``ending``.
"""

from __future__ import annotations

from statesync.lifecycle import SESSION, Phase
from statesync.protocol.conversation import Conversation
from statesync.protocol.ending import (
    cancel,
    grace_over,
    local_failure,
    out_of_turn,
)
from statesync.protocol.messages import (
    Answered,
    BackoffOver,
    Begin,
    Built,
    CancelRequested,
    Continued,
    Decision,
    Event,
    GraceOver,
    HeadStartOver,
    LocalFailure,
    Prepared,
    RequestFailed,
)
from statesync.protocol.next_batch import begin, compose_ahead, go_on, prepared, send_again
from statesync.protocol.outcome import answered, built, request_failed


def decide(now: Conversation, event: Event) -> Decision:
    """Return what to do about ``event``. Pure: the same in, the same out.

    An event that no longer matters (an answer after the end, a second cancel) leads to an empty decision.
    One that nothing has asked for is a driver's defect, and ends the session.
    """
    if SESSION.is_final(now.phase):
        return Decision(now)
    match event:
        case Begin() if now.phase is Phase.IDLE:
            return begin(now, event)
        case Prepared() if now.phase is Phase.UPLOADING and now.batch is None:
            return prepared(now, event)
        case Continued() if now.phase in (Phase.UPLOADING, Phase.DOWNLOADING):
            return go_on(now)
        case HeadStartOver():
            return compose_ahead(now)
        case Answered():
            return answered(now, event)
        case RequestFailed():
            return request_failed(now, event)
        case Built() if now.phase is Phase.DOWNLOADING and now.feed_drained:
            return built(now)
        case BackoffOver():
            return send_again(now)
        case CancelRequested():
            return cancel(now, event)
        case GraceOver():
            return grace_over(now)
        case LocalFailure():
            return local_failure(now, event)
    return out_of_turn(now, event)
