"""The token that a hub knows a device by: one text, or what a function of the program's returns.

Whatever goes wrong is said without the token, and without what the function's error says: that may quote it.
"""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from statesync.errors import BadOptions, Unauthorized
from statesync.sqlite import forks

TokenSource = Callable[[], str | None]
"""Returns the token as it is now, or None where there is none at present."""

_TOKEN = re.compile(r"[!-~]*")

_WHAT_IS_WRONG = (
    "has a space, a line break or a character that is not ASCII in it, and no token has: copy it again as "
    "`statesync hub token create` has printed it"
)


class Token:
    """What is sent as the bearer token. Raises ``BadOptions`` for a text that is none. For any thread.

    A function is asked before the first request, and again once the hub has refused what it gave. One thread
    asks it at a time, and the others take what it gives: a session and who listens for news meet the end of a
    token at the same time.
    """

    def __init__(self, given: str | TokenSource | None) -> None:
        self._source = given if callable(given) else None
        self._current = _checked(given) if isinstance(given, str) else None
        if given is not None and self._source is None and self._current is None:
            raise BadOptions(
                f"the token has to be a text, or a function that returns one, not {type(given).__name__}"
            )
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Be free in a forked process: whoever asks the function is its parent's."""
        self._asking = threading.RLock()

    def headers(self) -> dict[str, str]:
        """Return what names the device in a request. Raises ``Unauthorized`` where there is no token."""
        current = self._current
        if current is None and self._source is not None:
            with self._asking:
                current = self._current
                if current is None:
                    current = self._current = _asked(self._source)
        return {} if current is None else _named(current)

    def renewed(self, refused: Mapping[str, str]) -> dict[str, str] | None:
        """Return what names the device by another token than the headers that the hub has ``refused``.

        The function is asked for it, unless another thread has done so since. None where there is no other
        one; then, and where it raises, it is asked again before the next request. Raises ``Unauthorized``
        where it gives none.
        """
        self._forget(refused)
        found = self.headers()
        if found.items() <= refused.items():
            self._forget(refused)
            return None
        return found

    def _forget(self, refused: Mapping[str, str]) -> None:
        """Let the function be asked again, if what it gave last is what the hub has refused."""
        with self._asking:
            if self._source is not None and self._current is not None:
                is_refused = _named(self._current).items() <= refused.items()
                self._current = None if is_refused else self._current


def _named(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _asked(source: TokenSource) -> str:
    with _Told():
        given: object = source()
    if not isinstance(given, str):
        found = "has none at present" if given is None else f"returned {type(given).__name__}, not a text"
        raise Unauthorized(f"the program's function for the token {found}; nothing was sent")
    try:
        return _checked(given)
    except BadOptions as error:
        raise Unauthorized(
            f"{error.message}; it came from the program's function, nothing was sent"
        ) from None


class _Told:
    """Turns what a program's function raises into words that quote nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt):
            at = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__} in {at.name} ({Path(at.filename).name}, line {at.lineno})"
            raise Unauthorized(
                f"the program's function for the token raised {told}; nothing was sent"
            ) from None


def _checked(token: str) -> str:
    """Return a token without the white space around it, which a file's last line leaves; never quoted."""
    trimmed = token.strip()
    if not _TOKEN.fullmatch(trimmed):
        raise BadOptions(f"the token {_WHAT_IS_WRONG}")
    return trimmed
