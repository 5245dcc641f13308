"""A program that forks while its store is observed: thread and file are the parent's, as with a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, queue, sys
import peewee
from statesync import Store, UsageError

store = Store(sys.argv[1])
class Airport(store.Model):
    name = peewee.TextField()
store.setup()
told = queue.Queue()
store.observe(Airport, told.put)
Airport.create(id="parent", name="")
print(told.get(timeout=20).stored, flush=True)
child = os.fork()
if child == 0:
    writes, observes = lambda: Airport.create(name=""), lambda: store.observe(Airport, print)
    for act in (writes, observes, store.close):
        try:
            act()
        except UsageError as error:
            print(error.message[:60], flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
Airport.create(id="after", name="")
print(told.get(timeout=20).stored)
store.close()
"""


def test_a_child_is_told_that_it_cannot_use_the_file_and_its_parent_goes_on(tmp_path: Path) -> None:
    quiet = ["-W", "ignore:.*fork:DeprecationWarning"]
    command = [sys.executable, *quiet, "-c", PROGRAM, str(tmp_path / "a.db")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    first, *refused, last = ran.stdout.splitlines()
    assert (first, last) == ("('parent',)", "('after',)")
    assert len(refused) == 2
    assert all("fork" in line for line in refused), refused
