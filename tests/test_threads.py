"""Threads that are used again: no task leaves anything to the next, and none keeps a program from ending."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from queue import SimpleQueue

import pytest
from rig.child import on_a_device

from statesync import threads as module
from statesync.threads import Task, Threads
from statesync.threads import threads as process_threads

PATIENCE = 10.0

color: ContextVar[str] = ContextVar("color", default="none")


def run(pool: Threads, work: object, name: str = "task") -> Task:
    task = Task(work, name)  # type: ignore[arg-type]
    pool.start(task)
    return task


def test_a_task_that_ends_leaves_its_thread_to_the_next() -> None:
    pool = Threads()
    used: list[int] = []
    for _ in range(5):
        assert run(pool, lambda: used.append(threading.get_ident())).wait(PATIENCE)
    assert len(used) == 5
    assert len(set(used)) == 1


def test_tasks_at_one_time_have_threads_of_their_own() -> None:
    pool, barrier = Threads(), threading.Barrier(8)
    for _ in range(3):
        tasks = [run(pool, lambda: barrier.wait(PATIENCE)) for _ in range(8)]
        assert all(task.wait(PATIENCE) for task in tasks)


def test_a_thread_is_called_as_its_task_and_otherwise_idle() -> None:
    pool, names, used = Threads(), list[str](), list[threading.Thread]()

    def look() -> None:
        used.append(threading.current_thread())
        names.append(used[-1].name)

    for name in ("first", "second"):
        assert run(pool, look, name).wait(PATIENCE)
        assert used[-1].name == "statesync-idle"
    assert names == ["first", "second"]


def test_what_a_task_sets_in_its_context_is_not_seen_by_the_next() -> None:
    pool, seen = Threads(), list[str]()

    def look() -> None:
        seen.append(color.get())
        color.set("red")

    for _ in range(2):
        assert run(pool, look).wait(PATIENCE)
    assert seen == ["none", "none"]


def test_only_the_task_itself_is_in_its_thread() -> None:
    pool, found = Threads(), list[bool]()
    tasks: list[Task] = []
    tasks.append(Task(lambda: found.append(tasks[0].is_this_thread()), "first"))
    pool.start(tasks[0])
    assert tasks[0].wait(PATIENCE)
    assert run(pool, lambda: found.append(tasks[0].is_this_thread())).wait(PATIENCE)
    assert found == [True, False]
    assert not tasks[0].is_this_thread()


def test_a_task_that_runs_on_has_not_ended() -> None:
    go = threading.Event()
    task = run(Threads(), lambda: go.wait(PATIENCE))
    assert not task.wait(0.01)
    go.set()
    assert task.wait(PATIENCE)


def test_a_task_that_raises_is_heard_of_and_takes_no_later_one_along(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: SimpleQueue[object] = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.put(args.exc_type))
    pool, used = Threads(), list[int]()
    assert run(pool, lambda: 1 // 0).wait(PATIENCE)
    assert raised.get(timeout=PATIENCE) is ZeroDivisionError
    assert run(pool, lambda: used.append(1)).wait(PATIENCE)
    assert used == [1]


def test_a_thread_without_a_task_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.02)
    pool, found = Threads(), list[threading.Thread]()
    assert run(pool, lambda: found.append(threading.current_thread())).wait(PATIENCE)
    found[0].join(PATIENCE)
    assert not found[0].is_alive()
    assert run(pool, lambda: None).wait(PATIENCE)


def test_no_task_is_lost_to_a_thread_that_is_about_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.001)
    pool = Threads()
    for number in range(300):
        assert run(pool, lambda: None).wait(PATIENCE), number
        time.sleep(0.001)


def test_idle_threads_keep_no_program_from_ending() -> None:
    code = (
        "from statesync.threads import Task, threads\n"
        "task = Task(lambda: None, 'task'); threads.start(task); assert task.wait(10); print('over')"
    )
    command, environment = [sys.executable, "-c", code], on_a_device()
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_no_thread_of_its_parent() -> None:
    assert run(process_threads, lambda: None).wait(PATIENCE)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if run(process_threads, lambda: None).wait(PATIENCE) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_wait_for_what_its_parent_does() -> None:
    go = threading.Event()
    task = run(Threads(), lambda: go.wait(PATIENCE))
    child = os.fork()
    if child == 0:
        os._exit(1 if task.wait(PATIENCE) else 0)
    began = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    go.set()
    assert status == 0
    assert time.monotonic() - began < PATIENCE
    assert task.wait(PATIENCE)
