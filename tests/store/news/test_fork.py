"""A program that forks while its store is observed: the observer is the parent's, and hears of both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, queue, sys
import peewee
from statesync import Store

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
    Airport.create(id="child", name="")
    with store.untracked():
        Airport.create(id="untracked", name="")
    again = queue.Queue()
    with store.observe(Airport, again.put):
        store.rollback(Airport.get_by_id("child"))
        print(again.get(timeout=20).deleted, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
found = [told.get(timeout=20)]
while not any(news.everything for news in found):  # the child's own transactions leave no keys
    found.append(told.get(timeout=20))
store.close()
print("closed")
"""


def test_a_child_observes_by_itself_and_its_parent_hears_of_what_it_does(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "ignore:.*fork:DeprecationWarning",
        "-c",
        PROGRAM,
        str(tmp_path / "a.db"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "('parent',)\n('child',)\nclosed\n"
