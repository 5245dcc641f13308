"""The real conversation keeps every promise in every interleaving, and the model notices when it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve

from statesync.lifecycle import Phase, Trigger
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    Answered,
    Broke,
    CancelRequested,
    Conversation,
    Decision,
    Drain,
    DropBatch,
    EndSession,
    Event,
    Finish,
    GraceOver,
    Prepare,
    StoreAnswer,
    StoreDoubt,
)
from statesync.verify.system import Budget, SystemReport, check_system, driver, promises, steps
from statesync.verify.system import hub as modelled_hub
from statesync.verify.system import store as modelled_store
from statesync.verify.system.explore import first_worlds
from statesync.verify.system.world import Accepted, Hub, Upload, Verdicts, World

ENOUGH = Budget(cancels=1, crashes=0, lost_requests=1, lost_answers=1, edits=0)
"""What is needed to notice most defects, and quick."""

Sabotage = Callable[[Conversation, Event, Decision], Decision]


@pytest.fixture(scope="module")
def report() -> SystemReport:
    return check_system()


def test_every_promise_holds_in_every_interleaving(
    report: SystemReport, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\n{report.text().splitlines()[0]}")
    assert report.violations == ()
    assert all(holds for _, holds in report.properties)


def test_the_bounds_are_as_wide_as_promised(report: SystemReport) -> None:
    """Two upload batches, two pages, three records, two devices; every accident once, anywhere."""
    assert Budget() == Budget(cancels=1, crashes=1, lost_requests=1, lost_answers=1, edits=1)
    world = first_worlds("server_wins", Budget())[0]
    assert [device.name for device in world.devices] == ["a", "b"]
    assert len(world.devices[0].outbox) == 2 * modelled_store.BATCH_SIZE
    unseen = [record for record in world.hub.records if record.version > world.devices[0].cursor]
    assert len(unseen) == 2 * modelled_hub.PAGE_SIZE
    assert len(world.hub.records) == 3
    assert report.runs > 100_000


def worlds(budget: Budget) -> set[World]:
    """Every world that an exploration meets."""
    frontier = [*first_worlds("client_wins", budget)]
    seen = set(frontier)
    while frontier:
        new = {step.target for step in steps.steps(frontier.pop())} - seen
        seen |= new
        frontier += new
    return seen


def test_every_outcome_is_met() -> None:
    seen = worlds(Budget())
    assert {world.ended[0] for world in seen if world.ended} == {Phase.DONE, Phase.CANCELLED, Phase.FAILED}
    assert any(world.stage == 1 and world.device.in_doubt for world in seen)
    assert any(world.late is not None for world in seen)
    assert any(world.devices[0].lost for world in seen)
    assert any(world.is_over for world in seen)


def test_runs_begin_with_and_without_a_batch_in_doubt() -> None:
    clean, unheard, applied = first_worlds("server_wins", Budget())
    assert [world.devices[0].in_doubt for world in (clean, unheard, applied)] == [False, True, True]
    assert [len(world.hub.receipts) for world in (clean, unheard, applied)] == [0, 0, 1]


def test_without_accidents_there_is_one_run_from_every_beginning() -> None:
    assert check_system(Budget(0, 0, 0, 0, 0)).runs == 2 * 3


def forget_doubt(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Drop every batch for good, sent or not."""
    effects = tuple(
        evolve(effect, doubtful=False) if isinstance(effect, DropBatch | StoreDoubt) else effect
        for effect in decision.effects
    )
    return evolve(decision, effects=effects)


def settle_in_doubt(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Say cancelled where the grace has passed, whatever was under way."""
    if not isinstance(event, GraceOver) or Trigger.FAIL not in decision.triggers:
        return decision
    triggers = tuple(Trigger.SETTLE if each is Trigger.FAIL else each for each in decision.triggers)
    facts = evolve(decision.facts, in_doubt=False)
    return evolve(decision, triggers=triggers, facts=facts)


def go_on_after_cancel(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Prepare another batch although the session is cancelling."""
    if now.phase is Phase.CANCELLING and isinstance(event, Answered):
        effects = tuple(effect for effect in decision.effects if not isinstance(effect, EndSession))
        triggers = tuple(trigger for trigger in decision.triggers if trigger is not Trigger.SETTLE)
        return evolve(decision, triggers=triggers, effects=effects, then=(Prepare(1),))
    return decision


def drain_always(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Let a cancel wait although no request is under way."""
    if isinstance(event, CancelRequested) and any(isinstance(each, Finish) for each in decision.then):
        return Decision(
            evolve(now, cancelled_by=event.reason), (Trigger.CANCEL,), decision.facts, (), (Drain(),)
        )
    return decision


def hear_every_cancel(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Take the reason of the second cancel."""
    if isinstance(event, CancelRequested) and now.phase is Phase.CANCELLING:
        return Decision(evolve(now, cancelled_by=event.reason))
    return decision


def commit_without_storing(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Commit a batch and forget to store its answer."""
    return evolve(
        decision, effects=tuple(each for each in decision.effects if not isinstance(each, StoreAnswer))
    )


def fail_with_a_batch(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Fail without ending the batch first."""
    if isinstance(event, Broke) and Trigger.FAIL in decision.triggers:
        return evolve(decision, triggers=(Trigger.FAIL,))
    return decision


def finish_early(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Announce the end as soon as a cancel comes."""
    if isinstance(event, CancelRequested) and any(isinstance(each, Drain) for each in decision.then):
        return evolve(decision, then=(Finish(),))
    return decision


@pytest.mark.parametrize(
    ("sabotage", "broken"),
    [
        (forget_doubt, promises.NEVER_FORKED),
        (settle_in_doubt, promises.TRUTHFUL),
        (go_on_after_cancel, promises.NOTHING_NEW),
        (drain_always, promises.AT_ONCE),
        (hear_every_cancel, promises.SAME_OUTCOME),
        (commit_without_storing, promises.WHOLE),
        (fail_with_a_batch, promises.LAWFUL),
        (finish_early, promises.RECORDED_END),
    ],
)
def test_a_broken_conversation_is_noticed(
    monkeypatch: pytest.MonkeyPatch, sabotage: Sabotage, broken: str
) -> None:
    def broken_decide(now: Conversation, event: Event) -> Decision:
        return sabotage(now, event, decide(now, event))

    monkeypatch.setattr(driver, "decide", broken_decide)
    monkeypatch.setattr(promises, "decide", broken_decide)
    found = {violation.statement: violation for violation in check_system(ENOUGH).violations}
    assert broken in found
    assert f"violated ({found[broken].policy}): {broken}" in found[broken].text()


def test_an_edit_during_the_upload_that_is_forgotten_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store must compare revisions before it takes a change out of the outbox."""
    acknowledge = modelled_store._acknowledge

    def careless(device, sent, now, verdict: Accepted):  # type: ignore[no-untyped-def]
        return acknowledge(device, sent, sent, verdict)

    monkeypatch.setattr(modelled_store, "_acknowledge", careless)
    edits = evolve(ENOUGH, edits=1)
    statements = {violation.statement for violation in check_system(edits).violations}
    assert promises.NOTHING_LOST in statements or promises.AGREED in statements


def test_a_hub_without_receipts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without receipts a repeat is applied twice."""

    def forgetful(hub: Hub, upload: Upload) -> tuple[Hub, Verdicts]:
        verdicts = []
        for change in upload.changes:
            hub, verdict = modelled_hub._judge(hub, upload.client, change)
            verdicts.append(verdict)
        return hub, tuple(verdicts)

    monkeypatch.setattr(steps, "push", forgetful)
    monkeypatch.setattr(
        steps, "pull", lambda hub, ask: modelled_hub.pull(evolve(hub, receipts=()), evolve(ask, number=0))
    )
    assert promises.ONCE in {violation.statement for violation in check_system(ENOUGH).violations}


def test_a_violation_comes_with_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "decide", lambda now, event: settle_in_doubt(now, event, decide(now, event)))
    (found,) = (each for each in check_system(ENOUGH).violations if each.statement == promises.TRUTHFUL)
    assert found.way[0].startswith("a begins a session")
    assert "the user cancels (cancel)" in found.way
    assert found.way[-1].startswith("the grace is over")
