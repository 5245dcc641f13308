"""What code of a program's runs into, and hangs in until the test lets it go on."""

from __future__ import annotations

import threading

from attrs import Factory, define

from rig.gate import PATIENCE, wait_for


@define(eq=False)
class Wall:
    """What code of the program's runs into; it hangs there until the wall is gone."""

    entered: threading.Event = Factory(threading.Event)
    gone: threading.Event = Factory(threading.Event)
    thread: threading.Thread | None = None

    def __call__(self, *_: object) -> None:
        if not self.gone.is_set():
            self.thread = threading.current_thread()
            self.entered.set()
            assert self.gone.wait(PATIENCE)

    def remove(self) -> None:
        """Let it go on, and wait until its thread has done whatever it still does."""
        self.gone.set()
        assert wait_for(lambda: self.thread is None or "session" not in self.thread.name)
