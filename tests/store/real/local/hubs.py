"""A hub that can be restored from a backup, and devices that find it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from statesync.hub import Hub, HubLimits, LocalRemote, prepare
from statesync.wire import Page, Pull, Push, PushAnswer

from ..sites import Site

_LIMITS = HubLimits(epoch_pause=0.0)


class RestorableHub:
    """A hub on a file; the sites that are given to it reach it also after it was restored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sites: list[Site] = []
        prepare(self._url)
        self._hub = Hub(self._url, without_tokens=True, limits=_LIMITS)

    @property
    def _url(self) -> str:
        return f"sqlite:///{self._path}"

    def take(self, site: Site) -> Site:
        self._sites.append(site)
        site.remote = LocalRemote(self._hub, "space")
        return site

    def back_up(self) -> None:
        self._hub.close()
        shutil.copy(self._path, f"{self._path}.backup")
        self._open()

    def restore(self) -> None:
        self._hub.close()
        shutil.copy(f"{self._path}.backup", self._path)
        self._open()

    def forget_deletes(self) -> None:
        """Forget all deletes, as those are forgotten that are older than the hub keeps them."""
        self._hub.purge("space", 1 << 60)

    def replace_by_another(self) -> None:
        self._hub.close()
        self._path = self._path.with_name("another.db")
        prepare(self._url)
        self._open()

    def _open(self) -> None:
        self._hub = Hub(self._url, without_tokens=True, limits=_LIMITS)
        for site in self._sites:
            site.remote = LocalRemote(self._hub, "space")

    def close(self) -> None:
        self._hub.close()


class Meanwhile:
    """A way to the hub on which something happens once the hub has answered a push."""

    def __init__(self, remote: LocalRemote, happens: Callable[[], object]) -> None:
        self._remote = remote
        self._happens = happens
        self.space = remote.space

    def push(self, request: Push) -> PushAnswer:
        answer = self._remote.push(request)
        self._happens()
        return answer

    def pull(self, request: Pull) -> Page:
        return self._remote.pull(request)

    def interrupt(self) -> None:
        self._remote.interrupt()

    def close(self) -> None:
        self._remote.close()
