"""A device that loses its right to write while an answer is missing loses nothing.

Its later changes are in no conflict with its own either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rig.device import Device, device_on

from statesync import ConnectionLost, Phase, SyncFailed, SyncType, Unauthorized
from statesync.hub import Hub, LocalRemote, Right, create_token
from statesync.net.remote import refusal
from statesync.wire import FORBIDDEN, Problem, Push, PushAnswer

pytestmark = pytest.mark.any_database

READ, BOTH = frozenset({Right.READ}), frozenset(Right)
KEY, NEWS = "k00000", "k00009"


class LosesAnswer(LocalRemote):
    """A hub whose answers to pushes are lost on the way."""

    def push(self, request: Push) -> PushAnswer:
        super().push(request)
        raise ConnectionLost("the answer was lost", maybe_applied=True)


class LosesRequest(LocalRemote):
    """A hub that no push reaches."""

    def push(self, request: Push) -> PushAnswer:
        raise ConnectionLost("the request was lost", maybe_applied=True)


class Older(LocalRemote):
    """A hub of an older version, before which the device may only read: it answers no repeat then."""

    def push(self, request: Push) -> PushAnswer:
        raise refusal(403, Problem(FORBIDDEN, "the token does not allow to write"), None)


class Fleet:
    """Two devices that both have a record, and their hub."""

    def __init__(self, hub: Hub, folder: Path, stack: ExitStack) -> None:
        self.hub = hub
        self.device, self.other = (
            stack.enter_context(device_on(folder / f"{name}.db", self.remote(BOTH))) for name in "ab"
        )
        self.device.add(1)
        self.device.sync()
        self.other.sync()

    def remote(self, rights: frozenset[Right], kind: type[LocalRemote] = LocalRemote) -> LocalRemote:
        return kind(self.hub, "sp", create_token(self.hub.database, "sp", {"*": rights}))

    def edit_and_lose(self, loses: type[LocalRemote], **options: SyncType) -> None:
        """Edit the record, and send that without hearing an answer."""
        self.device.edit(KEY, name="older")
        self.device.remote = self.remote(BOTH, loses)
        with pytest.raises(SyncFailed):
            self.device.sync(max_attempts=1, **options)

    def is_in_doubt(self) -> bool:
        found = self.device.execute("SELECT 1 FROM statesync_batch WHERE doubt = 1")
        return found.fetchone() is not None

    def agree_on(self, name: str | None) -> None:
        """Sync all, and see that both have this name of the record, or no record, and nobody a conflict."""
        for each in (self.device, self.other, self.device):
            assert each.sync(conflict_policy="server_wins").phase is Phase.DONE
            assert not each.store.conflicts()
            assert not each.store.has_pending()
        for each in (self.device, self.other):
            assert [row[0] for key, row in each.rows().items() if key == KEY] == ([name] if name else [])
        assert self.device.rows() == self.other.rows()


@pytest.fixture
def fleet(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Fleet]:
    hub = Hub(new_database())
    with ExitStack() as stack:
        yield Fleet(hub, tmp_path, stack)
    hub.close()


def change_again(device: Device, name: str | None) -> None:
    if name is None:
        device.delete(KEY)
    else:
        device.edit(KEY, name=name)


@pytest.mark.crossed
@pytest.mark.parametrize("loses", [LosesAnswer, LosesRequest])
@pytest.mark.parametrize("newer", ["newer", None], ids=["edit", "delete"])
def test_what_was_changed_after_a_batch_in_doubt_goes_up_without_a_conflict_once_the_right_is_back(
    fleet: Fleet, loses: type[LocalRemote], newer: str | None
) -> None:
    fleet.edit_and_lose(loses)
    fleet.other.add(1, first=9)
    fleet.other.sync()
    fleet.device.remote = fleet.remote(READ)
    change_again(fleet.device, newer)
    for _ in range(2):
        with pytest.raises(Unauthorized):
            fleet.device.sync(conflict_policy="server_wins")
    assert NEWS in fleet.device.rows()
    assert fleet.is_in_doubt() is (loses is LosesRequest)
    fleet.device.remote = fleet.remote(BOTH)
    fleet.agree_on(newer)


@pytest.mark.parametrize("newer", ["newer", None], ids=["edit", "delete"])
def test_a_device_that_only_uploads_keeps_its_doubt_until_the_right_is_back(
    fleet: Fleet, newer: str | None
) -> None:
    fleet.edit_and_lose(LosesAnswer, sync_type=SyncType.UPLOAD_ONLY)
    fleet.device.remote = fleet.remote(frozenset())
    change_again(fleet.device, newer)
    with pytest.raises(Unauthorized):
        fleet.device.sync(sync_type=SyncType.UPLOAD_ONLY)
    assert fleet.is_in_doubt()
    fleet.device.remote = fleet.remote(BOTH)
    fleet.agree_on(newer)


@pytest.mark.parametrize("newer", ["newer", None], ids=["edit", "delete"])
def test_before_an_older_hub_what_is_in_doubt_waits_and_downloads_go_on(
    fleet: Fleet, newer: str | None
) -> None:
    """It waits in words, for as long as the right is away, and nothing is lost."""
    fleet.edit_and_lose(LosesRequest)
    fleet.device.remote = fleet.remote(READ, Older)
    change_again(fleet.device, newer)
    for first in (8, 9):
        fleet.other.add(1, first=first)
        fleet.other.sync()
        with pytest.raises(Unauthorized) as failed:
            fleet.device.sync()
        assert failed.value.result.stats.downloaded == 1
        assert "write" in failed.value.message
        assert fleet.is_in_doubt()
        assert [change.key for change in fleet.device.store.pending()] == [KEY]
    fleet.device.remote = fleet.remote(BOTH)
    fleet.agree_on(newer)


def test_before_an_older_hub_that_has_taken_the_batch_no_download_is_stuck(fleet: Fleet) -> None:
    """It calls the device a copy of itself, as ever: the device is another one then, and reads on."""
    fleet.edit_and_lose(LosesAnswer)
    fleet.device.remote = fleet.remote(READ, Older)
    fleet.device.edit(KEY, elevation=7)
    fleet.other.add(1, first=9)
    fleet.other.sync()
    with pytest.raises(Unauthorized):
        fleet.device.sync()
    assert NEWS in fleet.device.rows()
    fleet.device.remote = fleet.remote(BOTH)
    fleet.device.sync(conflict_policy="client_wins")
    fleet.other.sync()
    assert fleet.other.field(KEY, "elevation") == 7
    assert fleet.device.rows() == fleet.other.rows()
