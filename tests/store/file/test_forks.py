"""A program that forks while a store is open: no write of either process is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rig.child import on_a_device

PATIENCE = 60.0

HEAD = """
import os, sys, threading
import peewee
from statesync import Store
from statesync.errors import UsageError

def opened():
    store = Store(sys.argv[1])
    class Airport(store.Model):
        name = peewee.TextField()
    store.setup()
    return store, Airport

store, Airport = opened()
Airport.create(name="first")
"""
READ = """
import sqlite3, sys
print([name for (name,) in sqlite3.connect(sys.argv[1]).execute("SELECT name FROM airport ORDER BY id")])
"""


def run(program: str, path: Path) -> str:
    """Run a program that opens a store and forks; return what it printed."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore:.*fork:DeprecationWarning", "-c", program, str(path)],
        env=on_a_device(),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_what_a_child_writes_after_its_parent_has_closed_the_file_is_there_for_others(tmp_path: Path) -> None:
    program = f"""
ours, theirs = os.pipe()
written, writes = os.pipe()
if os.fork() == 0:
    os.close(theirs)
    store, Airport = opened()
    Airport.create(name="second")
    os.write(writes, b"!")
    os.read(ours, 1)  # until the parent has ended
    Airport.create(name="third")
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", '''{READ}''', sys.argv[1]])
    os._exit(0)
os.read(written, 1)
store.close()
"""
    assert run(HEAD + program, tmp_path / "device.db") == "['first', 'second', 'third']\n"


def test_a_child_uses_its_parent_s_models_on_a_connection_of_its_own(tmp_path: Path) -> None:
    program = """
mine = store.database.connection()
child = os.fork()
if child == 0:
    Airport.create(name="second")
    print(store.database.connection() is mine, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print([one.name for one in Airport.select()], store.database.connection() is mine)
"""
    assert run(HEAD + program, tmp_path / "device.db") == "False\n['first', 'second'] True\n"


def test_a_writing_back_that_has_failed_keeps_no_file_from_a_child_though_its_record_is_kept(
    tmp_path: Path,
) -> None:
    program = """
import logging
from pathlib import Path
from statesync.sqlite.wal import write_back
records = []
keeping = logging.Handler()
keeping.emit = records.append
logging.getLogger("statesync").addHandler(keeping)
thread = threading.Thread(target=write_back, args=[Path(sys.argv[1] + ".gone")])
thread.start()
thread.join()
child = os.fork()
if child == 0:
    Airport.create(name="second")
    os._exit(0)
os.waitpid(child, 0)
print(len(records), [one.name for one in Airport.select()])
"""
    assert run(HEAD + program, tmp_path / "device.db") == "1 ['first', 'second']\n"


def test_a_file_that_another_thread_was_using_is_not_opened_in_the_child(tmp_path: Path) -> None:
    program = """
begun, done = threading.Event(), threading.Event()
def transact():
    with store.database.atomic():
        Airport.create(name="second")
        begun.set()
        done.wait()
    store.database.close()
thread = threading.Thread(target=transact)
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    for attempt in (lambda: Airport.create(name="third"), opened):
        try:
            attempt()
        except UsageError as error:
            print("fork before the file is opened" in str(error), flush=True)
    os._exit(0)
os.waitpid(child, 0)
done.set()
thread.join()
print([one.name for one in Airport.select()])
"""
    assert run(HEAD + program, tmp_path / "device.db") == "True\nTrue\n['first', 'second']\n"


def test_a_file_that_was_closed_is_opened_in_the_child_though_another_one_was_in_use(tmp_path: Path) -> None:
    program = """
store.close()
other = Store(sys.argv[1] + ".other")
other.setup()
begun, done = threading.Event(), threading.Event()
def transact():
    with other.database.atomic():
        begun.set()
        done.wait()
    other.database.close()
thread = threading.Thread(target=transact)
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    opened()[1].create(name="second")
    try:
        Store(sys.argv[1] + ".other").setup()
    except UsageError as error:
        print("fork before the file is opened" in str(error), flush=True)
    os._exit(0)
os.waitpid(child, 0)
done.set()
thread.join()
print([one.name for one in opened()[1].select()])
"""
    assert run(HEAD + program, tmp_path / "device.db") == "True\n['first', 'second']\n"
