"""gzip and zstd, both ways. A body is never unpacked further than its limits."""

from __future__ import annotations

import gzip
import re
import zlib

import zstandard

from statesync.hub.errors import Refused, body_too_large, malformed, refused, too_large
from statesync.hub.limits import HubLimits

_WORTHWHILE = 1024
_FLOOR = 1 << 16
_WINDOW = 8 << 20
_CODING = re.compile(r"\s*([a-z*]+)\s*(?:;\s*q\s*=\s*([0-9.]+))?\s*", re.IGNORECASE)


def unpack(body: bytes, coding: str, limits: HubLimits) -> bytes:
    """Return what ``body`` holds in the content coding ``coding`` (empty or identity: as it is).

    Raises the 415 for a coding that the hub does not know, the 413 for a body that grows past its limit or
    its ratio, and the 400 for one that does not unpack.
    """
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "zstd"):
        raise refused(415, "unsupported_encoding", f"the hub reads gzip and zstd, not {coding!r}")
    allowed = min(limits.body, max(_FLOOR, len(body) * limits.ratio))
    try:
        plain = _gunzip(body, allowed + 1) if coding == "gzip" else _unzstd(body, allowed + 1)
    except (zlib.error, zstandard.ZstdError) as error:
        raise malformed(f"the body is not {coding} ({error})") from error
    if len(plain) > allowed:
        raise _too_much(allowed, limits)
    return plain


def pack(body: bytes, accepted: str) -> tuple[bytes, str]:
    """Return ``body`` in the best coding that an Accept-Encoding header allows, and that coding's name."""
    if len(body) < _WORTHWHILE:
        return body, ""
    codings = _accepted(accepted)
    if "zstd" in codings:
        return zstandard.ZstdCompressor().compress(body), "zstd"
    if "gzip" in codings:
        return gzip.compress(body, compresslevel=4, mtime=0), "gzip"
    return body, ""


def _gunzip(body: bytes, most: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    plain = stream.decompress(body, most)
    if len(plain) < most and not stream.eof:
        raise zlib.error("it ends too early")
    return plain


def _unzstd(body: bytes, most: int) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(body) as stream:
        return stream.read(most)


def _too_much(allowed: int, limits: HubLimits) -> Refused:
    if allowed == limits.body:
        return body_too_large(limits.body)
    return too_large("ratio_too_high", "the body grows too much as it is unpacked, in times", limits.ratio)


def _accepted(header: str) -> set[str]:
    matches = (_CODING.fullmatch(part) for part in header.split(","))
    return {match[1].lower() for match in matches if match and float(match[2] or 1) > 0}
