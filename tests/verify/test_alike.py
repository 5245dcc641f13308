"""The modelled world and the real thing do the same and are then the same, step by step.

What the system model proves holds for the program only as far as the two are alike. Deliberate differences
show that one is noticed. ``PYTHONPATH=tests python -m verify.soak`` looks for one much longer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from rig.search import examples, some

from statesync.verify.modelled import adapting, device, downloads, others, quarantine, table, uploads
from statesync.verify.modelled.device import Device
from statesync.verify.modelled.hub import Hub, push
from statesync.verify.modelled.table import Rules
from statesync.verify.modelled.wire import Conflict, PushAnswer, Refusal
from statesync.verify.system import driver, network, storage
from statesync.verify.system.happening import Kind
from statesync.verify.system.world import Asked, Options
from statesync.wire import FORBIDDEN

from .alike import FEW_FIT, ROUND, UNFIT, AlikeMachine

EVERYTHING = 100
"""Steps that are more than any session here takes."""

A, B = 0, 1

UNTIL_UPLOAD_IS_UNDER_WAY = (Kind.GO_ON,) * 4
UNTIL_DOWNLOAD_IS_UNDER_WAY = (Kind.GO_ON,) * 2


@pytest.mark.parametrize("rules", [None, FEW_FIT], ids=["all fit", "few fit"])
def test_the_model_and_the_real_thing_are_alike(tmp_path: Path, rules: Rules | None) -> None:
    machine = type("Machine", (AlikeMachine,), {"folder": tmp_path, "table_rules": rules})

    run_state_machine_as_test(
        machine,
        settings=settings(
            ROUND,
            max_examples=examples(4 if rules is None else 2),
        ),
    )


# -- what happens, so that a difference shows --------------------------------------------------------


def sync(both: AlikeMachine, index: int, **options: object) -> None:
    both.begin(index, Options(**options), EVERYTHING)  # type: ignore[arg-type]


def an_edit_during_its_upload(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY)
    both.write(A, "x", "two")
    both.go_on(EVERYTHING)


def a_delete_during_its_upload(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY)
    both.write(A, "x", None)
    both.go_on(EVERYTHING)


def an_edit_during_its_download(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    sync(both, A)
    both.begin(B, Options(), 0)
    both.do(*UNTIL_DOWNLOAD_IS_UNDER_WAY)
    both.write(B, "x", "two")
    both.go_on(EVERYTHING)


def a_record_that_is_too_large(both: AlikeMachine) -> None:
    both.write(A, "x", "a text that is too large for the hub")
    sync(both, A)


def an_edit_while_it_is_rejected(both: AlikeMachine) -> None:
    both.write(A, "x", "a text that is too large for the hub")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY)
    both.write(A, "x", "one")
    both.go_on(EVERYTHING)
    sync(both, A)


def a_conflict(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.write(B, "x", "two")
    sync(both, A)
    sync(both, B, policy="client_wins")


def two_conflicts_of_which_one_comes(both: AlikeMachine) -> None:
    """An answer carries one record here. What it does not carry is offered again, and so is a repeat's."""
    for index, text in ((A, "one"), (B, "two")):
        both.write(index, "x", text)
        both.write(index, "y", text)
    sync(both, A, batch_size=2)
    both.begin(B, Options(policy="client_wins", batch_size=2), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.LOSE_ANSWER)
    both.go_on(EVERYTHING)


def an_edit_of_a_record_that_did_not_come(both: AlikeMachine) -> None:
    for index, text in ((A, "one"), (B, "two")):
        both.write(index, "x", text)
        both.write(index, "y", text)
    sync(both, A)
    both.begin(B, Options(policy="server_wins", batch_size=2), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.ANSWER)
    both.write(B, "y", "three")
    both.go_on(EVERYTHING)


def an_edit_of_what_a_conflict_brought(both: AlikeMachine) -> None:
    both.write(A, "y", "one")
    both.write(A, "x", "one")
    sync(both, A)
    both.write(B, "x", "two")
    sync(both, B, policy="server_wins", downloads=False)
    both.write(B, "x", "three")
    sync(both, B, policy="server_wins")


def an_edit_of_what_a_conflict_and_then_a_page_brought(both: AlikeMachine) -> None:
    an_edit_of_what_a_conflict_brought(both)
    both.write(B, "x", "four")
    sync(both, B)


def a_page_that_passes_what_a_conflict_brought(both: AlikeMachine) -> None:
    both.write(A, "y", "one")
    both.write(A, "x", "one")
    sync(both, A)
    both.write(B, "x", "two")
    sync(both, B, policy="server_wins", downloads=False)
    sync(both, B, uploads=False)


def a_restored_hub_and_what_a_conflict_brought(both: AlikeMachine) -> None:
    both.write(A, "y", "one")
    sync(both, A)
    both.back_up()
    both.write(A, "x", "one")
    sync(both, A)
    both.write(B, "x", "two")
    sync(both, B, policy="server_wins", downloads=False)
    both.begin(B, Options(), 0)
    both.do(*UNTIL_DOWNLOAD_IS_UNDER_WAY, Kind.RESTORE)
    both.go_on(EVERYTHING)


def a_page_under_which_the_store_is_set_up(both: AlikeMachine, how: Kind = Kind.SET_UP) -> None:
    both.write(A, "x", "one")
    both.write(A, "y", "one")
    sync(both, A)
    sync(both, B)
    both.write(A, "y", "two")
    sync(both, A)
    both.write(B, "z", "two")
    both.begin(B, Options(uploads=False), 0)
    both.do(*UNTIL_DOWNLOAD_IS_UNDER_WAY, how)
    both.go_on(EVERYTHING)
    sync(both, B)
    sync(both, A)


def a_page_under_which_the_triggers_are_made_anew(both: AlikeMachine) -> None:
    a_page_under_which_the_store_is_set_up(both, Kind.TRACK_ANEW)


def a_page_under_which_another_object_is_tracked(both: AlikeMachine) -> None:
    a_page_under_which_the_store_is_set_up(both, Kind.TRACK)


def an_upload_under_which_the_store_is_set_up(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.SET_UP)
    both.go_on(EVERYTHING)
    sync(both, A)


def a_batch_before_which_the_store_is_set_up(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.begin(A, Options(), 0)
    both.do(Kind.SET_UP)
    both.go_on(EVERYTHING)
    sync(both, A)


def a_clear_and_a_reset(both: AlikeMachine) -> None:
    for kind in (Kind.CLEAR, Kind.RESET, Kind.CLEAR_ALL, Kind.RESET_ALL):
        both.write(A, "x", f"{kind.name}")
        sync(both, A)
        both.write(A, "y", "two")
        both.start_over(A, kind)
        sync(both, B)
        sync(both, A)


def a_doubt_before_a_clear_and_before_a_reset(both: AlikeMachine) -> None:
    for kind in (Kind.CLEAR_ALL, Kind.RESET):
        both.write(A, "x", f"{kind.name}")
        both.begin(A, Options(), 0)
        both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.LOSE_ANSWER, Kind.CRASH)
        both.start_over(A, kind)
        sync(both, A)


def a_doubt_and_an_edit_after_it(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.CRASH)
    both.write(A, "x", "two")
    sync(both, A)


def a_lost_answer(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.LOSE_ANSWER)
    both.go_on(EVERYTHING)


def a_batch_that_was_taken_before_the_right_ended(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.LOSE_ANSWER, Kind.CRASH)
    both.write(A, "x", "two")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.FORBID)
    both.go_on(EVERYTHING)
    sync(both, A)


def a_doubt_that_waits_for_the_right(both: AlikeMachine, *page: Kind, downloads: bool = True) -> None:
    """The hub has not heard of the batch. Pages come meanwhile, also of the record that is in doubt."""
    both.write(A, "x", "one")
    both.write(A, "z", "one")
    sync(both, A)
    sync(both, B)
    both.write(A, "x", "two")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.CRASH)
    both.write(B, "x", "of b")
    both.write(B, "y", "of b")
    both.write(B, "z", None)
    sync(both, B)
    both.begin(A, Options(downloads=downloads), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.FORBID, Kind.ARRIVE, Kind.GO_ON, Kind.GO_ON, *page)
    both.go_on(EVERYTHING)
    assert both.world.devices[A].in_doubt
    both.write(A, "x", "three")
    sync(both, A, policy="client_wins")
    sync(both, B)
    assert not both.world.devices[A].in_doubt


def a_doubt_that_waits_while_a_page_is_lost(both: AlikeMachine) -> None:
    a_doubt_that_waits_for_the_right(both, Kind.GO_ON, Kind.UNREACHABLE)


def a_doubt_that_waits_while_deletes_are_missed(both: AlikeMachine) -> None:
    a_doubt_that_waits_for_the_right(both, Kind.PURGE)


def a_doubt_of_who_may_not_even_read(both: AlikeMachine) -> None:
    a_doubt_that_waits_for_the_right(both, downloads=False)


def an_edit_of_what_was_read(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.write(A, "y", "one")
    sync(both, A)
    sync(both, B)
    both.write(B, "x", "two")
    sync(both, B)


def a_restored_hub(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    sync(both, A)
    both.back_up()
    both.write(A, "y", "one")
    sync(both, A)
    both.begin(A, Options(), 0)
    both.do(*UNTIL_DOWNLOAD_IS_UNDER_WAY, Kind.RESTORE)
    both.go_on(EVERYTHING)


def what_another_hub_has_said(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.write(A, "y", "one")
    both.write(A, "z", "one")
    sync(both, A)
    sync(both, B)
    both.mislead(B, 1 << 62)
    both.write(B, "z", "of b")
    both.write(A, "x", "two")
    both.write(A, "y", None)
    sync(both, A)
    sync(both, B, policy="server_wins")
    sync(both, B, policy="server_wins")


def a_page_asked_for_ahead(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.write(A, "y", "one")
    sync(both, A)
    both.begin(B, Options(), 0)
    both.do(*UNTIL_DOWNLOAD_IS_UNDER_WAY, Kind.ANSWER, Kind.ARRIVE, Kind.GO_ON, Kind.ANSWER)
    both.go_on(EVERYTHING)


def a_crash_where_the_hub_heard_nothing(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.begin(A, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.UNREACHABLE, Kind.ARRIVE, Kind.GO_ON, Kind.CRASH)


def a_delete_that_was_forgotten(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.write(A, "y", "one")
    sync(both, A)
    sync(both, B)
    both.write(A, "x", None)
    sync(both, A)
    both.write(B, "x", "two")
    both.begin(B, Options(), 0)
    both.do(Kind.PURGE)
    both.go_on(EVERYTHING)


def a_first_read_past_a_forgotten_delete(both: AlikeMachine) -> None:
    """Device b reads in pages what lies below a delete that the hub has forgotten."""
    for key in "xyz":
        both.write(A, key, "one")
    sync(both, A)
    both.write(A, "x", None)
    sync(both, A)
    both.begin(B, Options(), 0)
    both.do(Kind.PURGE)
    both.go_on(EVERYTHING)


def another_epoch(both: AlikeMachine) -> None:
    """Restore the hub from a backup of just now, and let device a find that out."""
    both.back_up()
    both.write(A, "y", "after the backup")
    sync(both, A)
    both.begin(A, Options(), 0)
    both.do(*UNTIL_DOWNLOAD_IS_UNDER_WAY, Kind.RESTORE)
    both.go_on(EVERYTHING)


def a_delete_after_a_doubt_that_was_let_go(both: AlikeMachine) -> None:
    """Device b asks again for a batch, and hears that the epoch is another; then its record is deleted."""
    both.write(A, "y", "one")
    sync(both, A)
    sync(both, B)
    both.write(B, "x", "one")
    both.begin(B, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.LOSE_ANSWER, Kind.CRASH)
    another_epoch(both)
    both.begin(B, Options(), 0)
    while both.world.talk is not None and not both.world.talk.conversation.adaptations:
        both.go_on(1)
    both.write(B, "x", None)
    both.go_on(EVERYTHING)


def a_delete_that_waits_at_a_reset(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    sync(both, A)
    both.write(A, "x", None)
    both.start_over(A, Kind.RESET)
    sync(both, A)


def a_read_from_the_start_that_stops_behind_a_forgotten_delete(both: AlikeMachine) -> None:
    """Device b has missed the delete of x, and has read again what comes before it."""
    for key in "wxz":
        both.write(A, key, "one")
    sync(both, A)
    sync(both, B)
    both.write(A, "x", None)
    sync(both, A)
    for key in "wz":
        both.write(A, key, "two")
    sync(both, A)
    both.begin(B, Options(uploads=False), 0)
    both.do(Kind.PURGE)
    while both.world.device.scan is None and not both.world.device.seen:
        both.go_on(1)
    both.do(Kind.CRASH)


def an_edit_behind_a_forgotten_delete(both: AlikeMachine) -> None:
    a_read_from_the_start_that_stops_behind_a_forgotten_delete(both)
    both.write(B, "x", "two")
    sync(both, B)


def another_epoch_behind_a_forgotten_delete(both: AlikeMachine) -> None:
    a_read_from_the_start_that_stops_behind_a_forgotten_delete(both)
    another_epoch(both)
    sync(both, B, policy="client_wins")


def an_edit_before_another_epoch(both: AlikeMachine) -> None:
    for key in "xy":
        both.write(A, key, "one")
    sync(both, A)
    sync(both, B)
    both.write(B, "x", "two")
    another_epoch(both)
    sync(both, B)


def what_does_not_fit(both: AlikeMachine) -> None:
    """Device b has y waiting behind x, and a z that its table refuses."""
    for key, text in (("x", "one"), ("y", "two"), ("z", "three")):
        both.write(A, key, text)
    sync(both, A)
    sync(both, B)
    both.write(A, "y", "one")
    both.write(A, "z", UNFIT)
    sync(both, A)
    sync(both, B)


def an_edit_of_an_old_row(both: AlikeMachine) -> None:
    what_does_not_fit(both)
    both.write(B, "z", "mine")
    sync(both, B, policy="client_wins")
    both.write(B, "z", "mine again")
    sync(both, B)
    sync(both, A)


def an_edit_of_an_old_row_against_a_hub_that_wins(both: AlikeMachine) -> None:
    what_does_not_fit(both)
    both.write(B, "z", "mine")
    sync(both, B, policy="server_wins")
    both.write(A, "z", "four")
    sync(both, A)
    sync(both, B, policy="server_wins")


def a_swap_over_two_pages(both: AlikeMachine) -> None:
    both.write(A, "x", "one")
    both.write(A, "y", "two")
    sync(both, A)
    sync(both, B)
    both.write(A, "x", "two")
    both.write(A, "y", "one")
    sync(both, A)
    sync(both, B)


def a_cause_that_goes(both: AlikeMachine) -> None:
    what_does_not_fit(both)
    both.write(B, "x", "other")
    sync(both, B)
    both.begin(B, Options(), 0)
    both.do(Kind.MIGRATE)
    both.go_on(EVERYTHING)
    sync(both, B)
    both.write(B, "z", "mine")
    sync(both, B)


def a_newer_version_and_a_delete_of_what_waits(both: AlikeMachine) -> None:
    what_does_not_fit(both)
    both.write(A, "y", "four")
    both.write(A, "z", None)
    sync(both, A)
    sync(both, B)


def an_old_row_in_a_read_from_the_start(both: AlikeMachine) -> None:
    what_does_not_fit(both)
    both.write(A, "x", None)
    sync(both, A)
    both.begin(B, Options(uploads=False), 0)
    both.do(Kind.PURGE)
    both.go_on(8)
    both.write(B, "z", "mine")
    both.go_on(EVERYTHING)
    sync(both, B, policy="client_wins")


def what_waits_when_the_store_is_cleared(both: AlikeMachine) -> None:
    for kind in (Kind.CLEAR, Kind.RESET):
        what_does_not_fit(both)
        both.start_over(B, kind)
        sync(both, B)


Changes = Callable[[Callable[..., Any]], Callable[..., Any]]


# -- differences -------------------------------------------------------------------------------------


def changing(module: ModuleType, name: str, change: Changes) -> Callable[[pytest.MonkeyPatch], None]:
    """Return what changes a function of the model into what ``change`` makes of it."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(module, name, change(getattr(module, name)))

    return apply


def stays_in_its_place(acknowledge: Callable[..., Device]) -> Callable[..., Device]:
    def changed(known: Device, batch: str, change: object, verdict: object) -> Device:
        before = known.pending(change.key)  # type: ignore[attr-defined]
        after = acknowledge(known, batch, change, verdict)
        return (
            device.with_change(after, before.key, partial(evolve, position=before.position))
            if before
            else after
        )

    return changed


def keeps_its_base(acknowledge: Callable[..., Device]) -> Callable[..., Device]:
    def changed(known: Device, batch: str, change: object, verdict: object) -> Device:
        before = known.pending(change.key)  # type: ignore[attr-defined]
        after = acknowledge(known, batch, change, verdict)
        return device.with_change(after, before.key, partial(evolve, base=before.base)) if before else after

    return changed


def without_a_look_at_the_batch(_: Callable[..., bool]) -> Callable[..., bool]:
    return lambda change: change.operation == "delete" and change.image is None


def overwrites_what_is_pending(fold: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known: evolve(fold(known), outbox=())


def forgets_what_was_rejected(store: Callable[..., Any]) -> Callable[..., Any]:
    def changed(known: Device, batch: object, verdicts: object) -> object:
        after, accepted, limit = store(known, batch, verdicts)
        return evolve(after, outbox=tuple(each for each in after.outbox if not each.failed)), accepted, limit

    return changed


def parks_what_was_edited_since(park: Callable[..., Device]) -> Callable[..., Device]:
    def changed(known: Device, key: str, batch: str) -> Device:
        after = park(known, key, batch)
        parked = (evolve(each, parked=each.revision) if each.failed else each for each in after.outbox)
        return evolve(after, outbox=tuple(parked))

    return changed


def keeps_no_conflict_log(resolve: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, resolution: evolve(resolve(known, resolution), conflicts=known.conflicts)


def takes_what_did_not_come_for_nothing(take: Callable[..., Any]) -> Callable[..., Any]:
    def changed(known: Device, batch: object, answer: PushAnswer, *rest: object) -> Any:
        told = (
            evolve(each, lacks_record=False) if isinstance(each, Conflict) else each
            for each in answer.verdicts
        )
        return take(known, batch, evolve(answer, verdicts=tuple(told)), *rest)

    return changed


def learns_no_version(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, _: known


def passes_nothing_over(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, _: known


def keeps_versions_of_another_epoch(reread: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, why: evolve(reread(known, why), ahead=known.ahead)


def knows_every_description(_: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *_: True


def believes_another_hub(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, _: known


def keeps_no_log_of_what_it_replaces(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, _: known


def compares_nothing(_: Callable[..., Asked]) -> Callable[..., Asked]:
    return lambda known: Asked(known.client, (0, None, 0, 0, 0))


def keeps_what_waits(emptied: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known: evolve(emptied(known), outbox=known.outbox)


def keeps_its_name(without: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known: evolve(without(known), client=known.client)


def keeps_its_upload_limit(store: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: (*store(*arguments)[:2], None)


def tells_no_reader(_: object) -> Callable[..., object]:
    def changed(hub: Hub, request: object, *, may_write: bool = True) -> object:
        return push(hub, request) if may_write else (hub, Refusal(FORBIDDEN))  # type: ignore[arg-type]

    return changed


def takes_every_batch_for_an_upload(_: Callable[..., bool]) -> Callable[..., bool]:
    return lambda _: False


def forgets_its_receipts(_: object) -> Callable[..., object]:
    def changed(hub: Hub, request: object, **rights: bool) -> object:
        hub, answer = push(hub, request, **rights)  # type: ignore[arg-type]
        return evolve(hub, receipts=()), answer

    return changed


def knows_no_version(add: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, key, operation, image, base, **more: add(
        known, key, operation, image, min(base, 1), **more
    )


def drops_what_the_hub_lost(finish: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known: finish(evolve(known, rereading=device.MISSED_DELETES))


def asks_again(sent: Callable[..., object]) -> Callable[..., object]:
    return lambda world, talk, direction: sent(world, evolve(talk, ahead=None), direction)


def frees_nothing(_: object) -> Callable[..., Device]:
    return lambda known, **_: known if known.in_doubt else evolve(known, payload=None)


def knows_no_old_row(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, *_: known


def releases_nothing(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, _: known


def makes_no_room(_: Callable[..., object]) -> Callable[..., object]:
    return lambda rules, rows, crowded: (rows, set(crowded))


def tries_nothing(_: Callable[..., object]) -> Callable[..., object]:
    return lambda known: (known, 0)


def holds_nothing(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, _: known


def passes_old_rows_over(passes: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, cursor: evolve(known, ahead=passes(evolve(known, held=()), cursor).ahead)


def notes_no_doubt(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known: evolve(known, in_doubt=True)


def knows_what_it_has_read_again(_: Callable[..., object]) -> Callable[..., object]:
    return lambda known, _: (max(1, known.cursor), 0)


def misses_nothing(reread: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known, why: evolve(reread(known, why), missed_from=max(known.cursor, known.reread_from))


def remembers_no_deletes(without: Callable[..., object]) -> Callable[..., object]:
    return lambda change: evolve(without(change), since=0)  # type: ignore[misc]


def forgets_where_a_read_began(_: Callable[..., int]) -> Callable[..., int]:
    return lambda *_: 0


def empties_nothing(_: Callable[..., Device]) -> Callable[..., Device]:
    return lambda known: known


DIFFERENCES = [
    (an_edit_during_its_upload, changing(uploads, "_acknowledge", stays_in_its_place)),
    (an_edit_during_its_upload, changing(uploads, "_acknowledge", keeps_its_base)),
    (a_delete_during_its_upload, changing(device, "_is_empty", without_a_look_at_the_batch)),
    (an_edit_during_its_download, changing(downloads, "fold", overwrites_what_is_pending)),
    (a_record_that_is_too_large, changing(uploads, "store", forgets_what_was_rejected)),
    (an_edit_while_it_is_rejected, changing(uploads, "_park", parks_what_was_edited_since)),
    (a_conflict, changing(uploads, "_resolve", keeps_no_conflict_log)),
    (two_conflicts_of_which_one_comes, changing(uploads, "take", takes_what_did_not_come_for_nothing)),
    (an_edit_of_what_a_conflict_brought, changing(uploads, "_learn", learns_no_version)),
    (a_page_that_passes_what_a_conflict_brought, changing(downloads, "_pass_over", passes_nothing_over)),
    (
        a_restored_hub_and_what_a_conflict_brought,
        changing(adapting, "reread", keeps_versions_of_another_epoch),
    ),
    (a_page_under_which_the_triggers_are_made_anew, changing(storage, "asked_from", compares_nothing)),
    (an_upload_under_which_the_store_is_set_up, changing(storage, "looks_as_known", knows_every_description)),
    (a_clear_and_a_reset, changing(others, "_emptied", keeps_what_waits)),
    (a_doubt_before_a_clear_and_before_a_reset, changing(others, "_without_hub", keeps_its_name)),
    (a_doubt_and_an_edit_after_it, changing(uploads, "store", keeps_its_upload_limit)),
    (a_lost_answer, changing(network, "push", forgets_its_receipts)),
    (a_batch_that_was_taken_before_the_right_ended, changing(network, "push", tells_no_reader)),
    (a_doubt_that_waits_while_a_page_is_lost, changing(storage, "_is_page", takes_every_batch_for_an_upload)),
    (
        a_doubt_that_waits_while_deletes_are_missed,
        changing(storage, "_is_page", takes_every_batch_for_an_upload),
    ),
    (an_edit_of_what_was_read, changing(device, "add_change", knows_no_version)),
    (a_restored_hub, changing(downloads, "_finish_reread", drops_what_the_hub_lost)),
    (what_another_hub_has_said, changing(adapting, "_forget_above", believes_another_hub)),
    (what_another_hub_has_said, changing(downloads, "_log_overwritten", keeps_no_log_of_what_it_replaces)),
    (a_delete_after_a_doubt_that_was_let_go, changing(device, "keep_doubt", notes_no_doubt)),
    (a_first_read_past_a_forgotten_delete, changing(downloads, "_begun_after", forgets_where_a_read_began)),
    (an_edit_behind_a_forgotten_delete, changing(device, "_base", knows_what_it_has_read_again)),
    (another_epoch_behind_a_forgotten_delete, changing(adapting, "reread", misses_nothing)),
    (an_edit_before_another_epoch, changing(adapting, "_without_version", remembers_no_deletes)),
    (a_page_asked_for_ahead, changing(driver, "_sent", asks_again)),
    (a_crash_where_the_hub_heard_nothing, changing(driver, "recovered", frees_nothing)),
    (an_edit_of_an_old_row, changing(quarantine, "keep_bases", knows_no_old_row)),
    (an_edit_of_an_old_row, changing(quarantine, "release", releases_nothing)),
    (a_swap_over_two_pages, changing(table, "with_room", makes_no_room)),
    (a_cause_that_goes, changing(quarantine, "try_again", tries_nothing)),
    (a_newer_version_and_a_delete_of_what_waits, changing(quarantine, "hold", holds_nothing)),
    (an_old_row_in_a_read_from_the_start, changing(downloads, "_pass_over", passes_old_rows_over)),
    (what_waits_when_the_store_is_cleared, changing(others, "_emptied", empties_nothing)),
]


def what_waits_and_is_not_shown_in_another_epoch(both: AlikeMachine) -> None:
    """It is among what the device does not read any more; nobody can tell that from a record that is lost."""
    both.write(A, "z", UNFIT)
    sync(both, A)
    sync(both, B)
    both.mislead(B, 1 << 62)
    both.begin(B, Options(), EVERYTHING, ("one", "three"))


def what_waits_and_is_not_shown_by_an_older_hub(both: AlikeMachine) -> None:
    what_waits_and_is_not_shown_in_another_epoch(both)


def what_waits_and_is_another_one_in_another_epoch(both: AlikeMachine) -> None:
    both.write(A, "z", UNFIT)
    sync(both, A)
    sync(both, B)
    both.write(A, "z", "two")
    sync(both, A)
    both.mislead(B, 1 << 62)
    sync(both, B)


FEW_FIT_WHERE = {
    an_edit_of_an_old_row,
    an_edit_of_an_old_row_against_a_hub_that_wins,
    a_swap_over_two_pages,
    a_cause_that_goes,
    a_newer_version_and_a_delete_of_what_waits,
    an_old_row_in_a_read_from_the_start,
    what_waits_when_the_store_is_cleared,
    what_waits_and_is_not_shown_in_another_epoch,
    what_waits_and_is_not_shown_by_an_older_hub,
    what_waits_and_is_another_one_in_another_epoch,
}
"""Histories of a device whose table has rules."""

AT_AN_OLDER_HUB = {
    a_page_that_passes_what_a_conflict_brought,
    a_restored_hub,
    a_first_read_past_a_forgotten_delete,
    an_old_row_in_a_read_from_the_start,
    another_epoch_behind_a_forgotten_delete,
    what_waits_and_is_not_shown_by_an_older_hub,
}
"""Those whose differences are about reading from the start in the order of versions, as with such a hub."""


@contextlib.contextmanager
def both_in(folder: Path, happens: Callable[[AlikeMachine], None]) -> Iterator[AlikeMachine]:
    rules = FEW_FIT if happens in FEW_FIT_WHERE else None
    machine = type("Machine", (AlikeMachine,), {"folder": folder, "table_rules": rules})()
    try:
        if happens in AT_AN_OLDER_HUB:
            machine.take_the_place_of_the_hub()
        yield machine
    finally:
        machine.teardown()


@pytest.mark.parametrize(
    "happens",
    [
        *some(list(dict.fromkeys(happens for happens, _ in DIFFERENCES)), 8),
        a_doubt_of_who_may_not_even_read,
        a_delete_that_was_forgotten,
        an_edit_of_what_a_conflict_and_then_a_page_brought,
        an_edit_of_a_record_that_did_not_come,
        a_page_under_which_the_store_is_set_up,
        a_page_under_which_another_object_is_tracked,
        a_batch_before_which_the_store_is_set_up,
        a_delete_that_waits_at_a_reset,
        an_edit_of_an_old_row_against_a_hub_that_wins,
        what_waits_and_is_not_shown_in_another_epoch,
        what_waits_and_is_not_shown_by_an_older_hub,
        what_waits_and_is_another_one_in_another_epoch,
    ],
)
def test_the_two_are_alike_where_this_happens(
    tmp_path: Path, happens: Callable[[AlikeMachine], None]
) -> None:
    with both_in(tmp_path, happens) as both:
        happens(both)


@pytest.mark.sabotage
@pytest.mark.parametrize(("happens", "difference"), DIFFERENCES)
def test_a_deliberate_difference_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[AlikeMachine], None],
    difference: Callable[[pytest.MonkeyPatch], None],
) -> None:
    difference(monkeypatch)
    with both_in(tmp_path, happens) as both, pytest.raises(AssertionError, match="differ after"):
        happens(both)
