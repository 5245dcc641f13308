"""Asking a hub in the same process, in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from statesync.hub import Hub, Refused

from ..devices import Device, upsert


def survey_document(**override: Any) -> dict[str, Any]:
    document = {
        "client": "me",
        "hub": None,
        "epoch": None,
        "object": "Airport",
        "columns": ["n"],
        "bounds": [""],
    }
    return document | override


def ask(hub: Hub, verb: str, document: dict[str, Any] | str) -> dict[str, Any]:
    work: Callable[[str, bytes], bytes] = getattr(hub, verb)
    body = document if isinstance(document, str) else json.dumps(document)
    answer: dict[str, Any] = json.loads(work("one", body.encode()))
    return answer


def refusal(hub: Hub, verb: str, document: dict[str, Any] | str) -> tuple[int, str, str]:
    with pytest.raises(Refused) as caught:
        ask(hub, verb, document)
    return caught.value.status, caught.value.problem.code, caught.value.problem.message


def fill(hub: Hub, device: Device, count: int, **record: Any) -> None:
    changes = [upsert(f"k{n:05}", {"n": n, **record}) for n in range(count)]
    for first in range(0, count, 10_000):
        ask(hub, "push", device.push_document(*changes[first : first + 10_000], number=first // 10_000 + 1))


@contextmanager
def without_database(hub: Hub) -> Iterator[None]:
    """Take the hub its database: whoever asks it fails."""
    kept = hub.database
    hub.database = None  # type: ignore[assignment]
    try:
        yield
    finally:
        hub.database = kept
