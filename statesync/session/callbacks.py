"""Calling the program's code in a session's thread: whatever it does or raises must not hurt the session."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from logging import Logger, getLogger
from types import TracebackType
from typing import TypeVar

from statesync.classes import frozen
from statesync.store.file.connections import DeviceDatabase

logger: Logger = getLogger(__name__)

_Value = TypeVar("_Value")


@frozen(eq=False)
class Callbacks:
    """Calls callbacks of one session, one at a time, on a connection that is not the session's.

    One that raises is logged. ``stop`` gets what asks for the end of the thread, as ``sys.exit`` does.
    """

    database: DeviceDatabase
    stop: Callable[[BaseException], None]

    def call(self, callback: Callable[[_Value], object] | None, value: _Value) -> None:
        """Call one, if there is one."""
        if callback is not None:
            with _Contained(self._raised), self.database.aside():
                callback(value)

    def _raised(self, error: BaseException) -> None:
        with _Contained(traceback.print_exception):  # a log's handler may be the program's code, too
            logger.error("a callback of a session raised", exc_info=error)
        if not isinstance(error, Exception):
            self.stop(error)


class _Contained:
    """Lets nothing out that its block raises: ``tell`` gets it."""

    def __init__(self, tell: Callable[[BaseException], object]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            self._tell(error)
        return True
