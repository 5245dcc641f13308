"""One real HTTP server for all tests: each puts its own hub behind it, and a proxy before it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

from statesync.hub import Hub, serving

from ..field import make_hub, open_hub
from .proxy import Proxy

Network = Callable[[Path], AbstractContextManager[Proxy]]


class _Seat:
    """What the server takes for a hub: whichever sits here now."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def __getattr__(self, name: str) -> Any:
        return getattr(self.hub, name)


@contextmanager
def network_of() -> Iterator[Network]:
    """Start the server, and return what serves a folder's hub for the length of a block."""
    with tempfile.TemporaryDirectory() as folder:
        make_hub(Path(folder) / "hub.db")
        nobody = open_hub(Path(folder) / "hub.db")
        seat = _Seat(nobody)
        with serving(cast(Hub, seat)) as address:
            yield lambda at: _behind(seat, address, at)
        nobody.close()


@contextmanager
def _behind(seat: _Seat, address: str, folder: Path) -> Iterator[Proxy]:
    nobody, seat.hub = seat.hub, open_hub(folder / "hub.db")
    try:
        with Proxy(address) as proxy:
            yield proxy
    finally:
        seat.hub.close()
        seat.hub = nobody
