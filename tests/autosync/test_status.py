"""What a keeper says of itself is true, above all that all is up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from peewee import TextField
from rig.device import Device, airport_model, store_at
from rig.gate import PATIENCE, Gate, lose_answer, pass_on, refuse, rejecting, wait_for

from statesync import (
    AutoSync,
    Backlog,
    KeeperPhase,
    Phase,
    RemoteError,
    Store,
    SyncCancelled,
    SyncOptions,
    SyncType,
)
from statesync.store.news.lookout import Lookout

from .conftest import Keep

RESTING, LISTENING, SYNCING, BACKING_OFF, HELD, NEEDS_TOKEN, STOPPING, STOPPED = KeeperPhase
ONE_ATTEMPT = SyncOptions(max_attempts=1)


def two_models(store: Store) -> tuple[Any, Any]:
    class Harbour(store.Model):  # type: ignore[name-defined, misc]
        name = TextField()

    return airport_model(store), Harbour


def after_a_session(keeper: AutoSync) -> bool:
    return wait_for(lambda: (now := keeper.status()).last is not None and now.phase is not SYNCING)


def settles(keeper: AutoSync) -> bool:
    return wait_for(lambda: keeper.status().is_up_to_date)


def test_before_it_is_started_it_says_so(here: Device) -> None:
    status = AutoSync(here.scope).status()
    assert (status.phase, status.why, status.next) == (RESTING, "it was not started yet", "start")
    assert not status.is_up_to_date


def test_at_rest_it_says_when_it_comes_next_and_on_what_evidence_all_is_in_sync(
    here: Device, keep: Keep
) -> None:
    keeper = keep(here, every=600)
    assert settles(keeper)
    status = keeper.status()
    (session,) = here.scope.sessions()
    now = datetime.now(UTC)
    assert (status.phase, status.next, status.why) == (RESTING, "interval", "the session is done")
    assert status.next_at is not None
    assert timedelta(seconds=590) < status.next_at - now <= timedelta(seconds=600)
    assert timedelta(0) <= now - status.since < timedelta(seconds=10)
    assert status.in_sync is not None
    assert status.last is not None
    assert (status.in_sync.session, status.last.id, status.last.phase) == (session.id, session.id, Phase.DONE)


def test_while_it_syncs_it_waits_for_the_session_and_is_not_up_to_date(
    here: Device, keep: Keep, gate: Gate
) -> None:
    keeper = keep(here)
    assert settles(keeper)
    held = gate.hold()
    keeper.nudge()
    held.wait()
    status = keeper.status()
    assert (status.phase, status.next, status.next_at) == (SYNCING, "session_ended", None)
    assert status.why == "the program asked for it"
    assert not status.is_up_to_date
    held.release()
    assert settles(keeper)


def test_in_a_back_off_it_says_why_and_until_when(here: Device, keep: Keep, gate: Gate) -> None:
    gate.plan(refuse(503, "busy", Retry_After="100"))
    keeper = keep(here, options=ONE_ATTEMPT)
    assert after_a_session(keeper)
    status = keeper.status()
    assert (status.phase, status.next) == (BACKING_OFF, "back_off_over")
    assert "the test says so" in status.why
    assert status.next_at is not None
    assert status.next_at - datetime.now(UTC) > timedelta(seconds=90)


def test_after_its_end_nothing_wakes_it(here: Device, keep: Keep) -> None:
    keeper = keep(here)
    keeper.stop()
    status = keeper.status()
    assert (status.phase, status.next, status.next_at, status.why) == (STOPPED, None, None, "it was stopped")


# -- never up to date while anything is stuck ----------------------------------------------------------------


def quiet(here: Device, keep: Keep) -> AutoSync:
    """A keeper that has found all in sync, and looks for nothing."""
    keeper = keep(here, on_change=False)
    assert settles(keeper)
    return keeper


def test_a_change_that_waits_is_not_up_to_date(here: Device, keep: Keep) -> None:
    keeper = quiet(here, keep)
    here.add(2)
    assert keeper.status().backlog == Backlog(waiting=2)
    assert not keeper.status().is_up_to_date


def test_a_deferred_change_is_not_up_to_date(here: Device, keep: Keep) -> None:
    keeper = quiet(here, keep)
    here.add(1)
    here.store.defer(here.airport.get_by_id("k00000"))
    keeper.nudge()
    assert wait_for(lambda: len(here.scope.sessions()) == 2 and after_a_session(keeper))
    assert keeper.status().backlog == Backlog(deferred=1)
    assert not keeper.status().is_up_to_date


def test_a_parked_change_is_not_up_to_date_though_its_session_is_settled(
    here: Device, keep: Keep, gate: Gate
) -> None:
    keeper = quiet(here, keep)
    here.add(1)
    gate.plan(rejecting())
    keeper.nudge()
    assert wait_for(lambda: keeper.status().backlog == Backlog(parked=1))
    assert wait_for(lambda: keeper.status().phase is RESTING)
    assert not keeper.status().is_up_to_date
    keeper.nudge()
    assert wait_for(lambda: len(here.scope.sessions()) == 3 and after_a_session(keeper))
    last = keeper.status().last
    assert last is not None
    assert last.phase is Phase.DONE
    assert not keeper.status().is_up_to_date


def test_a_conflict_that_waits_is_not_up_to_date(here: Device, there: Device, keep: Keep) -> None:
    (key,) = there.add(1)
    there.sync()
    keeper = keep(here, on_change=False, options=SyncOptions(conflict_policy="later"))
    assert settles(keeper)
    there.edit(key, name="theirs")
    there.sync()
    here.edit(key, name="mine")
    keeper.nudge()
    assert wait_for(lambda: keeper.status().backlog == Backlog(in_conflict=1))
    assert wait_for(lambda: keeper.status().phase is RESTING)
    assert not keeper.status().is_up_to_date


def test_a_record_in_quarantine_is_not_up_to_date(here: Device, there: Device, keep: Keep) -> None:
    keeper = quiet(here, keep)
    here.execute("CREATE UNIQUE INDEX one_name ON airport (name)")
    there.add(1)
    there.airport.create(id="same", name="n0")
    there.sync()
    keeper.nudge()
    assert wait_for(lambda: keeper.status().backlog == Backlog(quarantined=1))
    assert wait_for(lambda: keeper.status().phase is RESTING)
    assert not keeper.status().is_up_to_date


def test_an_upload_in_doubt_is_not_up_to_date(here: Device, keep: Keep, gate: Gate) -> None:
    keeper = keep(here, on_change=False, options=ONE_ATTEMPT)
    assert settles(keeper)
    here.add(1)
    gate.plan(lose_answer)
    keeper.nudge()
    assert wait_for(lambda: keeper.status().phase is BACKING_OFF)
    status = keeper.status()
    assert status.backlog.in_doubt
    assert status.last is not None
    assert status.last.phase is Phase.FAILED
    assert not status.is_up_to_date


def test_a_read_from_the_start_that_was_cut_off_is_not_up_to_date(
    here: Device, keep: Keep, gate: Gate
) -> None:
    """Somebody else's session has left it so; the keeper's own have all been done."""
    here.add(5)
    keeper = quiet(here, keep)
    here.store.clear()
    assert keeper.status().backlog == Backlog(partly_read=1)
    gate.plan(pass_on, refuse(503, "busy"))
    with pytest.raises(RemoteError):
        here.sync(download_batch_size=2, max_attempts=1)
    assert 0 < len(here.rows()) < 5
    assert keeper.status().backlog == Backlog(partly_read=1)
    assert not keeper.status().is_up_to_date
    here.sync()
    assert keeper.status().backlog == Backlog()
    assert len(here.rows()) == 5


@pytest.mark.parametrize("one_way", [SyncType.UPLOAD_ONLY, SyncType.DOWNLOAD_ONLY])
def test_a_session_of_one_direction_is_no_evidence(here: Device, keep: Keep, one_way: SyncType) -> None:
    keeper = keep(here, options=SyncOptions(sync_type=one_way))
    assert after_a_session(keeper)
    assert keeper.status().in_sync is None
    assert not keeper.status().is_up_to_date


def test_a_session_that_failed_after_one_that_was_done_takes_the_word_back(
    here: Device, keep: Keep, gate: Gate
) -> None:
    keeper = keep(here, on_change=False, options=ONE_ATTEMPT)
    assert settles(keeper)
    before = keeper.status().in_sync
    gate.plan(refuse(503, "busy", Retry_After="100"))
    keeper.nudge()
    assert wait_for(lambda: keeper.status().phase is BACKING_OFF)
    assert not keeper.status().is_up_to_date
    assert keeper.status().in_sync == before


# -- what the hub is known to have ---------------------------------------------------------------------------


def test_news_that_wait_for_the_gap_are_not_up_to_date(here: Device, there: Device, keep: Keep) -> None:
    keeper = keep(here, live=True, min_gap=60)
    assert settles(keeper)
    there.add(1)
    there.sync()
    assert wait_for(lambda: keeper.status().is_behind)
    status = keeper.status()
    assert (status.phase, status.next) == (LISTENING, "signal")
    assert not status.is_up_to_date


def test_news_that_wait_for_the_conditions_are_not_up_to_date(
    here: Device, there: Device, keep: Keep
) -> None:
    hangs, asked, released = threading.Event(), threading.Event(), threading.Event()

    def on_wifi() -> bool:
        asked.set()
        return not hangs.is_set() or released.wait(PATIENCE)

    keeper = keep(here, live=True, only_if={"on_wifi": on_wifi})
    assert settles(keeper)
    asked.clear()
    hangs.set()
    there.add(1)
    there.sync()
    assert asked.wait(PATIENCE)
    assert not keeper.status().is_up_to_date
    released.set()
    assert settles(keeper)


def test_a_session_that_the_program_runs_itself_is_not_up_to_date_before_it_has_read_all(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    """Neither while it runs, nor after it was cut short; a whole one gives the word back."""
    keeper = keep(here, on_change=False)
    assert settles(keeper)
    there.add(4)
    there.sync()
    gate.plan(pass_on)
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(download_batch_size=1))
    held.wait()
    assert not keeper.status().is_up_to_date
    session.cancel()
    held.release()
    with pytest.raises(SyncCancelled):
        session.result()
    assert len(here.keys()) < 4
    assert not keeper.status().is_up_to_date
    here.sync()
    assert keeper.status().is_up_to_date


def test_objects_that_were_let_go_of_are_not_up_to_date(here: Device, keep: Keep) -> None:
    keeper = keep(here, on_change=False)
    assert settles(keeper)
    here.store.reset()
    assert not keeper.status().is_up_to_date
    keeper.nudge()
    assert settles(keeper)


def test_the_objects_of_another_scope_are_no_business_of_a_keeper(
    tmp_path: Path, here: Device, there: Device, keep: Keep
) -> None:
    with store_at(tmp_path / "two.db", two_models) as (store, (airport, _)):
        device = Device(store, airport, here.remote)
        keeper = AutoSync(store.scope(here.remote, airport), every=3600, min_gap=0)
        with keeper:
            assert settles(keeper), "nobody has ever read the harbours"
        assert device.keys() == []


# -- the lookout ---------------------------------------------------------------------------------------------


@pytest.fixture
def lookout(here: Device) -> Lookout:
    return Lookout(here.store._parts, None, here.remote.space)


def test_the_backlog_counts_what_pending_shows_folded_or_not(here: Device, lookout: Lookout) -> None:
    here.add(3)
    assert lookout.backlog() == Backlog(waiting=3)
    here.store.defer(here.airport.get_by_id("k00001"))
    assert lookout.backlog() == Backlog(waiting=2, deferred=1)
    here.edit("k00001", name="again")
    assert lookout.backlog() == Backlog(waiting=2, deferred=1)
    assert len(here.store.pending()) == 3


def test_it_asks_the_outbox_only_after_a_commit(
    new_device: Callable[..., Device], lookout: Lookout, here: Device, tmp_path: object
) -> None:
    import sqlite3
    from contextlib import closing

    assert not lookout.has_news()
    assert not lookout.has_news()
    with closing(sqlite3.connect(here.store.database.database)) as file:
        file.execute("INSERT INTO airport (id, name, is_open) VALUES ('x', 'x', 1)")
        assert not lookout.has_news()
        file.commit()
    assert lookout.has_news()
    assert not lookout.has_news()


def test_what_a_session_was_offered_and_has_left_is_no_news(here: Device, lookout: Lookout) -> None:
    import sqlite3
    from contextlib import closing

    here.add(1)
    here.store.mark_for_upload(here.airport.get_by_id("k00000"))
    lookout.note_offered()
    with closing(sqlite3.connect(here.store.database.database)) as file:
        file.execute("CREATE TABLE other (x)")
        file.commit()
        assert not lookout.has_news()
        file.execute("UPDATE airport SET name = 'new'")
        file.commit()
        assert lookout.has_news()
