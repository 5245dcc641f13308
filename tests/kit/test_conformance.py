"""The project's own remotes and hubs pass the conformance tests that it gives to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from statesync import HttpRemote, Remote
from statesync.hub import Hub, LocalRemote, prepare, serving
from statesync.testing import FaultyRemote, HubConformance, RemoteConformance

SPACE = "conformance"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    opened = Hub(url, without_tokens=True)
    yield opened
    opened.close()


class TestLocalRemote(HubConformance):
    @pytest.fixture(autouse=True)
    def _hub(self, hub: Hub) -> None:
        self.hub = hub

    def remote(self) -> Remote:
        return LocalRemote(self.hub, SPACE)

    def purge(self, through: int) -> None:
        self.hub.purge(SPACE, through)


class TestHttpRemote(HubConformance):
    @pytest.fixture(autouse=True)
    def _hub(self, hub: Hub) -> Iterator[None]:
        self.hub, self.opened = hub, list[HttpRemote]()
        with serving(hub) as self.address:
            yield
            for remote in self.opened:
                remote.close()

    def remote(self) -> Remote:
        self.opened.append(HttpRemote(self.address, SPACE))
        return self.opened[-1]

    def purge(self, through: int) -> None:
        self.hub.purge(SPACE, through)


class TestFaultyRemoteWithoutFaults(RemoteConformance):
    @pytest.fixture(autouse=True)
    def _hub(self, hub: Hub) -> None:
        self.hub = hub

    def remote(self) -> Remote:
        return FaultyRemote(LocalRemote(self.hub, SPACE), rates={})
