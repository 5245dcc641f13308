"""Digests of records: equal on device and hub if, and only if, the records say the same.

The hub has the JSON text of whoever wrote a record last, the device has what its columns made of it. So a
digest is taken of the values: numbers by their value, not their notation, a missing field as null.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from statesync.classes import define

_BITS = 64
_NUMBERS = (bool, float)
_encode = msgspec.json.Encoder().encode


def of_record(key: str, values: Sequence[Any]) -> int:
    """Return the digest of one record, given as its values in the order of the columns that count."""
    plain = [int(value) if isinstance(value, _NUMBERS) and value % 1 == 0 else value for value in values]
    return int.from_bytes(blake2b(_encode([key, plain]), digest_size=_BITS // 8).digest())


def as_text(digest: int) -> str:
    """Return a digest, or a sum of digests, as it travels."""
    return format(digest % (1 << _BITS), "016x")


@define
class Sum:
    """The tally of a range: it does not depend on the order in which records are added."""

    count: int = 0
    digest: int = 0

    def add(self, digest: int) -> None:
        """Count one record."""
        self.count += 1
        self.digest += digest

    def add_tally(self, count: int, text: str) -> None:
        """Count what the other side has counted; ``text`` is the sum of its digests as it travels."""
        self.count += count
        self.digest += int(text, 16)

    def matches(self, other: Sum) -> bool:
        """Tell whether the other side's tally is the same."""
        return self.count == other.count and as_text(self.digest) == as_text(other.digest)


def sums(count: int, digests: Iterable[tuple[int, int]]) -> list[Sum]:
    """Sum (range, digest) pairs into ``count`` ranges."""
    found = [Sum() for _ in range(count)]
    for place, digest in digests:
        found[place].add(digest)
    return found
