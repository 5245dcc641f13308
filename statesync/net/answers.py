"""What an answer holds: unpacked as it comes, and no further than the device takes.

urllib3 would unpack by itself, but it takes a gzip stream that breaks off for a whole one. What reads packed
files is strict: it raises ``EOFError``.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from gzip import GzipFile
from typing import Protocol

from urllib3.response import BaseHTTPResponse

_CHUNK = 1 << 18
_WINDOW = 23
"""zstd: the window that an answer may ask for, as a power of two (RFC 9659); it is memory."""


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


_UNPACKED: dict[str, Callable[[BaseHTTPResponse], _Source]] = {}
"""By the content coding, the best one first."""

UNPACKABLE: tuple[type[Exception], ...] = (zlib.error,)
"""What is raised for an answer that is not packed as it says, besides ``OSError`` and ``EOFError``."""

with suppress(ImportError):  # before Python 3.14 it is what the extra `zstd` brings
    if sys.version_info >= (3, 14):
        from compression.zstd import DecompressionParameter, ZstdError, ZstdFile
    else:
        from backports.zstd import DecompressionParameter, ZstdError, ZstdFile
    _LIMITS: dict[int, int] = {DecompressionParameter.window_log_max: _WINDOW}
    _UNPACKED["zstd"] = lambda answer: ZstdFile(answer, options=_LIMITS)
    UNPACKABLE += (ZstdError,)
_UNPACKED["gzip"] = lambda answer: GzipFile(fileobj=answer)

ACCEPTED: str = ", ".join(_UNPACKED)
"""The codings that this device can read, as an Accept-Encoding header."""


def content_of(answer: BaseHTTPResponse, most: int) -> bytes | None:
    """Return the content of an answer, or None if it is more than ``most`` bytes.

    It is measured unpacked, and given up when it has grown too large. Content of an unknown coding comes
    as it is. Raises one of a connection's ``FAILURES``, or of ``UNPACKABLE``.
    """
    coding = answer.headers.get("Content-Encoding", "").strip().lower()
    source: _Source = _UNPACKED[coding](answer) if coding in _UNPACKED else answer
    parts: list[bytes] = []
    size = 0
    while part := source.read(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > most:
            return None
        if source is answer and answer.length_remaining == 0:  # to ask for more would take as long again
            break
    return b"".join(parts)
