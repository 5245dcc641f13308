"""What reads from the start meet in a ``SyncWorld``: pages stored in parts, and hubs of two versions."""

from __future__ import annotations

from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import rule
from msgspec.structs import replace

from statesync.hub import LocalRemote
from statesync.store.download import scans
from statesync.testing import SyncWorld
from statesync.wire import Page, Pull

_ask = LocalRemote.pull


class Scanned(SyncWorld):
    """A world whose pages of scans answer for few rows, and whose hub may be one of the version before."""

    def __init__(self) -> None:
        super().__init__()
        self._knows_scans = True
        self._stack.enter_context(mock.patch.object(scans, "MOST_ROWS", 2))
        self._stack.enter_context(
            mock.patch.object(LocalRemote, "pull", lambda remote, request: self._pull(remote, request))
        )

    @rule(knows_scans=st.booleans())
    def change_hub(self, knows_scans: bool) -> None:
        """The hub becomes one of the version before, which passes over scans, or of this one."""
        self._knows_scans = knows_scans

    def _pull(self, remote: LocalRemote, request: Pull) -> Page:
        if not self._knows_scans:
            feeds = {name: replace(feed, scan=None) for name, feed in request.objects.items()}
            request = replace(request, objects=feeds)
        return _ask(remote, request)
