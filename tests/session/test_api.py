"""The API of section 8 of the design: sessions as futures, callbacks, options, scopes."""

from __future__ import annotations

import asyncio
import pickle
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pytest
from rig.child import start_child
from rig.device import Device, airport_model, device_on, quick_store
from rig.gate import PATIENCE, Gate, lose_answer, pass_on, refuse, wait_for

from statesync import (
    BadOptions,
    CancelOptions,
    HttpRemote,
    InDoubt,
    NothingToCancel,
    Phase,
    Progress,
    Store,
    SyncCancelled,
    SyncError,
    SyncInProgress,
    SyncOptions,
    Unauthorized,
    UnknownObject,
    UsageError,
)

# -- one session at a time ---------------------------------------------------------------------------


def test_a_second_session_of_the_same_store_is_refused(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with pytest.raises(SyncInProgress) as refused:
        here.scope.start_sync()
    assert refused.value.code == 2461
    held.release()
    session.result(PATIENCE)
    here.sync()


def test_a_second_session_from_another_thread_is_refused(here: Device, gate: Gate) -> None:
    raised: list[BaseException] = []

    def start_another() -> None:
        try:
            here.scope.start_sync()
        except SyncInProgress as error:
            raised.append(error)
        finally:
            here.store.database.close()

    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    thread = threading.Thread(target=start_another)
    thread.start()
    thread.join(PATIENCE)
    assert len(raised) == 1
    held.release()
    session.result(PATIENCE)


def test_a_second_session_through_another_store_on_the_same_file_is_refused(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with Store(here.store.database.database) as second:
        airport_model(second)
        second.setup()
        with pytest.raises(SyncInProgress):
            second.scope(here.remote).start_sync()
    held.release()
    session.result(PATIENCE)


def test_a_session_of_another_process_is_respected_while_it_lives(
    gate: Gate, space: str, tmp_path: Path, new_device: Callable[..., Device]
) -> None:
    held = gate.hold()
    with start_child(tmp_path / "shared.db", gate.url, space) as child:
        held.wait()
        device = new_device("shared", gate.url)
        (running,) = device.store.sessions()
        assert running.phase == "downloading"
        with pytest.raises(SyncInProgress):
            device.scope.start_sync()
        held.release()
        assert child.wait(PATIENCE) == 0
    device.sync()


def test_clearing_is_refused_while_a_session_runs(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    for forbidden in (here.store.clear, here.store.reset, here.store.drop):
        with pytest.raises(SyncInProgress):
            forbidden()
    held.release()
    session.result(PATIENCE)


# -- what is wrong before a session exists -------------------------------------------------------------


def test_a_session_that_could_not_begin_leaves_nothing_to_cancel_or_to_wait_for(
    here: Device, gate: Gate
) -> None:
    here.sync()
    with closing(HttpRemote(gate.url, "another-space")) as elsewhere:
        with pytest.raises(UsageError, match="another space"):
            here.store.scope(elsewhere).start_sync()
        with pytest.raises(NothingToCancel):
            here.store.scope(elsewhere).cancel_sync()
    here.sync()
    here.store.close()


def test_a_timeout_of_nan_is_no_timeout() -> None:
    """Not a number is refused like any other nonsense."""
    with pytest.raises(BadOptions):
        SyncOptions(timeout=float("nan"))
    with pytest.raises(BadOptions):
        CancelOptions(grace=float("nan"))


# -- callbacks -------------------------------------------------------------------------------------------


def test_callbacks_come_one_after_the_other_and_in_no_transaction(here: Device, there: Device) -> None:
    there.add(6)
    there.sync()
    here.add(4, first=50)
    inside = threading.Lock()
    overlapping: list[bool] = []
    writable: list[bool] = []

    def look(value: object) -> None:
        overlapping.append(not inside.acquire(blocking=False))
        with closing(sqlite3.connect(here.store.database.database, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        writable.append(not here.store.database.in_transaction())
        inside.release()

    options = SyncOptions(upload_batch_size=2, download_batch_size=2)
    session = here.scope.start_sync(options, on_success=look, on_failure=look, on_progress=look)
    session.result(PATIENCE)
    assert len(writable) == 1 + 3 * (2 + 5) + 1 + 1  # a first read has the keys of what the device wrote, too
    assert not any(overlapping)
    assert all(writable)


def test_the_progress_of_a_session_tells_its_whole_way(here: Device, there: Device) -> None:
    there.add(3)
    there.sync()
    here.add(3, first=50)
    session = here.scope.start_sync(SyncOptions(upload_batch_size=2, download_batch_size=2))
    events = list(session.events())
    assert [(str(e.part), str(e.state), e.batch, e.records) for e in events] == [
        ("sync", "started", None, 0),
        ("upload", "started", 1, 0),
        ("upload", "in_progress", 1, 0),
        ("upload", "ended", 1, 2),
        ("upload", "started", 2, 2),
        ("upload", "in_progress", 2, 2),
        ("upload", "ended", 2, 3),
        ("download", "started", 3, 0),
        ("download", "in_progress", 3, 0),
        ("download", "ended", 3, 2),
        ("download", "started", 4, 2),
        ("download", "in_progress", 4, 2),
        ("download", "ended", 4, 3),
        ("download", "started", 5, 3),
        ("download", "in_progress", 5, 3),
        ("download", "ended", 5, 3),
        ("sync", "ended", None, 0),
    ]
    assert [e.total for e in events if e.part == "upload"] == [3] * 6
    assert [e.total for e in events if e.part == "download"] == [None] * 2 + [3] * 7
    assert events[-1].outcome is Phase.DONE
    assert all(event.outcome is None for event in events[:-1])
    assert list(session.events()) == events


def test_a_callback_that_raises_is_logged_and_hurts_nothing(
    here: Device, there: Device, caplog: pytest.LogCaptureFixture
) -> None:
    there.add(5)
    there.sync()
    called: list[str] = []

    def fail(what: str) -> Callable[[object], object]:
        def callback(value: object) -> object:
            called.append(what)
            raise ZeroDivisionError(what)

        return callback

    session = here.scope.start_sync(on_success=fail("success"), on_progress=fail("progress"))
    assert session.result(PATIENCE).phase is Phase.DONE
    assert here.rows() == there.rows()
    assert called == ["progress"] * 5 + ["success"]
    logged = [record for record in caplog.records if record.name.startswith("statesync")]
    assert len(logged) == 6
    assert all(record.exc_info for record in logged)


def test_a_program_may_use_the_store_in_a_callback(here: Device, there: Device) -> None:
    there.add(1)
    there.sync()

    def write(progress: Progress) -> None:
        if (progress.part, progress.state) == ("download", "ended"):
            here.edit("k00000", name="in a callback")

    here.scope.start_sync(on_progress=write).result(PATIENCE)
    assert here.operations() == {"k00000": "update"}


def test_a_callback_that_waits_for_its_own_session_is_told_so(here: Device) -> None:
    raised: list[type] = []

    def wait(progress: Progress) -> None:
        if progress.state == "started":
            try:
                session.result()
            except UsageError as error:
                raised.append(type(error))

    held = threading.Event()

    def wait_once_the_session_is_known(progress: Progress) -> None:
        held.wait(PATIENCE)
        wait(progress)

    session = here.scope.start_sync(on_progress=wait_once_the_session_is_known)
    held.set()
    session.result(PATIENCE)
    assert raised == [UsageError, UsageError]


# -- the session as a future -----------------------------------------------------------------------------


def test_a_session_is_like_a_future(here: Device, there: Device, gate: Gate) -> None:
    there.add(2)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    assert (session.done(), session.cancelled(), session.phase) == (False, False, Phase.DOWNLOADING)
    with pytest.raises(TimeoutError, match=session.id):
        session.result(timeout=0.01)
    held.release()
    result = session.result(PATIENCE)
    assert (session.done(), session.cancelled(), session.phase) == (True, False, Phase.DONE)
    assert (result.session, result.phase) == (session.id, Phase.DONE)
    assert result is session.result()
    assert session.exception() is None


def test_a_cancelled_session_says_so(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    session.cancel()
    held.release()
    with pytest.raises(SyncCancelled):
        session.result(PATIENCE)
    assert (session.done(), session.cancelled(), session.phase) == (True, True, Phase.CANCELLED)


def test_a_failed_session_raises_its_error_with_what_was_done_until_then(
    here: Device, there: Device, gate: Gate
) -> None:
    there.add(4)
    there.sync()
    gate.plan(pass_on, refuse(403, "forbidden"))
    told: list[SyncError] = []
    session = here.scope.start_sync(SyncOptions(download_batch_size=2), on_failure=told.append)
    with pytest.raises(Unauthorized) as failed:
        session.result(PATIENCE)
    assert told == [failed.value]
    assert failed.value.phase is Phase.FAILED
    assert failed.value.result.stats.downloaded == 2
    assert (session.done(), session.cancelled()) == (True, False)


def test_events_can_be_followed_from_another_thread_while_the_session_runs(here: Device, gate: Gate) -> None:
    followed: list[Progress] = []
    held = gate.hold()
    session = here.scope.start_sync()
    thread = threading.Thread(target=lambda: followed.extend(session.events()))
    thread.start()
    held.wait()
    held.release()
    thread.join(PATIENCE)
    assert followed[-1].outcome is Phase.DONE


def test_an_error_crosses_a_process_border_with_what_it_carries(here: Device, gate: Gate) -> None:
    gate.plan(refuse(403, "forbidden"))
    error = here.scope.start_sync().exception(PATIENCE)
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is Unauthorized
    assert (str(copied), copied.code, copied.phase, copied.status) == (str(error), 2414, Phase.FAILED, 403)


# -- cancelling ------------------------------------------------------------------------------------------


def test_the_failure_callback_of_a_cancel_gets_the_error_of_a_session_that_failed(
    here: Device, gate: Gate
) -> None:
    here.add(1)
    told: list[SyncError] = []
    held = gate.hold(lose_answer)
    session = here.scope.start_sync()
    held.wait()
    here.scope.cancel_sync(on_failure=told.append)
    held.release()
    error = session.exception(PATIENCE)
    assert isinstance(error, InDoubt)
    assert told == [error]


def test_a_cancel_reaches_only_a_session_of_its_own_objects(tmp_path: Path, gate: Gate, space: str) -> None:
    with quick_store(tmp_path / "two.db") as store, closing(HttpRemote(gate.url, space)) as remote:
        airport = airport_model(store)

        class Other(store.Model):  # type: ignore[name-defined, misc]
            pass

        store.setup()
        held = gate.hold()
        session = store.scope(remote, airport).start_sync()
        held.wait()
        with pytest.raises(NothingToCancel):
            store.scope(remote, Other).cancel_sync()
        store.scope(remote).cancel_sync()
        held.release()
        assert isinstance(session.exception(PATIENCE), SyncCancelled)


@contextmanager
def handled(number: signal.Signals, handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle a signal: what a suite in the background has inherited is to ignore the keyboard's."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_a_signal_handler_may_cancel(here: Device, there: Device, gate: Gate) -> None:
    there.add(20)
    there.sync()
    held = gate.hold()
    with handled(signal.SIGUSR1, lambda number, frame: here.scope.cancel_sync()):
        session = here.scope.start_sync(SyncOptions(download_batch_size=5))
        held.wait()
        signal.raise_signal(signal.SIGUSR1)
        held.release()
        with pytest.raises(SyncCancelled):
            session.result(PATIENCE)
    assert len(here.rows()) == 5


def test_an_interrupt_from_the_keyboard_cancels_a_blocking_sync_and_waits_for_its_drain(
    here: Device, there: Device, gate: Gate
) -> None:
    there.add(20)
    there.sync()
    held = gate.hold()
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        held.wait()
        signal.pthread_kill(main, signal.SIGINT)
        wait_for(lambda: here.store.sessions()[0].phase is Phase.CANCELLING)
        here.store.database.close()
        held.release()

    thread = threading.Thread(target=press)
    thread.start()
    with handled(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        here.sync(download_batch_size=5)
    thread.join(PATIENCE)
    assert len(here.rows()) == 5
    assert [session.phase for session in here.store.sessions()] == [Phase.CANCELLED]


def test_a_session_whose_time_is_over_cancels_itself(here: Device, there: Device, gate: Gate) -> None:
    there.add(20)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(timeout=0.05, download_batch_size=5))
    assert wait_for(lambda: session.phase is Phase.CANCELLING)
    held.release()
    error = session.exception(PATIENCE)
    assert isinstance(error, SyncCancelled)
    assert "its time was over" in str(error)
    assert len(here.rows()) == 5


def test_closing_cancels_and_waits(here: Device, there: Device, gate: Gate) -> None:
    there.add(20)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(download_batch_size=5))
    held.wait()
    thread = threading.Thread(target=here.store.close)
    thread.start()
    assert wait_for(lambda: session.phase is Phase.CANCELLING)
    assert thread.is_alive()
    held.release()
    thread.join(PATIENCE)
    assert isinstance(session.exception(0), SyncCancelled)
    assert here.store.session(session.id).reason == "shutdown"


# -- asyncio ---------------------------------------------------------------------------------------------


def test_a_coroutine_may_wait_for_a_session(here: Device, there: Device) -> None:
    there.add(3)
    there.sync()
    result = asyncio.run(here.scope.sync_async())
    assert result.stats.downloaded == 3


def test_a_coroutine_gets_the_sessions_error(here: Device, gate: Gate) -> None:
    gate.plan(refuse(403, "forbidden"))
    with pytest.raises(Unauthorized):
        asyncio.run(here.scope.sync_async())


def test_cancelling_the_task_cancels_the_session_and_waits_for_the_drain(
    here: Device, there: Device, gate: Gate
) -> None:
    there.add(20)
    there.sync()

    async def cancel_in_the_first_batch() -> None:
        held = gate.hold()
        task = asyncio.create_task(here.scope.sync_async(SyncOptions(download_batch_size=5)))
        await asyncio.to_thread(held.wait)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [session.phase for session in here.store.sessions()] == [Phase.CANCELLED]

    asyncio.run(cancel_in_the_first_batch())
    assert len(here.rows()) == 5


def test_the_event_loop_goes_on_while_a_session_runs(here: Device, gate: Gate) -> None:
    async def count_beside() -> int:
        held = gate.hold()
        task = asyncio.create_task(here.scope.sync_async())
        await asyncio.to_thread(held.wait)
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert not task.done()
        held.release()
        await task
        return turns

    assert asyncio.run(count_beside()) == 100


# -- what a program can look up ----------------------------------------------------------------------------


def test_a_database_can_be_synced_without_the_programs_models(here: Device, there: Device) -> None:
    there.add(3)
    there.sync()
    here.add(2, first=50)
    path = Path(here.store.database.database)
    here.store.close()
    with Store.open(path) as store:
        assert store.objects == ("Airport",)
        assert len(store.pending()) == 2
        result = store.scope(here.remote).sync()
        assert (result.stats.uploaded, result.stats.downloaded) == (2, 3)
    assert len(here.rows()) == 5
    assert here.operations() == {}


def test_the_history_tells_every_session(here: Device, gate: Gate) -> None:
    here.add(1)
    first = here.sync()
    gate.plan(refuse(403, "forbidden"))
    with pytest.raises(Unauthorized):
        here.sync()
    told = [(info.phase, info.reason, info.objects) for info in here.store.sessions()]
    assert told == [(Phase.DONE, None, ("Airport",)), (Phase.FAILED, "unauthorized", ("Airport",))]
    assert here.store.session(first.session[:-1]).id == first.session
    with pytest.raises(UnknownObject):
        here.store.session("nonsense")
    with pytest.raises(UnknownObject):
        here.store.session("%")


def test_the_journal_is_one_unbroken_way_through_the_chart(here: Device, there: Device) -> None:
    there.add(3)
    there.sync()
    here.add(3, first=50)
    session = here.sync(upload_batch_size=2, download_batch_size=2).session
    journal = here.store.journal(session)
    assert [entry.number for entry in journal] == list(range(1, len(journal) + 1))
    own = [entry for entry in journal if entry.chart == "session"]
    assert (own[0].source, own[-1].target) == (Phase.IDLE, Phase.DONE)
    assert all(one.target == next_.source for one, next_ in pairwise(own))
    assert all(one.elapsed <= next_.elapsed for one, next_ in pairwise(journal))


def test_statistics_are_the_fold_of_the_journal(here: Device, there: Device) -> None:
    there.add(5)
    there.sync()
    here.add(3, first=50)
    result = here.sync(upload_batch_size=2, download_batch_size=2, get_sync_stats=True)
    commits = [e for e in here.store.journal(result.session) if e.trigger == "commit_batch"]
    counted = [(e.batch, e.detail["direction"], e.detail["records"]) for e in commits]
    assert [(b.number, b.direction, b.records) for b in result.stats.batches] == counted
    assert result.stats.uploaded == 3
    assert result.stats.downloaded == 5
    assert result.stats.elapsed == here.store.journal(result.session)[-1].elapsed
    assert all(min(b.request, b.parsing, b.storing) >= 0 for b in result.stats.batches)
    assert all(b.request > 0 and b.storing > 0 for b in result.stats.batches)


def test_batch_statistics_come_only_when_they_are_asked_for(here: Device) -> None:
    here.add(1)
    assert here.sync().stats.batches == ()


def test_the_history_keeps_as_many_sessions_as_it_is_told(tmp_path: Path, address: str, space: str) -> None:
    with (
        closing(HttpRemote(address, space)) as remote,
        device_on(tmp_path / "few.db", remote, keep_sessions=3) as device,
    ):
        store = device.store
        ids = [device.sync().session for _ in range(6)]
        kept = [session.id for session in store.sessions()]
        assert kept == ids[-len(kept) :]
        assert 3 <= len(kept) <= 4
        for session in ids[: -len(kept)]:
            with pytest.raises(UnknownObject):
                store.journal(session)
