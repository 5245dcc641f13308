"""The token that a hub knows a device by: one text, or what a function of the program's returns.

Whatever goes wrong is said without the token, and without what the function's error says: that may quote it.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from statesync.errors import BadOptions, Unauthorized

TokenSource = Callable[[], str | None]
"""Returns the token as it is now, or None where there is none at present."""

_TOKEN = re.compile(r"[!-~]*")

_WHAT_IS_WRONG = (
    "has a space, a line break or a character that is not ASCII in it, and no token has: copy it again as "
    "`statesync hub token create` has printed it"
)


class Token:
    """What is sent as the bearer token. Raises ``BadOptions`` for a text that is none.

    A function is asked before the first request, and again once the hub has refused what it gave.
    """

    def __init__(self, given: str | TokenSource | None) -> None:
        self._source = given if callable(given) else None
        self._current = _checked(given) if isinstance(given, str) else None
        if given is not None and self._source is None and self._current is None:
            raise BadOptions(
                f"the token has to be a text, or a function that returns one, not {type(given).__name__}"
            )

    def headers(self) -> dict[str, str]:
        """Return what names the device in a request. Raises ``Unauthorized`` where there is no token."""
        if self._current is None and self._source is not None:
            self._current = _asked(self._source)
        return {} if self._current is None else {"Authorization": f"Bearer {self._current}"}

    def is_renewed(self) -> bool:
        """Ask for another token than the one that the hub has refused; tell whether there is one.

        Raises ``Unauthorized`` where the function gives none.
        """
        if self._source is None:
            return False
        refused, self._current = self._current, None
        found = _asked(self._source)
        if found == refused:
            return False
        self._current = found
        return True


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
