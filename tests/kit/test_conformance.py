"""The project's own remotes and hubs pass the conformance tests that it gives to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from statesync import HttpRemote, Remote, RemoteError
from statesync.hub import Hub, LocalRemote, prepare, serving
from statesync.testing import FaultyRemote, HubConformance, RemoteConformance
from statesync.testing.conformance.scans import ScanConformance
from statesync.wire import Page, Pull

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


class OlderRemote(LocalRemote):
    """A way to a hub of the version before, which passes over scans."""

    def pull(self, request: Pull) -> Page:
        feeds = {name: replace(feed, scan=None) for name, feed in request.objects.items()}
        return super().pull(replace(request, objects=feeds))


class TestOlderHub(RemoteConformance):
    """It is asked for no scans: whoever asks gets a page of the feed."""

    @pytest.fixture(autouse=True)
    def _hub(self, hub: Hub) -> None:
        self.hub = hub

    def remote(self) -> Remote:
        return OlderRemote(self.hub, SPACE)


# -- a hub that breaks a promise of its scans is noticed ---------------------------------------------------


def _without_stubs(page: Page) -> Page:
    return replace(page, scans={n: replace(s, stubs=[]) for n, s in page.scans.items()})


def _with_newest(page: Page) -> Page:
    """Records that are newer than the scan, as if it had begun now."""
    return replace(page, scans={n: replace(s, since=page.head) for n, s in page.scans.items()})


def _as_utf_16(page: Page) -> Page:
    """The order that a hub has which compares keys as UTF-16."""
    return replace(page, changes=sorted(page.changes, key=lambda e: e.key.encode("utf-16-be")))


def _without_the_last(page: Page) -> Page:
    return replace(page, changes=page.changes[:-1])


def _without_end(page: Page) -> Page:
    last = "\U0010ffff"
    return replace(page, scans={n: replace(s, until=last if s.until else "") for n, s in page.scans.items()})


def _never_done(page: Page) -> Page:
    return replace(page, scans={n: replace(s, done=not s.until) for n, s in page.scans.items()}, more=True)


def _from_the_head(page: Page) -> Page:
    """The feed goes on from the head of the scan's end, and not of its beginning."""
    done = all(scanned.done for scanned in page.scans.values())
    return replace(page, cursors={n: page.head if done else at for n, at in page.cursors.items()})


class LyingRemote(LocalRemote):
    """A way to a hub that changes its pages of scans."""

    def __init__(self, hub: Hub, space: str, lie: Callable[[Page], Page]) -> None:
        super().__init__(hub, space)
        self._lie, self._pages = lie, 0

    def pull(self, request: Pull) -> Page:
        page = super().pull(request)
        self._pages += 1
        assert self._pages < 100, "a scan without an end"
        return self._lie(page) if page.scans else page


@pytest.mark.sabotage
@pytest.mark.parametrize(
    "lie",
    [_without_stubs, _with_newest, _as_utf_16, _without_the_last, _without_end, _never_done, _from_the_head],
)
def test_a_hub_that_breaks_a_promise_of_its_scans_is_noticed(hub: Hub, lie: Callable[[Page], Page]) -> None:
    noticed = [name for name in vars(ScanConformance) if name.startswith("test_") and _fails(hub, lie, name)]
    assert noticed


def _fails(hub: Hub, lie: Callable[[Page], Page], name: str) -> bool:
    class Lying(RemoteConformance):
        def remote(self) -> Remote:
            return LyingRemote(hub, name[:100], lie)

    try:
        getattr(Lying(), name)()
    except (AssertionError, RemoteError):
        return True
    return False
