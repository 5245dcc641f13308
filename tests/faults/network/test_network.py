"""Every fault of the network at every request of a day: nothing is lost, nothing is applied twice.

The ordinary run tries each fault at every third request, a longer one all.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from rig.gate import PATIENCE
from rig.search import some

from statesync import HttpRemote
from statesync.session import timers

from ..checks import check_journal, check_sessions
from ..day import live_the_day
from ..field import SPACE, device, evidence
from ..recovery import check_end_of_day, finish_the_day, restore
from .proxy import FAULTS, Fault, Proxy
from .served import Network


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "BACKOFF_CAP", 0.0)


SHORT_WAIT = 0.15
"""Seconds to wait for an answer that never comes; on a busy machine one that comes may be given up too."""


def live_and_check(folder: Path, proxy: Proxy, read_timeout: float = SHORT_WAIT) -> None:
    remote = HttpRemote(proxy.address, SPACE, read_timeout=read_timeout)
    live_the_day(folder, remote)
    with device(folder / "a.db") as a, evidence(folder) as found:
        finish_the_day(a, remote)
        check_sessions(a, {})
        check_journal(found)
        check_end_of_day(found, a)


def test_a_day_on_a_good_network_ends_as_expected(morning: Path, folder: Path, network: Network) -> None:
    restore(morning, folder)
    with network(folder) as proxy:
        live_and_check(folder, proxy, PATIENCE)
        assert len(proxy.requests) == 10


@pytest.mark.parametrize(("fault", "number"), some([*product(FAULTS, range(1, 11))], 7))
def test_nothing_is_lost_whatever_happens_to_one_request(
    morning: Path, folder: Path, network: Network, fault: Fault, number: int
) -> None:
    restore(morning, folder)
    with network(folder) as proxy:
        proxy.plan = lambda at: fault if at == number else Fault.PASS
        live_and_check(folder, proxy)
        assert len(proxy.requests) >= number
