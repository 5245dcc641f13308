"""gzip and zstd, both ways. A body is never unpacked further than its limits."""

from __future__ import annotations

import gzip
import re
import zlib

import zstandard

from statesync.hub.errors import Refused, body_too_large, malformed, refused, too_large
from statesync.hub.limits import HubLimits
from statesync.hub.texts.quoting import quoted

_WORTHWHILE = 1024
_FLOOR = 1 << 16
_WINDOW = 8 << 20
_CODING = re.compile(
    r"[ \t]*([a-z*]+)[ \t]*(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?[ \t]*", re.IGNORECASE
)


def unpack(body: bytes, coding: str, limits: HubLimits) -> bytes:
    """Return what ``body`` holds in the content coding ``coding`` (empty or identity: as it is).

    Raises the 415 for a coding that the hub does not know, the 413 for a body that grows past its limit or
    its ratio, and the 400 for one that does not unpack, ends too early, or is followed by anything.
    """
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "zstd"):
        raise refused(415, "unsupported_encoding", f"the hub reads gzip and zstd, not {quoted(coding)}")
    allowed = min(limits.body, max(_FLOOR, len(body) * limits.ratio))
    try:
        plain = _gunzip(body, allowed) if coding == "gzip" else _unzstd(body, allowed)
    except (zlib.error, zstandard.ZstdError) as error:
        raise malformed(f"the body is not {coding} ({error})") from error
    if plain is None:
        raise _too_much(allowed, limits)
    return plain


def best_coding(accepted: str) -> str:
    """Return the best coding that an Accept-Encoding header allows, empty for none.

    What cannot be read in the header is no coding that it allows.
    """
    matches = (_CODING.fullmatch(part) for part in accepted.split(","))
    codings = {match[1].lower() for match in matches if match and float(match[2] or 1) > 0}
    return next((coding for coding in ("zstd", "gzip") if coding in codings), "")


def pack(body: bytes, coding: str) -> tuple[bytes, str]:
    """Return ``body`` in the coding that was asked for, and its name; a short one stays as it is."""
    if not coding or len(body) < _WORTHWHILE:
        return body, ""
    if coding == "zstd":
        return zstandard.ZstdCompressor().compress(body), coding
    return gzip.compress(body, compresslevel=4, mtime=0), coding


def _gunzip(body: bytes, allowed: int) -> bytes | None:
    """Unpack a whole body; return None if it is longer than ``allowed`` bytes."""
    stream = zlib.decompressobj(wbits=31)
    plain = stream.decompress(body, allowed + 1)
    if len(plain) > allowed:
        return None
    if not stream.eof:
        raise zlib.error("it ends too early")
    if stream.unused_data:
        raise zlib.error(f"{len(stream.unused_data)} bytes follow its end")
    return plain


def _unzstd(body: bytes, allowed: int) -> bytes | None:
    """Unpack a whole body; return None if it is longer than ``allowed`` bytes."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    size = zstandard.frame_content_size(body)
    if size > allowed:
        return None
    if size >= 0:
        return decompressor.decompress(body, allow_extra_data=False)
    with decompressor.stream_reader(body) as stream:
        plain = stream.read(allowed + 1)
    if len(plain) > allowed:
        return None
    whole = decompressor.decompressobj()  # alone it tells where a frame ends that does not say its size
    whole.decompress(body)
    if not whole.eof:
        raise zstandard.ZstdError("it ends too early")
    if whole.unused_data:
        raise zstandard.ZstdError(f"{len(whole.unused_data)} bytes follow its end")
    return plain


def _too_much(allowed: int, limits: HubLimits) -> Refused:
    if allowed == limits.body:
        return body_too_large(limits.body)
    return too_large("ratio_too_high", "the body grows too much as it is unpacked, in times", limits.ratio)
