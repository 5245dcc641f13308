"""The record that every workload moves: six fields, about 250 bytes as JSON, one index besides the key."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec

OBJECT = "Item"
FIELDS = ("code", "name", "note", "quantity", "price", "active")
_BEGIN = 1_700_000_000_000
"""The first millisecond of ordered keys."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz      "


class Item(msgspec.Struct, frozen=True):
    """The record's fields as they travel."""

    code: str
    name: str
    note: str
    quantity: int
    price: float
    active: bool


Row = tuple[Any, ...]
"""A record as SQLite takes it: key, then the six fields."""


def keys(order: str, count: int, seed: int = 0) -> Iterator[str]:
    """Make ``count`` keys, the same for the same seed: ``random``, or ``ordered`` as UUIDv7 are."""
    source = random.Random(seed)
    for millisecond in range(_BEGIN, _BEGIN + count):
        key = str(uuid.UUID(int=source.getrandbits(128), version=4))
        if order == "ordered":
            stamp = f"{millisecond:012x}"
            key = f"{stamp[:8]}-{stamp[8:]}-7{key[15:]}"
        yield key


def items(count: int, seed: int = 0) -> Iterator[Item]:
    """Make the fields of ``count`` records, the same for the same seed."""
    source = random.Random(seed)
    for number in range(count):
        note = "".join(source.choices(_LETTERS, k=100))
        yield Item(
            code=f"{source.getrandbits(40):010x}",
            name=f"item number {number:08d}",
            note=note,
            quantity=source.randrange(10_000),
            price=source.randrange(1_000_000) / 7,
            active=source.random() < 0.5,
        )


def rows(order: str, count: int, seed: int = 0) -> Iterator[Row]:
    """Make ``count`` records as rows."""
    for key, item in zip(keys(order, count, seed), items(count, seed), strict=True):
        yield (key, *msgspec.structs.astuple(item))
