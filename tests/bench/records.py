"""The record that every workload moves: six fields, about 250 bytes as JSON, one index besides the key."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from uuid_utils import uuid7

OBJECT = "Item"
FIELDS = ("code", "name", "note", "quantity", "price", "active")
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
    """Make ``count`` keys: ``random`` (the same for the same seed) or ``ordered``."""
    source = random.Random(seed)
    for _ in range(count):
        if order == "ordered":
            yield str(uuid7())
        else:
            yield str(uuid.UUID(int=source.getrandbits(128), version=4))


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
