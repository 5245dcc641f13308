"""No ordering depends on the wall clock: it may jump by years, also during a session."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest
from uuid_utils import uuid7

from statesync import Phase, Progress, Store
from statesync.store.tracking import model

from .checks import check_journal, check_sessions
from .day import OPTIONS, SHORT, edit_in_flight
from .field import device, device_at, evidence, local_hub
from .recovery import check_end_of_day, restore

TEN_YEARS = 10 * 365.25 * 86_400


class Clock:
    """The wall clock, off by ``shift`` seconds; UUIDs are made by it too."""

    shift = 0.0

    def time(self) -> float:
        return _real_time() + self.shift

    def uuid7(self) -> UUID:
        return UUID(int=uuid7().int + (int(self.shift * 1000) << 80))


_real_time = time.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(model, "uuid7", clock.uuid7)
    return clock


@pytest.mark.parametrize("years", [-10, 10])
def test_jumps_during_a_session_change_nothing_but_the_times(
    morning: Path, folder: Path, clock: Clock, years: int
) -> None:
    restore(morning, folder)

    def jump(_: Progress) -> None:
        clock.shift = 0.0 if clock.shift else years / 10 * TEN_YEARS

    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a, evidence(folder) as found:
        edit_in_flight(a)
        a.write("long", SHORT)
        result = a.store.scope(hub).sync(OPTIONS, jump)
        assert 0 <= result.stats.elapsed < 60
        elapsed = [entry.elapsed for entry in a.store.journal(result.session)]
        assert elapsed == sorted(elapsed)
        check_sessions(a, {})
        check_journal(found)
        check_end_of_day(found, a)


@pytest.mark.parametrize("years", [-10, 10])
def test_the_history_is_in_the_order_in_which_it_was_made(
    morning: Path, folder: Path, clock: Clock, years: int
) -> None:
    restore(morning, folder)
    with local_hub(folder / "hub.db") as hub, device(folder / "b.db") as b:
        made = [session.id for session in b.store.sessions()]
        for _ in range(3):
            made.append(b.store.scope(hub).sync().session)
            clock.shift = 0.0 if clock.shift else years / 10 * TEN_YEARS
        assert [session.id for session in b.store.sessions()] == made
        assert [session.id for session in b.store.sessions(limit=2)] == made[-2:]


def test_a_clock_that_went_back_does_not_make_the_history_forget_the_newest(
    morning: Path, folder: Path, clock: Clock
) -> None:
    restore(morning, folder)
    with local_hub(folder / "hub.db") as hub, Store(folder / "b.db", keep_sessions=2) as store:
        store.track(device_at(folder / "b.db").Note)
        store.setup()
        for _ in range(3):
            store.scope(hub).sync()
        clock.shift = -TEN_YEARS
        newest = store.scope(hub).sync()
        assert newest.phase is Phase.DONE
        assert store.sessions()[-1].id == newest.session
