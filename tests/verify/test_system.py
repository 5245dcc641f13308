"""The real conversation keeps every promise in every interleaving, and the model notices when it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import pytest
from attrs import evolve
from rig.search import some

from statesync.lifecycle import Phase, Trigger
from statesync.protocol.conversation import Conversation, Doubt, RequestState
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    Adapt,
    Answered,
    AskAhead,
    BackoffOver,
    BeginSession,
    CancelRequested,
    ComposeAhead,
    Decision,
    Drain,
    DropBatch,
    EndSession,
    Event,
    Finish,
    GraceOver,
    HeadStartOver,
    LocalFailure,
    Prepare,
    RequestFailed,
    Send,
    StoreAnswer,
    StoreDoubt,
)
from statesync.values import Direction, Reason
from statesync.verify.modelled import adapting, downloads, hub, others, quarantine, table, uploads
from statesync.verify.modelled import device as device_of_the_model
from statesync.verify.modelled.adapting import adapt, reread
from statesync.verify.modelled.device import (
    MISSED_DELETES,
    Device,
    Tally,
    add_change,
    fix_limit,
    fold,
    with_change,
)
from statesync.verify.modelled.hub import Hub
from statesync.verify.modelled.quarantine import Misfit
from statesync.verify.modelled.uploads import Batch, Verdicts
from statesync.verify.modelled.wire import Conflict, Entry, Fields, Push, PushAnswer, Refusal, Request
from statesync.verify.system import (
    SystemReport,
    deleted,
    driver,
    network,
    promises,
    steps,
    storage,
    waiting,
    worlds,
)
from statesync.verify.system.explore import check_scenarios
from statesync.verify.system.happening import Kind
from statesync.verify.system.scenarios import POLICIES, SCENARIOS, Scenario
from statesync.verify.system.world import Asked, Talk, World
from statesync.verify.system.worlds import in_conflict
from statesync.wire import CLIENT_FORKED, FORBIDDEN

from .reaching import reached

NETWORK, EDITS, DELETES, DISK, REJECTIONS, DIRECTIONS = SCENARIOS[:6]
RESTORED, FORGETFUL, UNWILLING, SMALL, FORBIDDING = SCENARIOS[6:11]
OTHERS, CLEARED, RESET = SCENARIOS[11:14]
MISFITS, SHORT_ANSWERS, WAITING, SHARED, FORGOTTEN = SCENARIOS[14:]

ENOUGH = evolve(NETWORK, accidents={Kind.CANCEL: 1, Kind.LOSE_REQUEST: 1, Kind.LOSE_ANSWER: 1})
"""What is needed to notice most defects, and quick."""

GRACES = evolve(NETWORK, accidents={Kind.CANCEL: 1, Kind.HURRY: 1})
ROLL_BACK = evolve(DISK, accidents={Kind.ROLL_BACK: 1})
ONE_EDIT = evolve(EDITS, accidents={Kind.EDIT: 1, Kind.LOSE_ANSWER: 1})
COPIED = evolve(FORGETFUL, accidents={Kind.COPY: 1})
RIGHTS = evolve(FORBIDDING, accidents={Kind.FORBID: 1})

SET_UP = evolve(OTHERS, accidents={Kind.SET_UP: 1})
TRACKED_ANEW = evolve(OTHERS, accidents={Kind.TRACK_ANEW: 1})
TRACKED = evolve(OTHERS, accidents={Kind.TRACK: 1})
ALL_CLEARED = evolve(CLEARED, accidents={Kind.CLEAR_ALL: 1})
KEPT = evolve(RESET, accidents={Kind.RESET: 1})

Sabotage = Callable[[Conversation, Event, Decision], Decision]


@pytest.fixture(scope="module")
def report() -> SystemReport:
    return check_scenarios(SCENARIOS)


def one_accident_each() -> list[Scenario]:
    """Return every scenario with one of its accidents, so that each kind of accident is in one of them."""
    alone, met = [], set[Kind]()
    for scenario in SCENARIOS:
        kinds = [kind for kind in scenario.accidents if kind not in met] or list(scenario.accidents)[:1]
        alone += [evolve(scenario, accidents={kind: 1}) for kind in kinds]
        met.update(kinds)
    return alone


def test_every_promise_holds_with_each_accident_alone() -> None:
    """What every run can afford, some of them; all of them together are a run of their own."""
    alone = one_accident_each()
    for each, policy in zip(some(alone, 6), cycle(POLICIES), strict=False):
        seen = check_scenarios([each], [policy])
        assert seen.violations == ()
        assert all(part.runs > 3 for part in seen.explored)
    assert {kind for each in alone for kind in each.accidents} == {
        kind for each in SCENARIOS for kind in each.accidents
    }


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_every_promise_holds_in_every_interleaving(
    report: SystemReport, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print("", *report.explored, sep="\n")
    assert report.violations == ()
    assert all(holds for _, holds in report.properties)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_the_bounds_are_as_wide_as_promised(report: SystemReport) -> None:
    """Two upload batches, two pages, three records, two devices; each accident once, at any point."""
    assert [
        (each.name, {kind.name: times for kind, times in each.accidents.items()}) for each in SCENARIOS
    ] == [
        (
            "the network fails, and the user cancels",
            {"CANCEL": 1, "HURRY": 1, "CRASH": 1, "UNREACHABLE": 1, "LOSE_REQUEST": 1, "LOSE_ANSWER": 1},
        ),
        ("the user goes on working", {"EDIT": 1, "DELETE": 1, "LOSE_ANSWER": 1}),
        ("edits meet deletes", {"EDIT": 1, "CRASH": 1}),
        (
            "the disk refuses transactions, and the driver has a defect",
            {"ROLL_BACK": 2, "LOSE_ANSWER": 1, "CANCEL": 1, "DEFECT": 1},
        ),
        ("the hub rejects records", {"EDIT": 1, "LOSE_ANSWER": 1, "CANCEL": 1}),
        ("sessions in one direction, with a deadline", {"TIME_OUT": 1, "LOSE_ANSWER": 1, "EDIT": 1}),
        ("the hub is restored from a backup", {"RESTORE": 1, "LOSE_ANSWER": 1}),
        ("the hub forgets deletes, and hears of a copy", {"PURGE": 1, "COPY": 1}),
        ("the hub will not take a batch that may be in doubt", {"REFUSE": 1, "LOSE_ANSWER": 1, "EDIT": 1}),
        ("the hub finds batches too large", {"REFUSE": 2, "LOSE_ANSWER": 1, "CANCEL": 1}),
        ("the device may not write", {"FORBID": 1, "LOSE_ANSWER": 1, "CANCEL": 1}),
        (
            "other programs set the store up while a session runs",
            {"SET_UP": 1, "TRACK_ANEW": 1, "TRACK": 1},
        ),
        ("the store is cleared between sessions", {"CLEAR": 1, "CLEAR_ALL": 1, "CRASH": 1}),
        ("the store is reset between sessions", {"RESET": 1, "RESET_ALL": 1, "CRASH": 1}),
        ("records do not fit their table", {"EDIT": 1, "MIGRATE": 1, "CRASH": 1}),
        ("answers do not carry all that is in conflict", {"EDIT": 1, "LOSE_ANSWER": 1}),
        ("what waits is read again, edited and retried", {"EDIT": 1, "PURGE": 1, "RETRY": 1}),
        ("a record is deleted that the hub may have", {"DELETE": 1}),
        ("a delete that the hub has forgotten is missed", {"EDIT": 1, "UNREACHABLE": 1}),
    ]
    world = in_conflict("server_wins")
    assert [device.name for device in world.devices] == ["a", "b"]
    assert len(world.devices[0].log) == 2 * world.plans[0].options.batch_size
    unseen = [record for record in world.hub.records if record.version > world.devices[0].cursor]
    assert len(unseen) == 2 * downloads.PAGE_SIZE
    assert len(world.hub.records) == 3
    assert all(part.runs > 10_000 for part in report.explored)


def test_every_outcome_is_met() -> None:
    seen = reached(NETWORK.worlds("client_wins"))
    assert {world.ended for world in seen} == {None, Phase.DONE, Phase.CANCELLED, Phase.FAILED}
    assert any(world.ended is Phase.FAILED and world.device.in_doubt for world in seen)
    assert any(world.late is not None for world in seen)
    assert any(world.devices[0].conflicts for world in seen)
    assert any(world.is_over for world in seen)


def test_a_page_is_asked_for_ahead_and_used_and_also_dropped() -> None:
    seen = reached(GRACES.worlds("server_wins"))
    ahead = {world for world in seen if world.talk is not None and world.talk.ahead is not None}
    after = [step.target.talk for world in ahead for step in steps.steps(world)]
    assert any(talk is not None and talk.ahead is None and talk.request is not None for talk in after)
    assert any(talk is None or talk.conversation.phase is Phase.IDLE for talk in after)


def test_runs_begin_with_and_without_a_batch_in_doubt() -> None:
    clean, unheard, applied = NETWORK.worlds("server_wins")
    assert [world.devices[0].in_doubt for world in (clean, unheard, applied)] == [False, True, True]
    receipts = [world.hub.receipt("a") for world in (clean, unheard, applied)]
    assert [receipt is not None for receipt in receipts] == [False, False, True]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_without_accidents_every_beginning_has_one_end(scenario: Scenario) -> None:
    """What is asked for ahead may come sooner or later, and changes nothing."""
    for beginning in scenario.worlds("server_wins", times=0):
        assert sum(world.is_over for world in reached({beginning})) == 1


# -- broken conversations ----------------------------------------------------------------------------


def forget_doubt(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Drop every batch for good, sent or not."""
    effects = tuple(
        evolve(effect, in_doubt=False) if isinstance(effect, DropBatch | StoreDoubt) else effect
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
        return evolve(decision, triggers=triggers, effects=effects, actions=(Prepare(1),))
    return decision


def read_ahead_after_cancel(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Ask for another page while the session is cancelling."""
    if now.phase is Phase.CANCELLING and isinstance(event, Answered) and event.more:
        return evolve(decision, meanwhile=(AskAhead(),))
    return decision


def drain_always(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Let a cancel wait although no request is under way."""
    if isinstance(event, CancelRequested) and any(isinstance(each, Finish) for each in decision.actions):
        waits = evolve(now, cancelled_by=event.reason)
        return Decision(waits, (Trigger.CANCEL,), decision.facts, actions=(Drain(None),))
    return decision


def send_what_is_written(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Send a batch that is written down although a cancel has come first."""
    batch = now.batch
    if not isinstance(event, CancelRequested) or batch is None or batch.request is not RequestState.NOT_SENT:
        return decision
    sent = evolve(now, cancelled_by=event.reason, batch=evolve(batch, request=RequestState.UNDER_WAY))
    actions = (Send(batch.direction), Drain(event.grace))
    return Decision(sent, (Trigger.CANCEL,), decision.facts, actions=actions)


def hear_every_cancel(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Take the reason of the second cancel."""
    if isinstance(event, CancelRequested) and now.phase is Phase.CANCELLING:
        return Decision(evolve(now, cancelled_by=event.reason))
    return decision


def hear_no_second_grace(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Let the first cancel's grace count, whatever comes later."""
    return Decision(now) if isinstance(event, CancelRequested) and now.cancelled_by else decision


def blame_the_user(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Say that every cancel was the user's."""
    by = decision.conversation.cancelled_by and Reason.USER
    return evolve(decision, conversation=evolve(decision.conversation, cancelled_by=by))


def commit_without_storing(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Commit a batch and forget to store its answer."""
    return evolve(
        decision, effects=tuple(each for each in decision.effects if not isinstance(each, StoreAnswer))
    )


def fail_with_a_batch(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Fail without ending the batch first."""
    if isinstance(event, RequestFailed) and Trigger.FAIL in decision.triggers:
        return evolve(decision, triggers=(Trigger.FAIL,))
    return decision


def finish_early(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Announce the end as soon as a cancel comes."""
    if isinstance(event, CancelRequested) and any(isinstance(each, Drain) for each in decision.actions):
        return evolve(decision, actions=(Finish(),))
    return decision


def fail_without_doubt(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Drop an upload for good whose answer could not be stored."""
    return forget_doubt(now, event, decision) if isinstance(event, LocalFailure) else decision


def upload_everything(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Look for changes past the upload limit."""
    actions = tuple(
        evolve(each, up_to=1_000) if isinstance(each, Prepare) else each for each in decision.actions
    )
    return evolve(decision, actions=actions)


def upload_nothing(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Fix the upload limit before everything that waits."""
    effects = tuple(
        BeginSession(uploads=False) if isinstance(each, BeginSession) else each for each in decision.effects
    )
    return evolve(decision, effects=effects)


def compose_and_prepare(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Take what is composed ahead for looked through."""
    ahead = [each for each in decision.actions if isinstance(each, ComposeAhead)]
    if not isinstance(event, HeadStartOver) or not ahead:
        return decision
    return evolve(decision, conversation=evolve(decision.conversation, looked_through=ahead[0].after))


def hear_what_is_late(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Take a back-off that is over for one that somebody waits for."""
    if isinstance(event, BackoffOver) and now.phase is Phase.UPLOADING and now.batch is None:
        return Decision(now, actions=(Prepare(1),))
    return decision


def let_go_for_want_of_a_right(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Drop for good a batch in doubt that the hub does not look at because its sender may not write."""
    if not isinstance(event, RequestFailed) or event.error.status != 403 or not now.is_replaying:
        return decision
    forgotten = forget_doubt(now, event, decision)
    return evolve(forgotten, conversation=evolve(forgotten.conversation, doubt=Doubt.NONE))


def forget_to_adapt(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Go on under the old identity, in the old epoch."""
    return evolve(decision, effects=tuple(each for each in decision.effects if not isinstance(each, Adapt)))


def be_done_with_rejections(now: Conversation, event: Event, decision: Decision) -> Decision:
    """Leave the upload although the hub has rejected everything."""
    if Trigger.FAIL not in decision.triggers or not now.sent or now.rejected != now.sent:
        return decision
    going_on = decide(evolve(now, rejected=0), event)
    return evolve(going_on, conversation=evolve(going_on.conversation, rejected=now.rejected))


@pytest.mark.sabotage
@pytest.mark.parametrize(
    ("sabotage", "broken", "scenario"),
    [
        (forget_doubt, promises.NEVER_FORKED, ENOUGH),
        (settle_in_doubt, promises.TRUTHFUL, ENOUGH),
        (go_on_after_cancel, promises.NOTHING_NEW, ENOUGH),
        (read_ahead_after_cancel, promises.NOTHING_NEW, ENOUGH),
        (drain_always, promises.AT_ONCE, ENOUGH),
        (send_what_is_written, promises.AT_ONCE, GRACES),
        (hear_every_cancel, promises.SAME_OUTCOME, ENOUGH),
        (hear_no_second_grace, promises.SHORTEST, GRACES),
        (blame_the_user, promises.REASONED, DIRECTIONS),
        (commit_without_storing, promises.WHOLE, ENOUGH),
        (fail_with_a_batch, promises.LAWFUL, ENOUGH),
        (finish_early, promises.RECORDED_END, ENOUGH),
        (fail_without_doubt, promises.NEVER_FORKED, ROLL_BACK),
        (upload_everything, promises.LIMIT, ONE_EDIT),
        (upload_nothing, promises.DRAINED, ENOUGH),
        (compose_and_prepare, promises.AHEAD, ENOUGH),
        (hear_what_is_late, promises.STRAY, ENOUGH),
        (let_go_for_want_of_a_right, promises.NEVER_FORKED, RIGHTS),
        (forget_to_adapt, promises.AGREED, COPIED),
        (be_done_with_rejections, promises.REJECTED, REJECTIONS),
    ],
)
def test_a_broken_conversation_is_noticed(
    monkeypatch: pytest.MonkeyPatch, sabotage: Sabotage, broken: str, scenario: Scenario
) -> None:
    def broken_decide(now: Conversation, event: Event) -> Decision:
        return sabotage(now, event, decide(now, event))

    monkeypatch.setattr(driver, "decide", broken_decide)
    monkeypatch.setattr(promises, "decide", broken_decide)
    reports = (check_scenarios([scenario], [policy]) for policy in POLICIES)
    found = {each.statement: each for report in reports for each in report.violations}
    assert broken in found
    assert f"violated ({found[broken].policy}): {broken}" in found[broken].text()


# -- broken stores and hubs --------------------------------------------------------------------------


def statements(scenario: Scenario, policy: str = "client_wins") -> set[str]:
    return {violation.statement for violation in check_scenarios([scenario], [policy]).violations}


@pytest.mark.sabotage
def test_a_hub_that_tells_no_reader_what_became_of_its_batch_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def push(there: Hub, request: Push, *, may_write: bool = True) -> tuple[Hub, PushAnswer | Refusal]:
        return hub.push(there, request) if may_write else (there, Refusal(FORBIDDEN))

    monkeypatch.setattr(network, "push", push)
    assert promises.NEVER_FORKED in statements(RIGHTS)


@pytest.mark.sabotage
def test_an_edit_during_the_upload_that_is_forgotten_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store must compare revisions before it takes a change out of the outbox."""
    monkeypatch.setattr(
        uploads,
        "_acknowledge",
        lambda device, batch, change, verdict: with_change(device, change.key, lambda _: None),
    )
    assert promises.ARRIVED in statements(ONE_EDIT)


@pytest.mark.sabotage
def test_an_edit_during_the_upload_that_stays_in_its_place_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It must move past the upload limit; in the second round it would go up in the same session."""
    acknowledge = uploads._acknowledge

    def lazy(device: Device, batch: str, change, verdict) -> Device:  # type: ignore[no-untyped-def]
        before, after = device.pending(change.key), acknowledge(device, batch, change, verdict)
        if before is None or after.pending(change.key) is None:
            return after
        return with_change(after, change.key, lambda each: evolve(each, position=before.position))

    monkeypatch.setattr(uploads, "_acknowledge", lazy)
    assert promises.LIMIT in statements(ONE_EDIT)


@pytest.mark.sabotage
def test_an_upload_limit_that_is_not_fixed_anew_after_a_replay_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = uploads.store

    def forgetful(device: Device, batch: Batch, verdicts: Verdicts) -> tuple[Device, int, int | None]:
        stored, accepted, _ = store(device, batch, verdicts)
        return stored, accepted, None

    monkeypatch.setattr(uploads, "store", forgetful)
    assert promises.DRAINED in statements(evolve(EDITS, accidents={Kind.EDIT: 1, Kind.CRASH: 1}))


@pytest.mark.sabotage
def test_a_page_that_overwrites_what_is_pending_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "fold", lambda device: evolve(device, log=()))
    assert statements(ONE_EDIT) & {promises.NOTHING_LOST, promises.AGREED}


@pytest.mark.sabotage
def test_a_page_ahead_that_is_taken_for_any_other_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used only as the answer to the very same request."""
    request = driver._request

    def careless(device: Device, talk: Talk, direction: Direction) -> Request:
        return talk.ahead.request if talk.ahead is not None else request(device, talk, direction)

    monkeypatch.setattr(driver, "_request", careless)
    monkeypatch.setattr(downloads, "request_ahead", lambda fetched: fetched.request)
    assert promises.NOTHING_STAGED in statements(GRACES, "server_wins")


@pytest.mark.sabotage
def test_a_hub_without_receipts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without receipts a repeat is applied twice."""
    push, pull = hub.push, hub.pull

    def without(known: Hub, request: Push) -> Hub:
        """Return a hub that takes whatever number comes."""
        kept = [each for each in known.receipts if each.client != request.client]
        last = hub.Receipt(request.client, request.number - 1, "", PushAnswer("hub", 1, 0, ()))
        return evolve(known, receipts=(*kept, last))

    monkeypatch.setattr(network, "push", lambda known, request: push(without(known, request), request))
    monkeypatch.setattr(
        network, "pull", lambda known, request: pull(evolve(known, receipts=()), evolve(request, number=0))
    )
    assert promises.ONCE in statements(ENOUGH)


def take_what_did_not_come_for(data: Fields | None) -> Callable[[pytest.MonkeyPatch], None]:
    """Take a conflict without the hub's record for one with this record; None for a deleted one."""

    def sabotage(patch: pytest.MonkeyPatch) -> None:
        take = uploads.take

        def taken(device: Device, batch: Batch, answer: PushAnswer, *rest: Any) -> tuple[Verdicts, Answered]:
            told = (
                Conflict(each.version, data) if isinstance(each, Conflict) and each.lacks_record else each
                for each in answer.verdicts
            )
            return take(device, batch, evolve(answer, verdicts=tuple(told)), *rest)

        patch.setattr(uploads, "take", taken)

    return sabotage


@pytest.mark.sabotage
@pytest.mark.parametrize(
    "sabotage",
    [take_what_did_not_come_for(()), take_what_did_not_come_for(None)],
    ids=["an empty one", "a deleted one"],
)
def test_a_conflict_without_a_record_that_is_taken_for_one_is_noticed(
    monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None]
) -> None:
    sabotage(monkeypatch)
    assert waiting.CONTESTED in statements(evolve(SHORT_ANSWERS, accidents={Kind.LOSE_ANSWER: 1}))


def test_conflicts_come_with_and_without_their_records() -> None:
    """The worlds have what they are about: in one session the second record comes with a second round."""
    told = [
        [verdict.lacks_record for verdict in world.talk.reply.verdicts if isinstance(verdict, Conflict)]
        for world in reached(SHORT_ANSWERS.worlds("client_wins"))
        if world.talk is not None and isinstance(world.talk.reply, PushAnswer)
    ]
    assert [False, True] in told
    assert [True, True] in told, "a repeat brings no record at all"
    assert [False] in told


# -- other programs ----------------------------------------------------------------------------------


def compare_nothing(device: Device) -> Asked:
    """Say that all was asked for from the same place."""
    return Asked(device.client, (0, None, 0, 0, 0))


def in_every_policy(scenario: Scenario) -> set[str]:
    return {broken for policy in POLICIES for broken in statements(scenario, policy)}


def without_the_lock(world: World, kind: Kind) -> bool:
    """Let everything happen at any point of the first session."""
    return world.talk is not None and world.ended is None


def test_a_session_under_which_the_store_changes_fails_and_the_next_one_is_done() -> None:
    seen = reached(SET_UP.worlds("client_wins"))
    assert {world.ended for world in seen} == {None, Phase.DONE, Phase.FAILED}
    assert {world.ended for world in seen if world.is_over} == {Phase.DONE}


def test_a_session_goes_on_where_another_object_is_tracked() -> None:
    assert {world.ended for world in reached(TRACKED.worlds("client_wins"))} == {None, Phase.DONE}


@pytest.mark.sabotage
def test_a_look_at_the_objects_that_a_session_did_not_know_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "looks_as_known", lambda device, talk: device.looks == talk.looks)
    assert Phase.FAILED in {world.ended for world in reached(TRACKED.worlds("client_wins"))}


@pytest.mark.sabotage
def test_a_page_that_is_stored_where_it_was_not_asked_from_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The records that it does not bring are deleted, although the cursor has passed them."""
    monkeypatch.setattr(storage, "asked_from", compare_nothing)
    monkeypatch.setitem(steps.OTHERS, Kind.SET_UP, lambda device: reread(device, MISSED_DELETES))
    assert promises.COMPLETE in in_every_policy(SET_UP)


@pytest.mark.sabotage
def test_a_page_that_is_stored_into_a_comparison_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The records that it does not bring are taken for lost by the hub, and sent again."""
    monkeypatch.setattr(storage, "asked_from", compare_nothing)
    assert promises.ONCE in in_every_policy(TRACKED_ANEW)


@pytest.mark.sabotage
def test_a_store_that_does_not_look_at_descriptions_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "looks_as_known", lambda device, talk: True)
    assert promises.DESCRIBED in in_every_policy(SET_UP)


@pytest.mark.sabotage
def test_a_reset_without_the_lock_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_may_happen", without_the_lock)
    assert statements(KEPT) >= {waiting.CONTESTED, promises.NEVER_FORKED}
    all_reset = evolve(RESET, accidents={Kind.RESET_ALL: 1})
    assert statements(all_reset) >= {promises.TRUTHFUL, promises.COMPLETE}


@pytest.mark.sabotage
def test_a_clear_without_the_lock_and_without_a_comparison_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steps, "_may_happen", without_the_lock)
    monkeypatch.setattr(storage, "asked_from", compare_nothing)
    assert promises.COMPLETE in in_every_policy(ALL_CLEARED)


@pytest.mark.sabotage
def test_a_clear_that_does_not_refuse_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "waits", lambda device: False)
    assert promises.NOTHING_LOST in in_every_policy(evolve(CLEARED, accidents={Kind.CLEAR: 1}))


@pytest.mark.sabotage
def test_a_clear_that_reads_on_from_where_it_was_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared = others.cleared

    def careless(device: Device) -> Device:
        return evolve(cleared(device, discard_pending=True), cursor=device.cursor)

    monkeypatch.setitem(steps.OTHERS, Kind.CLEAR_ALL, careless)
    assert promises.COMPLETE in in_every_policy(ALL_CLEARED)


@pytest.mark.sabotage
def test_a_reset_that_offers_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that stay are offered, whatever becomes of the hub."""
    reset = others.reset
    monkeypatch.setitem(
        steps.OTHERS, Kind.RESET, lambda device: evolve(reset(device, keep_records=True), outbox=())
    )
    assert in_every_policy(KEPT) & {promises.NOTHING_LOST, promises.AGREED}


# -- quarantine and parking ----------------------------------------------------------------------------

FITTING = evolve(MISFITS, accidents={Kind.MIGRATE: 1})
EDITED = evolve(MISFITS, accidents={Kind.EDIT: 1})
READ_AGAIN = evolve(WAITING, accidents={Kind.EDIT: 1, Kind.PURGE: 1})
RETRIED = evolve(WAITING, accidents={Kind.RETRY: 1})
WITH_MISFITS = (FITTING, RETRIED, EDITED, READ_AGAIN)
STARTED_OVER = (
    evolve(MISFITS, accidents={Kind.CLEAR_ALL: 1}),
    evolve(WAITING, accidents={Kind.CLEAR_ALL: 1, Kind.RESET: 1, Kind.RESET_ALL: 1}),
)
READ_OVER = evolve(WAITING, accidents={Kind.SET_UP: 1, Kind.TRACK_ANEW: 1})


def is_noticed(broken: str) -> bool:
    """Tell whether a promise is broken in the worlds in which records wait, with small bounds."""
    return any(broken in statements(each, policy) for each in WITH_MISFITS for policy in POLICIES)


@pytest.mark.parametrize("scenario", [*STARTED_OVER, READ_OVER])
def test_what_waits_keeps_its_promises_where_the_store_changes(scenario: Scenario) -> None:
    assert in_every_policy(scenario) == set()


def drop_the_page(patch: pytest.MonkeyPatch) -> None:
    """Store nothing of a page that has a record that does not fit."""
    write = quarantine.write

    def dropped(device: Device, entries: Sequence[Entry]) -> tuple[Device, tuple[Misfit, ...]]:
        after, misfits = write(device, entries)
        return (device, ()) if misfits else (after, misfits)

    patch.setattr(quarantine, "write", dropped)


def forget_what_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    """Move the cursor without the row in quarantine."""
    patch.setattr(quarantine, "hold", lambda device, misfits: device)
    patch.setattr(quarantine, "keep_bases", lambda device, misfits, known: device)


def take_the_cursor_for_the_base(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(quarantine, "keep_bases", lambda device, misfits, known: device)


def pass_over_old_rows(patch: pytest.MonkeyPatch) -> None:
    """Forget the versions of old rows where a read from the start passes them."""
    passes = downloads._pass_over
    patch.setattr(
        downloads,
        "_pass_over",
        lambda device, cursor: evolve(device, ahead=passes(evolve(device, held=()), cursor).ahead),
    )


def overwrite_what_is_pending(patch: pytest.MonkeyPatch) -> None:
    """Try again also what a change waits of."""
    patch.setattr(quarantine, "_free", lambda device, some: list(some))


def keep_the_exception(patch: pytest.MonkeyPatch) -> None:
    release = quarantine.release
    patch.setattr(
        quarantine, "release", lambda device, keys: evolve(release(device, keys), ahead=device.ahead)
    )


def release_for_no_verdict(patch: pytest.MonkeyPatch) -> None:
    store = uploads.store

    def stored(device: Device, batch: Batch, verdicts: Verdicts) -> tuple[Device, int, int | None]:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(quarantine, "release", lambda device, keys: device)
            return store(device, batch, verdicts)

    patch.setattr(uploads, "store", stored)


def forget_in_a_read_from_the_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(storage, "adapt", lambda device, refusal: evolve(adapt(device, refusal), held=()))


def keep_what_the_hub_has_no_more(patch: pytest.MonkeyPatch) -> None:
    """Let what waits stay where a read from the start has not met it."""
    finish = downloads._finish_reread
    patch.setattr(downloads, "_finish_reread", lambda device: evolve(finish(device), held=device.held))


def never_try_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(quarantine, "try_again", lambda device: (device, 0))


def make_no_room(patch: pytest.MonkeyPatch) -> None:
    """Try records that have each other's values one by one."""
    patch.setattr(table, "with_room", lambda rules, rows, crowded: (rows, set(crowded)))


def count_nothing_that_goes(patch: pytest.MonkeyPatch) -> None:
    """Let a session's journal say nothing of what it let go."""
    patch.setattr(downloads, "Tally", lambda *told, **_: Tally(*told[:3]))


def let_parked_changes_go(patch: pytest.MonkeyPatch) -> None:
    """Send in each session again what the hub has refused."""
    patch.setattr(storage, "fix_limit", lambda device: fix_limit(others.retried(device)))


@pytest.mark.sabotage
@pytest.mark.parametrize(
    ("sabotage", "broken"),
    [
        (drop_the_page, promises.ARRIVED),
        (forget_what_does_not_fit, promises.ARRIVED),
        (take_the_cursor_for_the_base, waiting.CONTESTED),
        (pass_over_old_rows, waiting.CONTESTED),
        (overwrite_what_is_pending, promises.NOTHING_LOST),
        (keep_the_exception, waiting.EXACT),
        (release_for_no_verdict, promises.ARRIVED),
        (forget_in_a_read_from_the_start, waiting.WAITS),
        (keep_what_the_hub_has_no_more, promises.AGREED),
        (never_try_again, waiting.HEALED),
        (make_no_room, waiting.HEALED),
        (count_nothing_that_goes, waiting.COUNTED),
        (let_parked_changes_go, waiting.WAITS),
    ],
)
def test_a_store_that_does_not_let_wait_what_has_to_is_noticed(
    monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None], broken: str
) -> None:
    sabotage(monkeypatch)
    assert is_noticed(broken)


def test_records_wait_and_are_let_go_and_changes_are_parked() -> None:
    """The worlds have what they are about: a swap, an old row that is edited, and something refused."""
    seen = {world for scenario in WITH_MISFITS for world in reached(scenario.worlds("client_wins"))}
    assert {len(world.devices[0].held) for world in seen} == {0, 1, 2}
    ends = [world.devices[0] for world in seen if world.is_over]
    assert {(bool(device.held), device.rules is None) for device in ends} == {
        (False, False),
        (True, False),
        (False, True),
    }
    assert any(change.is_parked for world in seen for change in world.devices[0].outbox)
    assert any(world.devices[0].conflicts and world.devices[0].held for world in seen)


# -- deletes -------------------------------------------------------------------------------------------


def note_no_doubt(patch: pytest.MonkeyPatch) -> None:
    for module in (uploads, storage, worlds):
        patch.setattr(module, "keep_doubt", lambda device: evolve(device, in_doubt=True))


def take_no_image_and_no_batch_for_never_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        device_of_the_model,
        "_is_empty",
        lambda change: change.operation == "delete" and change.image is None and change.batch is None,
    )


def think_nothing_of_a_copy(patch: pytest.MonkeyPatch) -> None:
    def careless(device: Device, refusal: Refusal) -> Device:
        adapted = adapt(device, refusal)
        if refusal.code != CLIENT_FORKED:
            return adapted
        known = {each.key: each.shared for each in fold(device).outbox}
        outbox = (evolve(each, shared=known.get(each.key, False)) for each in adapted.outbox)
        return evolve(adapted, outbox=tuple(outbox))

    patch.setattr(worlds, "adapt", careless)


def offer_what_is_new_to_everybody(patch: pytest.MonkeyPatch) -> None:
    def careless(
        device: Device, key: str, operation: str, image: Fields | None, base: int, **more: Any
    ) -> Device:
        return add_change(device, key, operation, image, base if image else 0, **more)

    patch.setattr(downloads, "add_change", careless)


def take_what_was_read_again_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        adapting,
        "reread",
        lambda device, why: _having_missed(reread(device, why), device.cursor),
    )


def _having_missed(device: Device, read: int) -> Device:
    return evolve(device, missed_from=max(device.missed_from, read))


def base_an_edit_on_what_was_read_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(device_of_the_model, "_base", lambda device, key: (max(1, device.cursor), 0))


@pytest.mark.sabotage
@pytest.mark.parametrize(
    ("sabotage", "scenario", "broken"),
    [
        (note_no_doubt, SHARED, promises.NOTHING_LOST),
        (take_no_image_and_no_batch_for_never_sent, SHARED, promises.NOTHING_LOST),
        (think_nothing_of_a_copy, SHARED, promises.NOTHING_LOST),
        (offer_what_is_new_to_everybody, FORGOTTEN, deleted.RETURNED),
        (take_what_was_read_again_for_all, FORGOTTEN, deleted.RETURNED),
        (base_an_edit_on_what_was_read_again, FORGOTTEN, deleted.RETURNED),
    ],
)
def test_a_store_that_forgets_deletes_or_brings_them_back_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    scenario: Scenario,
    broken: str,
) -> None:
    sabotage(monkeypatch)
    assert broken in in_every_policy(scenario)


@pytest.mark.sabotage
def test_a_hub_that_takes_what_it_has_forgotten_for_new_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    conflict = hub._conflict
    monkeypatch.setattr(hub, "_conflict", lambda *what: what[3] and conflict(*what))
    assert deleted.RETURNED in in_every_policy(FORGOTTEN)


def test_deletes_are_told_and_missed_ones_are_conflicts() -> None:
    """The worlds have what they are about: a delete that goes up, and one that is found in the log."""
    told = {world for world in reached(SHARED.worlds("client_wins")) if world.is_over}
    assert any(each.key == "x" and each.data is None for world in told for each in world.written)
    missed = FORGOTTEN.worlds("server_wins", times=0)
    ends = {world for first in missed for world in reached({first}) if world.is_over}
    assert {len(world.devices[0].conflicts) for world in ends} == {0, 1}
    assert all("x" not in dict(device.rows) for world in ends for device in world.devices)


def test_a_violation_comes_with_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "decide", lambda now, event: settle_in_doubt(now, event, decide(now, event)))
    (found,) = (each for each in check_scenarios([ENOUGH]).violations if each.statement == promises.TRUTHFUL)
    assert found.way[0] == "the session goes on (start)"
    assert "the user cancels (grace 10.0) (cancel)" in found.way
    assert found.way[-1].startswith("the grace is over")
