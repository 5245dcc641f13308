"""What sessions have inside is loaded with the first one, beside an event loop, and whole in a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rig.child import on_a_device

HEAD = """
import asyncio, os, signal, sys, threading, time
import peewee
import statesync
from statesync.session import loading

class Seen:
    threads = {}
    at = lambda name: None
    def find_spec(self, name, path=None, target=None):
        if name.startswith("statesync."):
            self.threads[name] = threading.current_thread()
            type(self).at(name)

sys.meta_path.insert(0, Seen())

class Nowhere:
    space = "s"
    def pull(self, request):
        raise statesync.ConnectionLost("there is no network")
    push = pull
    def interrupt(self): pass
    def close(self): pass

once = statesync.SyncOptions(max_attempts=1)
store = statesync.Store(sys.argv[1])

@store.track
class Note(statesync.Model):
    text = peewee.TextField()

store.setup()
"""

BESIDE = """
Note.create(text="a")
store.close()
assert not loading.is_loaded()
assert "statesync.protocol.messages" not in sys.modules

async def main():
    try:
        await store.scope(Nowhere()).sync_async(once)
    except statesync.SyncFailed as error:
        assert error.reason == "connection_lost", error.reason

asyncio.run(main())
assert loading.is_loaded()
assert Seen.threads["statesync.session.inside"] is not threading.main_thread()
"""

FORKED = """
begun = threading.Event()
def hold(name):
    if name == "statesync.session.driver" and not begun.is_set():
        begun.set()
        time.sleep(0.5)
Seen.at = hold

def first():
    try:
        store.scope(Nowhere()).sync(once)
    except statesync.SyncFailed:
        pass

thread = threading.Thread(target=first)
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    loading.load()
    from statesync.session.driver import Driver
    os._exit(0 if Driver.__name__ == "Driver" else 1)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


THE_NEXT_BEGINS = """
Seen.at = lambda name: None
try:
    store.scope(Nowhere()).sync(once)
except statesync.SyncFailed:
    pass
assert len(store.sessions()) == 1
"""

AT_CTRL_C = """
def interrupt(name):
    if name == "statesync.session.driver":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
Seen.at = interrupt
try:
    store.scope(Nowhere()).sync(once)
except KeyboardInterrupt:
    assert store.sessions() == []
else:
    raise SystemExit("the Ctrl-C is lost")
"""

NOT_IN_THE_MAIN_THREAD = """
assert Seen.threads["statesync.session.inside"] is not threading.main_thread()
"""

BROKEN = """
def fail(name):
    if name == "statesync.session.driver":
        raise MemoryError(name)
Seen.at = fail
for _ in range(2):
    try:
        store.scope(Nowhere()).sync(once)
    except MemoryError as error:
        assert str(error) == "statesync.session.driver"
    else:
        raise SystemExit("it is not told")
"""


def run(text: str, path: Path) -> None:
    command = [sys.executable, "-c", HEAD + text, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=on_a_device())
    assert done.returncode == 0, done.stderr


def test_it_is_loaded_with_the_first_session_and_beside_an_event_loop(tmp_path: Path) -> None:
    run(BESIDE, tmp_path / "device.db")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_is_forked_meanwhile_has_it_whole(tmp_path: Path) -> None:
    run(FORKED, tmp_path / "device.db")


def test_a_ctrl_c_meanwhile_is_heard_and_no_session_has_begun(tmp_path: Path) -> None:
    run(AT_CTRL_C + THE_NEXT_BEGINS + NOT_IN_THE_MAIN_THREAD, tmp_path / "device.db")


def test_what_keeps_it_from_being_loaded_is_told_and_tried_again(tmp_path: Path) -> None:
    run(BROKEN + THE_NEXT_BEGINS, tmp_path / "device.db")
