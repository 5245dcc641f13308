"""Errors are told apart by code and reason, come from one door, and say what a person can do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest
from attrs import evolve
from rig.device import Device

import statesync
from statesync import (
    GuardRefused,
    IllegalTransition,
    InternalError,
    Phase,
    SyncError,
    SyncOptions,
    Trigger,
    errors,
)
from statesync.diagram import DiagramsMissing
from statesync.lifecycle import NO_BATCH_OPEN
from statesync.protocol import decide as protocol
from statesync.protocol.conversation import Conversation
from statesync.protocol.messages import Decision, Event


def every_error() -> Iterator[type[SyncError]]:
    waiting: list[type[SyncError]] = [SyncError]
    while waiting:
        kind = waiting.pop()
        if kind.__module__.split(".")[0] == "statesync":
            yield kind
            waiting += kind.__subclasses__()


ERRORS = sorted(every_error(), key=lambda kind: kind.code)


def test_the_family_is_read_whole() -> None:
    assert {SyncError, DiagramsMissing, statesync.StaleRunner, statesync.StoreFull} < set(ERRORS)
    assert len(ERRORS) >= 31


@pytest.mark.parametrize("what", ["code", "reason"])
def test_no_two_errors_share_a_code_or_a_reason(what: str) -> None:
    """Each class has its own, also those that only inherit it by an oversight."""
    assert [kind.__name__ for kind in ERRORS if what not in vars(kind)] == []
    counted = Counter(getattr(kind, what) for kind in ERRORS)
    assert [value for value, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("kind", ERRORS)
def test_each_error_can_be_imported_where_it_may_be_raised(kind: type[SyncError]) -> None:
    door = "statesync" if kind.__module__ == errors.__name__ else kind.__module__.rpartition(".")[0]
    assert getattr(import_module(door), kind.__name__) is kind
    assert kind.__name__ in import_module(door).__all__
    assert kind.__doc__


def test_a_refusal_says_what_it_requires() -> None:
    refused = GuardRefused(Phase.UPLOADING, Trigger.FINISH_UPLOAD, NO_BATCH_OPEN)
    assert str(refused) == "finish_upload is refused in uploading: it requires that no batch is open"
    assert (refused.phase, refused.trigger, refused.guard) == (
        Phase.UPLOADING,
        Trigger.FINISH_UPLOAD,
        NO_BATCH_OPEN,
    )


def test_an_illegal_trigger_says_what_is_legal() -> None:
    illegal = IllegalTransition(Phase.IDLE, Trigger.SETTLE, (Trigger.START, Trigger.CANCEL))
    assert str(illegal) == "settle is illegal in idle; legal is: start, cancel"


Changes = dict[Trigger, Callable[[Decision], Decision]]


def decide_otherwise(monkeypatch: pytest.MonkeyPatch, changes: Changes) -> None:
    """Let every decision for these triggers be changed, as a defect would change it."""

    def decide(now: Conversation, event: Event) -> Decision:
        decision = protocol.decide(now, event)
        for trigger in set(changes) & set(decision.triggers):
            decision = changes[Trigger(trigger)](decision)
        return decision

    monkeypatch.setattr("statesync.session.driver.decide", decide)


def with_a_full_outbox(decision: Decision) -> Decision:
    return evolve(decision, facts=evolve(decision.facts, outbox_drained=False))


def with_another_end(decision: Decision) -> Decision:
    return evolve(decision, triggers=(Trigger.SETTLE,))


def test_a_session_that_is_refused_a_step_fails_in_plain_words(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.add(3)
    decide_otherwise(monkeypatch, {Trigger.FINISH_UPLOAD: with_a_full_outbox})
    error = here.scope.start_sync(SyncOptions(upload_batch_size=2)).exception(30)
    assert isinstance(error, InternalError)
    assert isinstance(error.__cause__, GuardRefused)
    assert re.match(
        r"finish_upload is refused in uploading: it requires that the outbox is drained up to the session's "
        r"upload limit\. .*what was committed stays.*Sync again.*statesync session",
        str(error),
    )
    assert error.phase is Phase.FAILED
    assert here.operations() == {}


def test_a_session_whose_very_end_is_refused_ends_all_the_same(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal cannot say so; the next session begins by ending it as interrupted."""
    changes: Changes = {Trigger.FINISH_UPLOAD: with_a_full_outbox, Trigger.FAIL: with_another_end}
    decide_otherwise(monkeypatch, changes)
    session = here.scope.start_sync()
    error = session.exception(30)
    assert isinstance(error, InternalError)
    assert str(error).startswith("finish_upload is refused in uploading")
    monkeypatch.undo()
    here.sync()
    first, second = here.store.sessions()
    assert (first.phase, first.reason) == (Phase.FAILED, "interrupted")
    assert (first.id, second.phase) == (session.id, Phase.DONE)
