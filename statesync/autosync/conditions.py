"""The program's conditions: asked in a thread of their own, so that one that hangs holds up nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from logging import Logger, getLogger

from statesync.errors import words_of
from statesync.keeping.messages import ConditionsAsked
from statesync.threads import Task, threads

logger: Logger = getLogger(__name__)

Condition = Callable[[], object]
"""A function that answers yes or no: what it returns is true or false."""


class Conditions:
    """Asks them one after the other; ``tell`` gets the answer. One question at a time is under way."""

    def __init__(
        self, conditions: Mapping[str, Condition], tell: Callable[[ConditionsAsked], object]
    ) -> None:
        self._conditions = dict(conditions)
        self._tell = tell
        self._asking = threading.Lock()

    def ask(self) -> None:
        """Let them be asked. A question that is under way answers for this one, too."""
        if not self._asking.acquire(blocking=False):
            return
        try:
            threads.start(Task(self._work, "statesync-conditions"))
        except RuntimeError:
            self._asking.release()
            self._tell(
                ConditionsAsked(frozenset(self._conditions), "there is no thread to ask conditions in")
            )

    def _work(self) -> None:
        try:
            said = {name: why for name in self._conditions if (why := self._why_not(name)) is not None}
        finally:
            self._asking.release()  # before the answer: who gets it may ask again at once
        self._tell(ConditionsAsked(frozenset(said), "; ".join(said.values())))

    def _why_not(self, name: str) -> str | None:
        """Return why a condition does not hold, None if it does."""
        try:
            return None if self._conditions[name]() else f"{name} does not hold"
        except Exception as error:  # the program's code may raise anything, and that is a no
            logger.exception("the condition %s could not be asked", name)
            return f"{name} raised {words_of(error)}"
