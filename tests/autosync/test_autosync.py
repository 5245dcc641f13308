"""A keeper on a real file, before a real hub: what it begins, what it waits for, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rig.device import Device, store_at
from rig.gate import PATIENCE, Gate, lose_request, refuse, rejecting, wait_for
from rig.walls import Wall

from statesync import (
    Application,
    AutoSync,
    BadOptions,
    KeeperPhase,
    Phase,
    StoreError,
    StoreNotReady,
    SyncInProgress,
    SyncOptions,
    SyncType,
    Unauthorized,
    UsageError,
    diagram,
)
from statesync.autosync import driver
from statesync.keeping import decide, ending, standing
from statesync.keeping.standing import Moment
from statesync.session import loading
from statesync.store.file import looks
from statesync.store.news.lookout import Lookout
from statesync.threads import Task, Threads

from .conftest import Keep

RESTING, LISTENING, SYNCING, BACKING_OFF, HELD, NEEDS_TOKEN, STOPPING, STOPPED = KeeperPhase


def sessions(device: Device) -> int:
    return len(device.scope.sessions())


def succeeds_in_a_child(holds: Callable[[], bool]) -> bool:
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE))
        code = 1
        try:
            code = 0 if holds() else 2
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def comes_to(keeper: AutoSync, phase: KeeperPhase) -> bool:
    return wait_for(lambda: keeper.status().phase is phase)


def rests(keeper: AutoSync) -> bool:
    """Wait until it rests after a session."""
    return wait_for(lambda: (now := keeper.status()).phase is RESTING and now.last is not None)


# -- beginning -----------------------------------------------------------------------------------------------


def test_it_syncs_as_soon_as_it_is_started(here: Device, there: Device, keep: Keep) -> None:
    keys = there.add(3)
    there.sync()
    keep(here)
    assert wait_for(lambda: here.keys() == keys)


def test_it_syncs_whenever_its_interval_is_over(here: Device, there: Device, keep: Keep) -> None:
    keep(here, every=0.05, on_change=False)
    assert wait_for(lambda: sessions(here) >= 3)
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


def test_a_nudge_begins_a_session_now(here: Device, there: Device, keep: Keep) -> None:
    keeper = keep(here)
    assert rests(keeper)
    keys = there.add(1)
    there.sync()
    keeper.nudge()
    assert wait_for(lambda: here.keys() == keys)


def test_what_is_written_here_goes_up_by_itself(here: Device, there: Device, keep: Keep) -> None:
    assert rests(keep(here))
    keys = here.add(1)
    assert wait_for(lambda: bool(there.sync()) and there.keys() == keys)


def test_what_another_program_writes_goes_up_by_itself(
    here: Device, there: Device, keep: Keep, tmp_path: Path
) -> None:
    assert rests(keep(here))
    code = (
        "import sqlite3, sys; file = sqlite3.connect(sys.argv[1]);"
        "file.execute(\"INSERT INTO airport (id, name, is_open) VALUES ('theirs', 'x', 1)\"); file.commit()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "here.db")], check=True)
    assert wait_for(lambda: bool(there.sync()) and there.keys() == ["theirs"])


def test_what_is_written_while_a_session_runs_goes_up_with_the_next(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    held = gate.hold()
    keeper = keep(here)
    held.wait()
    keys = here.add(1)
    held.release()
    assert wait_for(lambda: bool(there.sync()) and there.keys() == keys)
    assert keeper.status().phase is not STOPPED


def test_its_own_sessions_are_no_news(here: Device, there: Device, keep: Keep) -> None:
    keeper = keep(here)
    there.add(5)
    there.sync()
    assert rests(keeper)
    keeper.nudge()
    assert wait_for(lambda: sessions(here) == 2 and keeper.status().phase is RESTING)
    assert not keeper.wait(0.3)
    assert sessions(here) == 2


def test_what_is_deferred_does_not_wake_it(here: Device, keep: Keep) -> None:
    here.add(1)
    here.store.defer(here.airport.get_by_id("k00000"))
    keeper = keep(here)
    assert rests(keeper)
    here.execute("CREATE TABLE other (x)")
    assert not keeper.wait(0.3)
    assert (sessions(here), keeper.status().backlog.deferred) == (1, 1)


def test_what_the_hub_refuses_for_no_time_at_all_does_not_wake_it_again_and_again(
    here: Device, keep: Keep, gate: Gate
) -> None:
    keeper = keep(here)
    assert rests(keeper)
    gate.plan(*[rejecting(retry_after=0)] * 1000)
    here.add(1)
    assert wait_for(lambda: sessions(here) >= 2)
    assert not keeper.wait(0.5)
    assert wait_for(lambda: keeper.status().phase is RESTING)  # a loaded machine may be at the last one still
    assert sessions(here) <= 3
    assert gate.verbs().count("push") >= 1


def test_a_download_only_keeper_does_not_look_for_changes(here: Device, keep: Keep) -> None:
    keeper = keep(here, options=SyncOptions(sync_type=SyncType.DOWNLOAD_ONLY))
    assert rests(keeper)
    here.add(1)
    assert not keeper.wait(0.3)
    assert sessions(here) == 1


def test_a_machine_that_slept_syncs_when_it_wakes(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = [0.0]
    monkeypatch.setattr(standing, "CLOCK_LOOK", 0.02)
    monkeypatch.setattr(driver, "now", lambda: Moment(time.monotonic(), time.time() + slept[0]))
    assert rests(keep(here, on_change=False))
    slept[0] = 8 * 3600.0
    assert wait_for(lambda: sessions(here) == 2)


def test_a_keeper_that_looks_for_changes_sees_at_its_next_look_that_the_machine_slept(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens the lid looks at the screen now, and not in a quarter of a minute."""
    slept = [0.0]
    monkeypatch.setattr(standing, "CLOCK_LOOK", 3600.0)
    monkeypatch.setattr(driver, "now", lambda: Moment(time.monotonic(), time.time() + slept[0]))
    assert rests(keep(here))
    slept[0] = 8 * 3600.0
    assert wait_for(lambda: sessions(here) == 2)


# -- failures ------------------------------------------------------------------------------------------------

NO_RETRIES = SyncOptions(max_attempts=1)


def test_after_a_failure_it_backs_off_and_goes_on(
    here: Device, keep: Keep, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "SHORTEST_BACK_OFF", 0.05)
    monkeypatch.setattr(ending, "LONGEST_BACK_OFF", 0.05)
    gate.plan(lose_request, lose_request, lose_request)
    keeper = keep(here, options=NO_RETRIES)
    assert wait_for(lambda: keeper.status().in_sync is not None)
    phases = [session.phase for session in here.scope.sessions()]
    assert sorted(phases) == [Phase.DONE, Phase.FAILED, Phase.FAILED, Phase.FAILED]


def test_a_nudge_cuts_a_back_off_and_retry_after_is_kept(here: Device, keep: Keep, gate: Gate) -> None:
    gate.plan(refuse(503, "busy", Retry_After="1"))
    keeper = keep(here, options=NO_RETRIES)
    assert comes_to(keeper, BACKING_OFF)
    began = time.monotonic()
    keeper.nudge()
    assert rests(keeper)
    assert time.monotonic() - began > 0.7


def test_a_refused_token_is_said_and_a_nudge_tries_again(here: Device, keep: Keep, gate: Gate) -> None:
    gate.plan(refuse(401, "unauthorized"))
    keeper = keep(here)
    assert comes_to(keeper, NEEDS_TOKEN)
    last = keeper.status().last
    assert last is not None
    assert isinstance(last.error, Unauthorized)
    keeper.nudge()
    assert rests(keeper)


def test_a_store_that_another_session_uses_is_tried_again(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "SHORTEST_BACK_OFF", 0.05)
    monkeypatch.setattr(ending, "LONGEST_BACK_OFF", 0.05)
    with here.store._parts.lock.held():
        keeper = keep(here)
        assert comes_to(keeper, BACKING_OFF)
        last = keeper.status().last
    assert last is not None
    assert (last.id, type(last.error)) == (None, SyncInProgress)
    assert rests(keeper)


# -- conditions ----------------------------------------------------------------------------------------------


def test_no_session_begins_while_a_condition_says_no(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "HELD_EVERY", 0.02)
    wifi = threading.Event()
    keeper = keep(here, only_if={"on_wifi": wifi.is_set})
    assert comes_to(keeper, HELD)
    assert (keeper.status().why, sessions(here)) == ("on_wifi does not hold", 0)
    wifi.set()
    assert rests(keeper)


def test_a_condition_that_raises_is_a_no_and_is_said(here: Device, keep: Keep) -> None:
    def broken() -> bool:
        raise OSError("no such device")

    keeper = keep(here, only_if={"on_wifi": broken})
    assert comes_to(keeper, HELD)
    assert keeper.status().why == "on_wifi raised OSError: no such device"


def test_a_condition_that_hangs_keeps_nobody_from_stopping_it(here: Device, keep: Keep) -> None:
    wall = Wall()
    keeper = keep(here, only_if={"on_wifi": wall})
    assert wall.entered.wait(PATIENCE)
    keeper.stop()
    wall.gone.set()
    assert (keeper.status().phase, sessions(here)) == (STOPPED, 0)


def test_conditions_stand_in_the_chart_of_their_keeper(here: Device) -> None:
    keeper = AutoSync(here.scope, only_if={"on_wifi": lambda: True})
    assert "on_wifi holds" in str(diagram.show(keeper))


# -- stopping ------------------------------------------------------------------------------------------------


def test_after_stop_nothing_begins(here: Device, keep: Keep) -> None:
    keeper = keep(here)
    assert rests(keeper)
    keeper.stop()
    count = sessions(here)
    here.add(1)
    keeper.nudge()
    assert wait_for(lambda: keeper.status().backlog.waiting == 1)
    assert (keeper.status().phase, sessions(here)) == (STOPPED, count)


def test_a_stop_brings_the_session_that_runs_to_a_recorded_end(here: Device, keep: Keep, gate: Gate) -> None:
    here.add(1)
    held = gate.hold()
    keeper = keep(here)
    held.wait()
    keeper.stop(wait=False)
    assert comes_to(keeper, STOPPING)
    held.release()
    assert keeper.wait(PATIENCE)
    (session,) = here.scope.sessions()
    assert (keeper.status().phase, session.phase, here.operations()) == (STOPPED, Phase.CANCELLED, {})


def test_a_hub_that_hangs_does_not_keep_a_stop_from_its_end(here: Device, keep: Keep, gate: Gate) -> None:
    held = gate.hold(before_hub=True)
    keeper = keep(here)
    held.wait()
    began = time.monotonic()
    keeper.stop(grace=0.1)
    assert time.monotonic() - began < 3
    assert keeper.status().phase is STOPPED


@pytest.mark.parametrize("is_application", [False, True])
def test_the_end_of_its_block_gives_a_session_as_long_as_its_options_say(
    here: Device, gate: Gate, is_application: bool
) -> None:
    held = gate.hold(before_hub=True)
    keeper = AutoSync(here.scope, options=SyncOptions(cancel_grace=0.1))
    with Application([keeper]) if is_application else keeper:
        held.wait()
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert keeper.status().phase is STOPPED


def test_a_keeper_that_was_stopped_before_it_was_started_is_not_started(here: Device) -> None:
    keeper = AutoSync(here.scope)
    keeper.stop()
    with pytest.raises(UsageError, match="once"):
        keeper.start()
    assert (keeper.status().phase, sessions(here)) == (STOPPED, 0)


def test_a_store_that_is_closed_ends_its_keepers_first(here: Device, keep: Keep, gate: Gate) -> None:
    here.add(1)
    held = gate.hold()
    resting, syncing = keep(here, only_if={"never": lambda: False}), keep(here)
    held.wait()
    closing = threading.Thread(target=here.store.close)
    closing.start()
    assert comes_to(syncing, STOPPING)
    held.release()
    closing.join(PATIENCE)
    assert (resting.status().phase, syncing.status().phase) == (STOPPED, STOPPED)
    assert sessions(here) == 1


def test_what_cannot_be_looked_for_is_said_once_and_the_interval_goes_on(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> bool:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(Lookout, "has_news", broken)
    keep(here, every=0.1)
    assert wait_for(lambda: sessions(here) >= 3)
    assert caplog.text.count("local changes cannot be looked for") == 1


def test_a_defect_ends_a_keeper_and_its_status_says_so(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(driver, "decide", broken)
    keeper = keep(here)
    assert keeper.wait(PATIENCE)
    assert (keeper.status().phase, keeper.status().why) == (STOPPED, "a defect ended it: a defect")
    assert "a defect ended a keeper" in caplog.text


def test_a_forked_process_does_not_wait_for_its_parent_s_keeper(here: Device, keep: Keep) -> None:
    keeper = keep(here)
    assert rests(keeper)
    assert succeeds_in_a_child(lambda: keeper.wait() is False)


def test_a_forked_process_does_not_wait_in_asyncio_either(here: Device, keep: Keep) -> None:
    keeper = keep(here)
    assert rests(keeper)

    async def ends() -> bool:
        await keeper.stop_async()
        await Application([here.scope]).stop_async()
        with pytest.raises(UsageError, match="forked"):
            aiter(keeper)
        return True

    assert succeeds_in_a_child(lambda: asyncio.run(ends()))
    assert keeper.status().phase is RESTING, "it lives in its parent"


def test_a_session_that_the_program_cancels_is_not_begun_again_at_once(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    keys = here.add(2)
    held = gate.hold()
    keeper = keep(here, options=SyncOptions(upload_batch_size=1))
    held.wait()
    here.scope.cancel_sync()
    held.release()
    assert rests(keeper)
    assert not keeper.wait(0.3)
    assert [session.phase for session in here.scope.sessions()] == [Phase.CANCELLED]
    assert len(here.operations()) == 1
    keys += here.add(1, first=2)
    assert wait_for(lambda: bool(there.sync()) and there.keys() == keys)


@pytest.mark.parametrize("what", ["conditions", "session", "keeper"])
def test_where_no_thread_can_be_started_it_tries_again_or_says_so(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A program has too many threads for a moment."""
    start, name = Threads.start, f"statesync-{what}"
    refused: list[str] = []

    def crowded(self: Threads, task: Task) -> None:
        if task.name == name and not refused:
            refused.append(name)
            raise RuntimeError("can't start new thread")
        start(self, task)

    monkeypatch.setattr(Threads, "start", crowded)
    monkeypatch.setattr(decide, "HELD_EVERY", 0.02)
    monkeypatch.setattr(ending, "SHORTEST_BACK_OFF", 0.02)
    monkeypatch.setattr(ending, "LONGEST_BACK_OFF", 0.02)
    keeper = AutoSync(here.scope, min_gap=0, only_if={"on_wifi": lambda: True})
    if what == "keeper":
        with pytest.raises(RuntimeError):
            keeper.start()
        assert keeper.wait(PATIENCE)
        assert keeper.status().why == "it got no thread to live in"
        return
    with keeper:
        assert rests(keeper)
    assert refused


@pytest.mark.parametrize("lacking", [OSError(errno.EMFILE, "too many"), MemoryError(), ImportError("locked")])
def test_where_the_first_session_cannot_be_loaded_it_tries_again(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch, lacking: Exception
) -> None:
    """The process has no descriptors, or no memory, just then."""
    load = loading.load
    failed: list[Exception] = []

    def poor() -> None:
        if not failed:
            failed.append(lacking)
            raise lacking
        load()

    monkeypatch.setattr(loading, "load", poor)
    monkeypatch.setattr(ending, "SHORTEST_BACK_OFF", 0.02)
    monkeypatch.setattr(ending, "LONGEST_BACK_OFF", 0.02)
    here.add(1)
    assert rests(keep(here, min_gap=0))
    assert failed
    assert here.operations() == {}


@pytest.mark.parametrize("timeout", [float("nan"), "1", 10**400])
def test_a_time_to_wait_that_is_none_is_refused_and_not_waited_for(
    here: Device, keep: Keep, gate: Gate, timeout: Any
) -> None:
    held = gate.hold()
    keeper = keep(here)
    held.wait()
    with pytest.raises(BadOptions, match="timeout must be a number of seconds"):
        keeper.wait(timeout)
    with pytest.raises(BadOptions, match="grace must be a number of seconds"):
        here.store.close(grace=timeout)
    held.release()
    assert rests(keeper), "neither has ended anything"


def test_an_endless_time_is_waited_for(here: Device, keep: Keep, gate: Gate) -> None:
    held = gate.hold()
    keeper = keep(here)
    held.wait()
    threading.Timer(0.1, held.release).start()
    told = here.store.observe(None, lambda news: threading.Event().wait(0.1))
    here.add(1)
    here.store.close(grace=float("inf"))
    assert keeper.wait(float("inf"))
    assert not told.is_active


def test_a_keeper_is_started_once(here: Device, keep: Keep) -> None:
    keeper = keep(here)
    with pytest.raises(UsageError, match="once"):
        keeper.start()


def test_a_block_ends_with_a_keeper_that_has_stopped(here: Device, there: Device) -> None:
    keys = here.add(1)
    with AutoSync(here.scope) as keeper:
        assert wait_for(lambda: bool(there.sync()) and there.keys() == keys)
    assert keeper.status().phase is STOPPED


def test_a_signal_handler_may_stop_it(here: Device, keep: Keep) -> None:
    keeper = keep(here)
    before = signal.signal(signal.SIGUSR1, lambda *_: keeper.stop(wait=False))
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert keeper.wait(PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_callback_of_its_session_stops_it_and_cannot_wait(here: Device, there: Device, keep: Keep) -> None:
    said: list[BaseException] = []
    keeper: AutoSync | None = None

    def policy(_: object) -> str:
        assert keeper is not None
        try:
            keeper.stop()
        except UsageError as error:
            said.append(error)
        return "local"

    (key,) = here.add(1)
    there.add(1)
    there.sync()
    here.edit(key, name="mine")
    keeper = AutoSync(here.scope, options=SyncOptions(conflict_policy=policy), min_gap=0)
    keeper.start()
    assert keeper.wait(PATIENCE)
    assert len(said) == 1


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"every": 0}, {"only_if": {"on_wifi": True}}, {"only_if": {"live": bool}}],
    ids=str,
)
def test_a_keeper_that_makes_no_sense_is_not_made(here: Device, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadOptions):
        AutoSync(here.scope, **wrong)


def test_a_store_that_is_not_set_up_is_said_at_once(tmp_path: Path, here: Device) -> None:
    from statesync import Store

    store = Store(tmp_path / "fresh.db")
    with pytest.raises(StoreNotReady):
        AutoSync(store.scope(here.remote)).start()
    store.close()


def test_two_keepers_of_one_store_take_turns(tmp_path: Path, here: Device, gate: Gate, keep: Keep) -> None:
    """The second waits for the end of the first one's session, and backs off from nothing."""
    held = gate.hold()
    first = keep(here)
    held.wait()
    second = keep(here)
    assert comes_to(second, SYNCING)
    held.release()
    assert rests(first)
    assert rests(second)
    assert {session.phase for session in here.scope.sessions()} == {Phase.DONE}


def test_a_keeper_that_is_stopped_while_it_waits_for_its_turn_begins_nothing(
    here: Device, gate: Gate, keep: Keep
) -> None:
    held = gate.hold()
    keep(here)
    held.wait()
    second = keep(here)
    assert comes_to(second, SYNCING)
    second.stop()
    assert second.status().phase is STOPPED
    held.release()
    assert wait_for(lambda: sessions(here) == 1)


def test_it_leaves_no_connection_behind(here: Device, keep: Keep, tmp_path: Path) -> None:
    keeper = keep(here)
    assert rests(keeper)
    keeper.stop()
    here.store.close()
    assert not (tmp_path / "here.db-wal").exists()
    with store_at(tmp_path / "here.db") as (store, _), closing(sqlite3.connect(tmp_path / "here.db")):
        assert store.examine() == []


@pytest.mark.parametrize("ends", ["keeper", "store"])
def test_a_function_for_the_token_stops_it_and_cannot_wait(
    new_device: Callable[..., Device], gate: Gate, ends: str
) -> None:
    """It is called by the session's request, which the end would wait for."""
    raised: list[Exception] = []

    def token() -> str:
        try:
            keeper.stop(None) if ends == "keeper" else device.store.close()
        except UsageError as error:
            raised.append(error)
        return "token"

    device = new_device("token", gate.url, token=token)
    keeper = AutoSync(device.scope, options=SyncOptions(cancel_grace=None))
    keeper.start()
    assert keeper.wait(PATIENCE)
    assert len(raised) == 1


# -- commits of this process ---------------------------------------------------------------------------------


def by_model(device: Device) -> None:
    device.add(1)


def in_a_transaction(device: Device) -> None:
    database: Any = device.store.database
    with database.atomic():
        device.add(1)
        device.add(1, first=1)


def by_sql(device: Device) -> None:
    database: Any = device.store.database
    database.execute_sql("INSERT INTO airport (id, name, is_open) VALUES ('by-sql', 'by SQL', 1)")


@pytest.mark.parametrize("write", [by_model, in_a_transaction, by_sql])
def test_a_commit_of_this_process_does_not_wait_for_the_next_look(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch, write: Callable[[Device], None]
) -> None:
    monkeypatch.setattr(looks, "OFTEN", 600.0)
    keeper = keep(here, every=3600)
    assert rests(keeper)
    write(here)
    assert wait_for(lambda: not here.store.has_pending())


def test_many_commits_are_looked_at_no_more_often_than_every_so_often(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them would wake the keeper, and cost the program more than its writes do."""
    monkeypatch.setattr(looks, "OFTEN", 0.2)
    looked: list[float] = []
    has_news = Lookout.has_news

    def counted(lookout: Lookout) -> bool:
        looked.append(time.monotonic())
        return has_news(lookout)

    keeper = keep(here, debounce=1.0)
    assert rests(keeper)
    monkeypatch.setattr(Lookout, "has_news", counted)
    began = time.monotonic()
    for number in range(100):
        here.add(1, first=number)
    took = time.monotonic() - began
    assert wait_for(lambda: not here.store.has_pending())
    assert len([at for at in looked if at < began + took]) <= 2 * (1 + took / 0.2)
