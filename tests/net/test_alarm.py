"""The alarm for requests that take too long: it rings in time, once, and never for what was over."""

from __future__ import annotations

import math
import os
import threading
import time

import pytest
from rig.new_threads import NewThreads

from statesync.net.alarm import Alarm
from statesync.net.alarm import alarm as process_alarm

PATIENCE = 10.0


def test_it_rings_for_a_block_that_takes_too_long() -> None:
    rung = threading.Event()
    with Alarm().after(0.01, rung.set):
        assert rung.wait(PATIENCE)


def test_it_does_not_ring_for_a_block_that_is_over() -> None:
    alarm, rung, later = Alarm(), threading.Event(), threading.Event()
    with alarm.after(0.02, rung.set):
        pass
    with alarm.after(0.05, later.set):
        assert later.wait(PATIENCE)
    assert not rung.is_set()


def test_it_does_not_ring_for_a_block_that_got_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    alarm, rung, later = Alarm(), threading.Event(), threading.Event()

    def crowded(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", crowded)
        with pytest.raises(RuntimeError), alarm.after(0.02, rung.set):
            pytest.fail("it has begun")
    with alarm.after(0.05, later.set):
        assert later.wait(PATIENCE)
    assert not rung.is_set()


@pytest.mark.parametrize("longer", [60.0, 1e12, math.inf])
def test_a_short_one_rings_though_the_thread_sleeps_for_a_long_one(longer: float) -> None:
    alarm, rung = Alarm(), threading.Event()
    with alarm.after(longer, lambda: None):
        began = time.monotonic()
        while not alarm._news._waiters:  # type: ignore[attr-defined]
            assert time.monotonic() - began < PATIENCE
        with alarm.after(0.01, rung.set):
            assert rung.wait(PATIENCE)
        assert time.monotonic() - began < PATIENCE


def test_one_thread_sleeps_for_all_and_is_not_started_again_for_the_next() -> None:
    alarm, new = Alarm(), NewThreads()
    for _ in range(3):
        with alarm.after(60.0, lambda: None), alarm.after(60.0, lambda: None):
            assert len(new.called("statesync-alarm")) == 1


def test_its_thread_ends_when_nothing_is_left_to_ring_for() -> None:
    alarm, new = Alarm(), NewThreads()
    with alarm.after(0.05, lambda: None):
        [thread] = new.called("statesync-alarm")
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_rings_for_itself_and_never_for_its_parent() -> None:
    rung, own = threading.Event(), threading.Event()
    with process_alarm.after(0.2, rung.set):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with process_alarm.after(0.5, own.set):
                    status = 0 if own.wait(PATIENCE) and not rung.is_set() else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert rung.wait(PATIENCE)
