"""What a batch staged is gone when it is settled (K9), also when another session settles it."""

from __future__ import annotations

from pathlib import Path

import pytest

from statesync.errors import ConnectionLost
from statesync.testing import Fault, FaultyRemote
from statesync.values import SyncOptions

from .field import device, evidence, local_hub
from .recovery import check_end_of_day, finish_the_day, restore


def test_a_batch_in_doubt_leaves_nothing_behind_once_a_later_session_has_settled_it(
    morning: Path, folder: Path
) -> None:
    restore(morning, folder)
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a, evidence(folder) as found:
        remote = FaultyRemote(hub, rates={})
        remote.inject(Fault.LOSE_ANSWER)
        with pytest.raises(ConnectionLost):
            a.store.scope(remote).sync(SyncOptions(max_attempts=1, upload_batch_size=3))
        staged = "SELECT count(*) FROM statesync_payload"
        assert found.execute(staged).fetchone() == (1,)
        finish_the_day(a, remote)
        assert found.execute(staged).fetchone() == (0,)
        check_end_of_day(found, a)
