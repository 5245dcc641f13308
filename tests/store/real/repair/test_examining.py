"""The doctor reads one state: beside a session that runs it finds a sound store sound."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rig.gate import PATIENCE

from statesync.hub import Hub, LocalRemote, prepare

from .damage import party


def test_a_store_is_sound_at_every_moment_of_its_sessions(tmp_path: Path) -> None:
    prepare(f"sqlite:///{tmp_path}/hub.db")
    hub = Hub(f"sqlite:///{tmp_path}/hub.db", without_tokens=True)
    with party(tmp_path, "here", hub) as here:
        stop = threading.Event()
        failed: list[BaseException] = []

        def work() -> None:
            scope = here.store.scope(LocalRemote(hub, "sp"))
            try:
                for number in range(100_000):
                    if stop.is_set():
                        return
                    here.note.create(id=f"k{number}", name="x", number=number)
                    scope.sync()
            except BaseException as error:
                failed.append(error)
                raise
            finally:
                here.store.database.close()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            until, looks, found = time.monotonic() + PATIENCE, 0, []
            while looks < 60 or (here.note.select().count() < 2 and time.monotonic() < until):
                found += here.store.examine()
                looks += 1
        finally:
            stop.set()
            thread.join()
        assert failed == []
        assert found == []
        assert here.note.select().count() > 1
    hub.close()
