"""A hub that was opened before its process forked: parent and children use nothing of each other's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
from rig import TESTS

from statesync.hub import Hub, prepare

from ..served import wait_for
from .preloaded import PATIENCE, preloaded

COMMAND = [sys.executable, "-W", "ignore:.*fork:DeprecationWarning", "-c"]
HEAD = """
import logging, os, sys, threading
from hub.db.preloaded import read, write
from statesync.hub import Hub, HubLimits, Refused
logging.disable()
hub = Hub(sys.argv[1], without_tokens=True, patience=1)
"""


def test_workers_that_are_forked_from_an_open_hub_read_their_own_records_and_hang_nobody(
    new_database: Callable[[], str],
) -> None:
    ran = preloaded(new_database())
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"foreign": [], "ended": [0, 0, 0]}
    assert ran.stderr == ""


def run(program: str, url: str) -> str:
    """Run a program that opens a hub and forks; return what it printed."""
    ran = subprocess.run(
        [*COMMAND, HEAD + program, url],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_what_a_child_commits_after_its_parent_has_closed_the_file_is_there_for_others(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    program = """
write(hub, "space", 1)
ours, theirs = os.pipe()
written, writes = os.pipe()
if os.fork() == 0:
    os.close(theirs)
    write(hub, "space", 2)
    os.write(writes, b"!")
    os.read(ours, 1)  # until the parent has ended
    write(hub, "space", 3)
    other = os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", '''
import sys
from hub.db.preloaded import read
from statesync.hub import Hub
print(read(Hub(sys.argv[1], without_tokens=True), "space"))''', sys.argv[1]])
    os._exit(0)
os.read(written, 1)
hub.close()
"""
    assert run(program, url) == "['space-1', 'space-2', 'space-3']\n"


def test_a_file_that_a_thread_was_using_is_left_alone_in_the_child(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    program = """
begun, done = threading.Event(), threading.Event()
def transact():
    with hub.database.writing():
        hub.database.run("UPDATE hub_meta SET value = value")
        begun.set()
        done.wait()
thread = threading.Thread(target=transact)
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    for attempt in (lambda: write(hub, "space", 1), lambda: Hub(sys.argv[1])):
        try:
            attempt()
        except Exception as error:
            print(type(error).__name__, "was in use when this process was forked" in str(error), flush=True)
    os._exit(0)
os.waitpid(child, 0)
done.set()
thread.join()
write(hub, "space", 1)
print(read(hub, "space"))
"""
    assert run(program, url) == "Refused True\nBadDatabase True\n['space-1']\n"


def test_a_child_has_no_lock_and_no_thread_of_its_parent_s(new_database: Callable[[], str]) -> None:
    program = """
limited = Hub(sys.argv[1], without_tokens=True, limits=HubLimits(rate=1000), patience=1)
write(hub, "space", 1)
if hub.database.pool.param == "?":
    assert [one.name for one in threading.enumerate()] == ["MainThread", "statesync-checkpoints"]
hub.database.writer_lock.__enter__()
with limited._rates._lock:
    child = os.fork()
if child == 0:
    limited.admit("space", None, "read")
    write(hub, "space", 2)
    if hub.database.pool.param == "?":
        assert [one.name for one in threading.enumerate()] == ["MainThread", "statesync-checkpoints"]
    print(read(hub, "space"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert run(program, new_database()) == "['space-1', 'space-2']\n"


def test_a_child_keeps_no_connection_of_a_parent_that_is_killed(postgres_hub: Hub) -> None:
    program = """
print(*(connection.info.backend_pid for connection, _ in hub.database.pool._idle), flush=True)
if os.fork() == 0:
    print("forked", flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [*COMMAND, HEAD + program, postgres_hub.url],
        cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        assert parent.stdout is not None
        servers = [int(word) for word in parent.stdout.readline().split()]
        assert parent.stdout.readline() == "forked\n"
        assert living(postgres_hub, servers) == 1
        parent.kill()
        parent.wait(PATIENCE)
        wait_for(lambda: living(postgres_hub, servers) == 0, "the server still has the parent's connection")


def living(hub: Hub, servers: list[int]) -> int:
    """Return how many of these processes of PostgreSQL's are there."""
    with psycopg.connect(hub.url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", (servers,))
        return row.fetchone()[0]  # type: ignore[index, no-any-return]
