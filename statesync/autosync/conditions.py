"""The program's conditions: asked in a thread of their own, so that one that hangs holds up nothing else."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from logging import Logger, getLogger

from statesync.errors import words_of
from statesync.keeping.messages import ConditionsAsked
from statesync.threads import Task, threads

logger: Logger = getLogger(__name__)

Condition = Callable[[], object]
"""A function that answers yes or no: what it returns is true or false. A coroutine is neither."""


class Conditions:
    """Asks them one after the other; ``tell`` gets the answer. One question at a time is under way.

    ``clear_up`` is called after each question, in its thread: a condition may have read the store.
    """

    def __init__(
        self,
        conditions: Mapping[str, Condition],
        tell: Callable[[ConditionsAsked], object],
        clear_up: Callable[[], object],
    ) -> None:
        self._conditions = dict(conditions)
        self._tell, self._clear_up = tell, clear_up
        self._state = threading.Lock()
        self._is_asking = self._is_asked_again = False

    def ask(self) -> None:
        """Let them be asked; once more, where a question is under way, whose answers may be old by now."""
        with self._state:
            self._is_asked_again = self._is_asking
            if self._is_asking:
                return
            self._is_asking = True
        try:
            threads.start(Task(self._work, "statesync-conditions"))
        except RuntimeError:
            self._is_asking = False
            self._tell(
                ConditionsAsked(frozenset(self._conditions), "there is no thread to ask conditions in")
            )

    def _work(self) -> None:
        said: dict[str, str] = {}
        while self._is_asking:
            said = {name: why for name in self._conditions if (why := self._why_not(name)) is not None}
            self._clear_up()
            with self._state:  # before the answer: who gets it may ask again at once
                self._is_asking, self._is_asked_again = self._is_asked_again, False
        self._tell(ConditionsAsked(frozenset(said), "; ".join(said.values())))

    def _why_not(self, name: str) -> str | None:
        """Return why a condition does not hold, None if it does."""
        try:
            return _why_it_is_no_yes(name, self._conditions[name]())
        except BaseException as error:  # the program's code may raise anything, and that is a no
            logger.exception("the condition %s could not be asked", name)
            return f"{name} raised {words_of(error)}"


def _why_it_is_no_yes(name: str, said: object) -> str | None:
    if isinstance(said, Awaitable):  # it is true, whatever it would come to
        return f"{name} answered with {type(said).__name__}, which is neither yes nor no"
    return None if said else f"{name} does not hold"
