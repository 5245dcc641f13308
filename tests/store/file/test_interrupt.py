"""Ctrl-C is heard while the main thread waits for another program that writes to the file."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from rig.child import on_a_device

PATIENCE = 20.0

_PROGRAM = """
import sys
from peewee import TextField
from statesync import Store

store = Store(sys.argv[1], busy_timeout=60)

class Note(store.Model):
    text = TextField()

store.setup()
print("is set up", flush=True)
sys.stdin.readline()
print("writes", flush=True)
try:
    {what}
except KeyboardInterrupt:
    store.close()
    print("interrupted", flush=True)
"""

WAITS = {
    "setup": "store.setup()",
    "a transaction of the program": "store.database.atomic().__enter__()",
    "store.retry": "store.retry()",
}


@pytest.mark.parametrize("what", WAITS.values(), ids=WAITS)
def test_an_interrupt_ends_the_wait_for_another_writer(tmp_path: Path, what: str) -> None:
    path = tmp_path / "device.db"
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(what=what), str(path)],
        env=on_a_device(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with program, closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "is set up\n"
        other.execute("BEGIN IMMEDIATE")
        print(file=program.stdin, flush=True)
        assert program.stdout.readline() == "writes\n"
        time.sleep(0.3)  # it waits in SQLite by then; if it does not yet, it is interrupted all the same
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "interrupted\n"
        assert time.monotonic() - began < PATIENCE
        other.execute("ROLLBACK")
    assert program.returncode == 0
