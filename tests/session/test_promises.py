"""K1 to K11: what cancel promises (section 3.4 of the design), over real HTTP with a store on a real file.

Requests are held and broken by a gate in front of the hub, never by waiting for some time.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from rig.child import Child, start_child
from rig.device import Device, store_at
from rig.gate import PATIENCE, Gate, lose_answer, lose_request, pass_on, refuse, wait_for
from rig.new_threads import NewThreads

from statesync import (
    GuardRefused,
    IllegalTransition,
    InDoubt,
    Interrupted,
    NothingToCancel,
    Phase,
    Progress,
    Session,
    SyncCancelled,
    SyncError,
    SyncFailed,
    SyncOptions,
    SyncType,
    Trigger,
    Unauthorized,
)
from statesync.lifecycle import BatchPhase, BatchTrigger, Facts
from statesync.machine import Move, SessionMachine
from statesync.protocol.messages import Begin
from statesync.store.session_store import SessionStore
from statesync.wire import Page, Pull


@pytest.fixture
def waiting(there: Device) -> list[str]:
    """The keys of 30 records that wait on the hub."""
    keys = there.add(30)
    there.sync()
    return keys


def end_of(session: Session) -> SyncError | None:
    """Wait for a session's end and return how it ended: its error, None for done."""
    return session.exception(timeout=PATIENCE)


def start(device: Device, **options: Any) -> Session:
    return device.scope.start_sync(SyncOptions(**options))


def wait_for_start(session: Session, batch: int) -> None:
    """Wait until the session says that a batch has begun."""
    next(event for event in session.events() if (event.batch, event.state) == (batch, "started"))


def triggers(device: Device, session: Session) -> list[str]:
    return [str(entry.trigger) for entry in device.store.journal(session.id)]


def ask(path: Any, sql: str, *values: object) -> list[Any]:
    """Ask the device's file itself, as another program would."""
    with closing(sqlite3.connect(path)) as other:
        return other.execute(sql, values).fetchall()


def staged(device: Device) -> list[Any]:
    """What is staged for a batch: payloads, and changes that belong to one."""
    path = device.store.database.database
    return ask(path, "SELECT session FROM statesync_payload") + ask(
        path, "SELECT key FROM statesync_change WHERE batch IS NOT NULL"
    )


# -- K1: after `cancelling` is entered no batch is opened and nothing is sent ------------------------


def test_k1_nothing_is_opened_or_sent_after_a_cancel_during_an_upload(here: Device, gate: Gate) -> None:
    here.add(6)
    held = gate.hold()
    session = start(here, upload_batch_size=2)
    held.wait()
    session.cancel()
    held.release()
    assert isinstance(end_of(session), SyncCancelled)
    assert gate.verbs() == ["push"]
    after = triggers(here, session)[triggers(here, session).index("cancel") :]
    assert not {"open_batch", "send", "retry"} & set(after)


def test_k1_nothing_is_opened_or_sent_after_a_cancel_during_a_download(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    held = gate.hold()
    session = start(here, download_batch_size=10)
    held.wait()
    session.cancel()
    held.release()
    assert isinstance(end_of(session), SyncCancelled)
    assert gate.verbs() == ["pull"]
    after = triggers(here, session)[triggers(here, session).index("cancel") :]
    assert not {"open_batch", "send", "retry"} & set(after)


@pytest.mark.usefixtures("no_backoff")
def test_k1_a_request_that_breaks_while_cancelling_is_not_tried_again(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    held = gate.hold(lose_request)
    session = start(here)
    held.wait()
    session.cancel()
    held.release()
    assert isinstance(end_of(session), SyncCancelled)
    assert gate.verbs() == ["pull"]
    assert here.rows() == {}


def test_k1_cancelling_is_visible_while_the_request_is_still_under_way(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    seen = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.state == "cancelling":
            seen.set()

    held = gate.hold()
    session = here.scope.start_sync(on_progress=watch)
    held.wait()
    session.cancel()
    assert seen.wait(PATIENCE)
    assert session.phase is Phase.CANCELLING
    assert not session.done()
    held.release()
    assert isinstance(end_of(session), SyncCancelled)


# -- K2: the batch in flight gets a recorded end, in one local transaction ---------------------------


def test_k2_the_page_in_flight_is_stored_with_its_cursor(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    held = gate.hold()
    session = start(here, download_batch_size=10)
    held.wait()
    session.cancel()
    held.release()
    end_of(session)
    assert here.keys() == waiting[:10]
    assert gate.seen[0].body["objects"]["Airport"]["scan"] == {"spares": True}
    here.sync(download_batch_size=10)
    assert gate.seen[1].body["objects"]["Airport"]["scan"]["after"] == waiting[9]


def test_k2_the_upload_in_flight_is_acknowledged_record_by_record(
    here: Device, there: Device, gate: Gate
) -> None:
    here.add(3)
    there.add(1)
    there.edit("k00000", name="theirs")
    there.sync()
    held = gate.hold()
    session = start(here)
    held.wait()
    session.cancel()
    held.release()
    assert isinstance(end_of(session), SyncCancelled)
    assert here.operations() == {}
    assert here.field("k00000", "name") == "theirs"
    assert [conflict.key for conflict in here.store.conflicts()] == ["k00000"]
    (batch,) = here.store.session(session.id).batches
    assert (batch.phase, batch.in_doubt) == (BatchPhase.COMMITTED, False)


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_k2_the_end_of_a_batch_is_one_transaction(
    here: Device, gate: Gate, waiting: list[str], direction: str
) -> None:
    """If the last thing that is written with the batch cannot be, then nothing of it is."""
    if direction == "upload":
        here.add(1, first=100)
    held = gate.hold()
    session = start(here)
    held.wait()
    here.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON statesync_transition WHEN NEW.\"trigger\" = 'settle' "
        "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
    )
    before = here.rows(), here.operations()
    session.cancel()
    held.release()
    assert isinstance(end_of(session), SyncFailed)
    assert (here.rows(), here.operations()) == before
    assert ask(here.store.database.database, "SELECT cursor FROM statesync_cursor") == [(0,)]
    (batch,) = here.store.session(session.id).batches
    assert batch.phase is BatchPhase.ABORTED
    assert batch.in_doubt is (direction == "upload")


# -- K3: `cancelled` is announced only after K2, with everything released ----------------------------


Workers = Callable[[], list[threading.Thread]]


@pytest.fixture
def workers() -> Workers:
    """The threads that make a request of this test's."""
    return partial(NewThreads().called, "statesync-request")


def test_k3_everything_is_released_before_cancelled_is_announced(
    here: Device, gate: Gate, waiting: list[str], workers: Workers
) -> None:
    found: dict[str, Any] = {}

    def look(error: SyncError) -> None:
        path = here.store.database.database
        found["stored"] = len(ask(path, "SELECT id FROM airport"))
        found["workers"] = workers()
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            found["writable"] = True
            other.execute("ROLLBACK")
        with here.store._parts.lock.held():
            found["free"] = True

    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(download_batch_size=10), on_failure=look)
    held.wait()
    session.cancel()
    held.release()
    assert isinstance(end_of(session), SyncCancelled)
    assert found == {"stored": 10, "workers": [], "writable": True, "free": True}


def test_k3_the_connection_to_the_hub_is_closed(here: Device, gate: Gate, waiting: list[str]) -> None:
    held = gate.hold()
    session = start(here)
    held.wait()
    assert gate.connections
    session.cancel()
    held.release()
    end_of(session)
    assert gate.wait_for_no_connection()


def test_k3_a_request_that_begins_after_it_was_interrupted_is_ended_all_the_same(
    here: Device, gate: Gate, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[str] = []
    pull, interrupt = here.remote.pull, here.remote.interrupt

    def begin_late(request: Pull) -> Page:
        assert wait_for(lambda: len(times) >= 2)  # at the end of the grace, and at the session's end
        return pull(request)

    def interrupt_and_count() -> None:
        interrupt()
        times.append("interrupted")

    monkeypatch.setattr(here.remote, "pull", begin_late)
    monkeypatch.setattr(here.remote, "interrupt", interrupt_and_count)
    held = gate.hold()
    session = start(here)
    assert wait_for(lambda: workers() != [])
    session.cancel(grace=0)
    assert isinstance(end_of(session), SyncCancelled)
    assert workers() == []
    held.release()


def test_k3_another_session_can_start_from_the_failure_callback(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    later: list[Session] = []
    held = gate.hold()
    session = here.scope.start_sync(
        SyncOptions(download_batch_size=10), on_failure=lambda error: later.append(here.scope.start_sync())
    )
    held.wait()
    session.cancel()
    held.release()
    end_of(session)
    assert later[0].result(PATIENCE).stats.downloaded == 20


# -- K4: the statistics in the terminal event equal what is durable ----------------------------------


def test_k4_the_terminal_statistics_equal_what_is_durable(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    here.add(5, first=100)
    gate.plan(*[pass_on] * 4)
    held = gate.hold()
    session = start(here, upload_batch_size=2, download_batch_size=10, get_sync_stats=True)
    held.wait()
    wait_for_start(session, batch=5)  # its page may have been asked for ahead
    session.cancel()
    held.release()
    error = end_of(session)
    assert isinstance(error, SyncCancelled)
    stats = error.result.stats
    assert (stats.uploaded, stats.downloaded) == (5, 20)
    assert len(here.rows()) == 5 + 20
    assert here.operations() == {}
    assert [(b.number, b.direction, b.records) for b in stats.batches] == [
        (1, "upload", 2),
        (2, "upload", 2),
        (3, "upload", 1),
        (4, "download", 10),
        (5, "download", 10),
    ]
    last = list(session.events())[-1]
    assert last.stats == stats
    assert here.store.session(session.id).stats == stats


def test_k4_what_was_rolled_back_is_not_counted(here: Device, gate: Gate, waiting: list[str]) -> None:
    held = gate.hold()
    session = start(here, get_sync_stats=True)
    held.wait()
    here.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON statesync_cursor BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    held.release()
    error = end_of(session)
    assert isinstance(error, SyncFailed)
    assert here.rows() == {}
    assert error.result.stats.downloaded == 0
    assert error.result.stats.batches == ()


# -- K5: cancel during back-off, or before a batch is sent, takes effect at once ----------------------


@pytest.mark.usefixtures("long_backoff")
@pytest.mark.parametrize("step", [lose_request, refuse(503, "busy", Retry_After="3600")])
def test_k5_a_cancel_ends_a_back_off_at_once(here: Device, gate: Gate, waiting: list[str], step: Any) -> None:
    gate.plan(step)
    session = start(here)
    wait_for_batch(here, session, BatchPhase.WAITING)
    session.cancel()
    assert isinstance(end_of(session), SyncCancelled)
    assert gate.verbs() == ["pull"]


@pytest.mark.usefixtures("long_backoff")
def test_k5_a_cancel_ends_the_back_off_of_an_upload_that_was_not_applied(here: Device, gate: Gate) -> None:
    here.add(1)
    gate.plan(refuse(503, "busy"))
    session = start(here)
    wait_for_batch(here, session, BatchPhase.WAITING)
    session.cancel()
    assert isinstance(end_of(session), SyncCancelled)
    assert here.operations() == {"k00000": "insert"}
    assert staged(here) == []


@pytest.mark.usefixtures("long_backoff")
def test_k5_a_cancel_in_the_back_off_of_an_upload_in_doubt_fails_truthfully(here: Device, gate: Gate) -> None:
    here.add(1)
    gate.plan(lose_answer)
    session = start(here)
    wait_for_batch(here, session, BatchPhase.WAITING)
    session.cancel()
    assert isinstance(end_of(session), InDoubt)


def test_k5_a_cancel_before_anything_is_sent_sends_nothing(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    def cancel_at_once(progress: Progress) -> None:
        if (progress.part, progress.state) == ("sync", "started"):
            here.scope.cancel_sync()

    session = here.scope.start_sync(on_progress=cancel_at_once)
    assert isinstance(end_of(session), SyncCancelled)
    assert gate.seen == []


def test_k5_a_cancel_in_idle_is_cancelled_without_a_start(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_begin = threading.Event()
    look = SessionStore.begin

    def look_later(store: SessionStore) -> Begin:
        assert may_begin.wait(PATIENCE)
        return look(store)

    monkeypatch.setattr(SessionStore, "begin", look_later)
    session = start(here)
    assert session.phase is Phase.IDLE
    session.cancel()
    may_begin.set()
    assert isinstance(end_of(session), SyncCancelled)
    assert triggers(here, session) == ["cancel"]
    assert gate.seen == []


def wait_for_batch(device: Device, session: Session, phase: BatchPhase) -> None:
    """Wait until the journal says that the session's first batch is in ``phase``."""
    assert wait_for(lambda: [b.phase for b in device.store.session(session.id).batches] == [phase])


# -- K6: too late, twice, and with nothing running ---------------------------------------------------


def test_k6_a_cancel_after_the_last_batch_leaves_the_session_done(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    told: list[SyncError] = []

    def cancel_after_the_last(progress: Progress) -> None:
        if (progress.part, progress.state) == ("download", "ended"):
            here.scope.cancel_sync(on_failure=told.append)

    session = here.scope.start_sync(on_progress=cancel_after_the_last)
    assert session.result(PATIENCE).phase is Phase.DONE
    assert [type(error) for error in told] == [NothingToCancel]
    assert told[0].code == 2479


@pytest.mark.parametrize(("records", "ends"), [(10, Phase.DONE), (11, Phase.CANCELLED)])
def test_k6_a_cancel_after_the_last_upload_batch_is_too_late_where_nothing_is_downloaded(
    here: Device, records: int, ends: Phase
) -> None:
    here.add(records)

    def cancel_after_the_tenth(progress: Progress) -> None:
        if (progress.part, progress.state, progress.records) == ("upload", "ended", 10):
            here.scope.cancel_sync(on_failure=lambda error: None)

    options = SyncOptions(sync_type=SyncType.UPLOAD_ONLY, upload_batch_size=5)
    session = here.scope.start_sync(options, on_progress=cancel_after_the_tenth)
    end_of(session)
    assert session.phase is ends
    assert len(here.operations()) == records - 10


def test_k6_cancelling_twice_has_the_same_outcome(here: Device, gate: Gate, waiting: list[str]) -> None:
    told: list[str] = []
    held = gate.hold()
    session = start(here, download_batch_size=10)
    held.wait()
    here.scope.cancel_sync(on_success=lambda result: told.append("first"))
    here.scope.cancel_sync(on_success=lambda result: told.append("second"))
    session.cancel()
    held.release()
    assert isinstance(end_of(session), SyncCancelled)
    assert told == ["first", "second"]
    assert triggers(here, session).count("cancel") == 1
    session.cancel()
    assert isinstance(end_of(session), SyncCancelled)
    assert here.keys() == waiting[:10]


def test_k6_with_nothing_running_the_failure_callback_is_told(here: Device) -> None:
    told: list[SyncError] = []
    here.scope.cancel_sync(on_failure=told.append)
    here.sync()
    here.scope.cancel_sync(on_failure=told.append)
    assert [type(error) for error in told] == [NothingToCancel, NothingToCancel]


def test_k6_with_nothing_running_and_no_failure_callback_it_is_raised(here: Device) -> None:
    with pytest.raises(NothingToCancel):
        here.scope.cancel_sync()
    here.sync()
    with pytest.raises(NothingToCancel):
        here.scope.cancel_sync()


# -- K7: `cancel(grace=seconds)` bounds the drain -----------------------------------------------------


def test_k7_past_the_grace_a_download_is_dropped(here: Device, gate: Gate, waiting: list[str]) -> None:
    held = gate.hold()
    session = start(here, download_batch_size=10)
    held.wait()
    session.cancel(grace=0.05)
    assert isinstance(end_of(session), SyncCancelled)
    assert here.rows() == {}
    assert staged(here) == []
    held.release()
    assert here.sync().stats.downloaded == 30


def test_k7_past_the_grace_an_upload_is_in_doubt_and_the_session_failed(here: Device, gate: Gate) -> None:
    here.add(3)
    held = gate.hold()
    session = start(here)
    held.wait()
    session.cancel(grace=0.05)
    error = end_of(session)
    assert isinstance(error, InDoubt)
    assert error.phase is Phase.FAILED
    assert not session.cancelled()
    assert here.operations() == dict.fromkeys(["k00000", "k00001", "k00002"], "insert")
    (batch,) = here.store.session(session.id).batches
    assert batch.in_doubt


@pytest.fixture
def doubt(here: Device, gate: Gate) -> None:
    """Three records whose upload is in doubt."""
    here.add(3)
    held = gate.hold()
    session = start(here)
    held.wait()
    session.cancel(grace=0)
    end_of(session)
    held.release()


@pytest.mark.usefixtures("doubt")
def test_k7_the_next_session_settles_the_doubt_under_the_same_id_before_anything_else(
    here: Device, gate: Gate
) -> None:
    here.add(1, first=50)
    here.sync()
    first, again, new = (seen.body for seen in gate.seen if seen.verb == "push")
    assert (again["batch"], again["number"]) == (first["batch"], first["number"])
    assert again["changes"] == first["changes"]
    assert [change["key"] for change in new["changes"]] == ["k00050"]
    assert here.operations() == {}
    assert here.store.conflicts() == []


@pytest.mark.usefixtures("doubt")
def test_k7_a_session_that_only_downloads_settles_the_doubt_first_too(here: Device, gate: Gate) -> None:
    here.add(1, first=50)
    here.sync(sync_type="download_only")
    assert gate.verbs() == ["push", "push", "pull"]
    first, again = (seen.body for seen in gate.seen if seen.verb == "push")
    assert again == first
    assert here.operations() == {"k00050": "insert"}


def test_k7_an_answer_within_the_grace_is_stored(here: Device, gate: Gate, waiting: list[str]) -> None:
    held = gate.hold()
    session = start(here, download_batch_size=10)
    held.wait()
    session.cancel(grace=PATIENCE)
    held.release()
    assert isinstance(end_of(session), SyncCancelled)
    assert here.keys() == waiting[:10]


def test_k7_a_later_cancel_may_shorten_the_grace(here: Device, gate: Gate, waiting: list[str]) -> None:
    held = gate.hold()
    session = start(here)
    held.wait()
    session.cancel()
    session.cancel(grace=0.05)
    assert isinstance(end_of(session), SyncCancelled)
    assert here.rows() == {}


def test_k7_an_answer_that_never_comes_while_cancelling_leaves_an_upload_in_doubt(
    here: Device, gate: Gate
) -> None:
    here.add(1)
    held = gate.hold(lose_answer)
    session = start(here)
    held.wait()
    session.cancel()
    held.release()
    assert isinstance(end_of(session), InDoubt)
    assert session.phase is Phase.FAILED


# -- K8: a crash is `failed` with `Interrupted` at the next open, never resumed ------------------------


def test_k8_a_killed_session_is_failed_interrupted_at_the_next_setup(
    gate: Gate, space: str, waiting: list[str], tmp_path: Any
) -> None:
    held = gate.hold()
    path = tmp_path / "killed.db"
    with start_child(path, gate.url, space) as child:
        held.wait()
        child.kill()
    with store_at(path) as (store, _):
        (session,) = store.sessions()
        assert session.phase is Phase.FAILED
        assert session.reason == Interrupted.reason
        assert gate.verbs() == ["pull"]


# -- K9: nothing staged survives, committed progress does ---------------------------------------------


def test_k9_after_cancelled_nothing_is_staged_and_the_next_session_goes_on(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    here.add(4, first=100)
    held = gate.hold()
    session = start(here, upload_batch_size=2)
    held.wait()
    session.cancel()
    held.release()
    assert isinstance(end_of(session), SyncCancelled)
    assert staged(here) == []
    assert sorted(here.operations()) == ["k00102", "k00103"]
    result = here.sync()
    assert (result.stats.uploaded, result.stats.downloaded) == (2, 30)


@pytest.mark.usefixtures("no_backoff")
def test_k9_after_failed_nothing_is_staged_and_the_next_session_goes_on(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    gate.plan(pass_on, refuse(403, "forbidden"))
    here.add(4, first=100)
    session = start(here, upload_batch_size=2)
    assert isinstance(end_of(session), Unauthorized)
    assert staged(here) == []
    assert sorted(here.operations()) == ["k00102", "k00103"]
    assert here.sync().stats.uploaded == 2


def test_k9_after_done_nothing_is_staged(here: Device, waiting: list[str]) -> None:
    here.add(4, first=100)
    here.sync(upload_batch_size=2, download_batch_size=10)
    assert staged(here) == []


# -- K10: an illegal trigger raises and changes nothing ------------------------------------------------


def never(moves: tuple[Move, ...]) -> None:
    raise AssertionError(f"written: {moves}")


FINAL = [Phase.CANCELLED, Phase.FAILED, Phase.DONE]


@pytest.mark.parametrize("phase", FINAL)
@pytest.mark.parametrize("trigger", list(Trigger))
def test_k10_nothing_leads_out_of_an_end(phase: Phase, trigger: Trigger) -> None:
    machine = SessionMachine.standing_at(phase, None)
    with pytest.raises(IllegalTransition) as refused:
        machine.fire(trigger, facts=Facts(outbox_drained=True, feed_drained=True), commit=never)
    assert (refused.value.phase, refused.value.trigger) == (phase, trigger)
    assert machine.phase is phase


def test_k10_an_illegal_trigger_says_what_would_be_legal() -> None:
    machine = SessionMachine.standing_at(Phase.CANCELLING, None)
    with pytest.raises(IllegalTransition, match=r"open_batch is illegal in cancelling.*settle"):
        machine.fire(Trigger.OPEN_BATCH, facts=Facts(), commit=never)
    assert machine.phase is Phase.CANCELLING


def test_k10_a_false_guard_is_another_error_and_changes_nothing() -> None:
    machine = SessionMachine.standing_at(Phase.UPLOADING, BatchPhase.IN_FLIGHT)
    with pytest.raises(GuardRefused):
        machine.fire(Trigger.OPEN_BATCH, facts=Facts(), commit=never)
    assert (machine.phase, machine.batch) == (Phase.UPLOADING, BatchPhase.IN_FLIGHT)


def test_k10_triggers_fired_together_happen_all_or_not_at_all() -> None:
    machine = SessionMachine.standing_at(Phase.DOWNLOADING, BatchPhase.IN_FLIGHT)
    with pytest.raises(GuardRefused):
        machine.fire(
            BatchTrigger.RECEIVE,
            Trigger.COMMIT_BATCH,
            Trigger.FINISH_DOWNLOAD,
            facts=Facts(feed_drained=False),
            commit=never,
        )
    assert (machine.phase, machine.batch) == (Phase.DOWNLOADING, BatchPhase.IN_FLIGHT)


def test_k10_a_trigger_whose_write_fails_moves_nothing() -> None:
    machine = SessionMachine()

    def fail(moves: tuple[Move, ...]) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        machine.fire(Trigger.START, facts=Facts(), commit=fail)
    assert machine.phase is Phase.IDLE


# -- K11: the reason is kept with the outcome ----------------------------------------------------------


def outcome(device: Device, session: Session) -> tuple[Phase, str | None]:
    end_of(session)
    info = device.store.session(session.id)
    return info.phase, info.reason


def test_k11_a_done_session_needs_no_reason(here: Device) -> None:
    assert outcome(here, start(here)) == (Phase.DONE, None)


def test_k11_the_user(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = start(here)
    held.wait()
    session.cancel()
    held.release()
    assert outcome(here, session) == (Phase.CANCELLED, "user")


def test_k11_the_shutdown(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = start(here)
    held.wait()
    closing_thread = threading.Thread(target=here.store.close)
    closing_thread.start()
    assert wait_for(lambda: session.phase is Phase.CANCELLING)
    held.release()
    closing_thread.join(PATIENCE)
    assert session.done()
    assert outcome(here, session) == (Phase.CANCELLED, "shutdown")


def test_k11_the_deadline(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = start(here, timeout=0.05)
    assert wait_for(lambda: session.phase is Phase.CANCELLING)
    held.release()
    assert outcome(here, session) == (Phase.CANCELLED, "deadline")


def test_k11_the_interruption(gate: Gate, space: str, tmp_path: Any) -> None:
    held = gate.hold()
    path = tmp_path / "killed.db"
    child: Child
    with start_child(path, gate.url, space) as child:
        held.wait()
        child.kill()
    with store_at(path) as (store, _):
        assert [(info.phase, info.reason) for info in store.sessions()] == [(Phase.FAILED, "interrupted")]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (refuse(401, "unauthorized"), "unauthorized"),
        (refuse(422, "batch_too_large"), "remote_error"),
    ],
)
def test_k11_the_error(here: Device, gate: Gate, step: Any, reason: str) -> None:
    gate.plan(step)
    session = start(here)
    assert outcome(here, session) == (Phase.FAILED, reason)
    assert here.store.session(session.id).error
    failing = here.store.journal(session.id)[-1]
    assert failing.detail["reason"] == reason
