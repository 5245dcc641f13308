"""A hub that is closed ends its thread at once, whatever comes in between."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from attrs import define, field

from statesync.hub.signals.waiters import Head
from statesync.hub.signals.watch import Watch


@define(eq=False)
class Lingering:
    """An observer of nothing: while its first wait lasts, somebody pushes, and the hub is closed."""

    watch: Watch = field(init=False)
    waits: int = 0
    tells_others: bool = True
    closing: threading.Thread = field(init=False)

    def wait(self, seconds: float, *, watches: bool) -> Collection[str]:
        self.waits += 1
        if self.waits == 2:  # the first follows the push that began the thread
            self.watch.moved("space")
            self.closing = threading.Thread(target=self.watch.close)
            self.closing.start()
            while not self.watch._closed.is_set():
                pass
        return ()

    def wake(self) -> None:
        """Wake nobody: ``wait`` does not wait."""

    def heads(self, spaces: Collection[str]) -> Mapping[str, Head]:
        return {}

    def tell(self, spaces: Collection[str]) -> float:
        return 0.0

    def rest(self) -> None:
        """Have nothing to let go of."""

    def begin_anew(self) -> None:
        """Have nothing to begin with."""


def test_a_thread_that_lingers_does_not_wait_again_when_a_push_comes_with_the_end() -> None:
    observer = Lingering()
    observer.watch = Watch(observer)
    observer.watch.moved("space")
    task = observer.watch._task
    assert task is not None
    assert task.wait(10)
    observer.closing.join(10)
    assert observer.waits == 2
