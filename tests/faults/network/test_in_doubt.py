"""A hub that hangs for ever: the cancel is bounded, the doubt is a value, the next session settles it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from statesync import HttpRemote, InDoubt, Phase, Remote, Session, SyncCancelled, SyncOptions, Unreachable
from statesync.errors import ConnectionLost
from statesync.values import Part, State
from statesync.wire import Page, Pull, Push, PushAnswer

from ..checks import check_journal, check_sessions
from ..day import OPTIONS
from ..field import SPACE, Device, device, evidence
from ..recovery import check_end_of_day, finish_the_day, restore
from .proxy import Fault, Proxy
from .served import Network

GRACE = 0.3


def begin(a: Device, remote: Remote, part: Part, options: SyncOptions = OPTIONS) -> Session:
    """Start a session and return it once the first request of ``part`` is on its way."""
    session = a.store.scope(remote).start_sync(options)
    for event in session.events():
        if (event.part, event.state) == (part, State.STARTED):
            return session
    raise AssertionError(f"no {part} was begun")


def seconds_to_cancel(session: Session, grace: float) -> float:
    began = time.monotonic()
    session.cancel(grace)
    session.wait(30)
    return time.monotonic() - began


def wait_for_requests(proxy: Proxy, count: int) -> None:
    until = time.monotonic() + 10
    while len(proxy.requests) < count:
        assert time.monotonic() < until, "the request did not come"
        threading.Event().wait(0.002)


def batch_of(request: tuple[str, bytes]) -> str:
    path, body = request
    assert path.endswith("/push")
    return str(json.loads(body)["batch"])


@pytest.mark.parametrize("fault", [Fault.BLACK, Fault.BLACK_AFTER])
def test_a_cancel_ends_within_its_grace_and_the_next_session_settles_the_doubt_first(
    morning: Path, folder: Path, network: Network, fault: Fault
) -> None:
    restore(morning, folder)
    with network(folder) as proxy, device(folder / "a.db") as a:
        proxy.plan = lambda at: fault if at == 1 else Fault.PASS
        remote = HttpRemote(proxy.address, SPACE)
        session = begin(a, remote, Part.UPLOAD)
        wait_for_requests(proxy, 1)
        assert seconds_to_cancel(session, GRACE) < GRACE + 1
        assert isinstance(session.exception(), InDoubt)
        (info,) = [found for found in a.store.sessions() if found.id == session.id]
        assert (info.phase, info.reason) == (Phase.FAILED, "in_doubt")
        assert [batch.in_doubt for batch in info.batches] == [True]
        finish_the_day(a, remote)
        assert batch_of(proxy.requests[1]) == batch_of(proxy.requests[0])
        assert proxy.requests[1] == proxy.requests[0]
        with evidence(folder) as found:
            check_sessions(a, {})
            check_journal(found)
            check_end_of_day(found, a)


def test_a_cancelled_download_that_hangs_is_dropped_and_cancelled(
    morning: Path, folder: Path, network: Network
) -> None:
    restore(morning, folder)
    only_down = SyncOptions(sync_type="download_only", download_batch_size=3)
    with network(folder) as proxy, device(folder / "a.db") as a:
        proxy.plan = lambda _: Fault.BLACK_AFTER
        before = a.rows()
        session = begin(a, HttpRemote(proxy.address, SPACE), Part.DOWNLOAD, only_down)
        assert seconds_to_cancel(session, GRACE) < GRACE + 1
        assert isinstance(session.exception(), SyncCancelled)
        assert a.rows() == before


@pytest.fixture
def nobody_accepts() -> Iterator[str]:
    """An address where connecting neither succeeds nor fails: the queue of the listener is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_cancel_ends_within_its_grace_while_connecting(
    morning: Path, folder: Path, nobody_accepts: str
) -> None:
    restore(morning, folder)
    with device(folder / "a.db") as a:
        session = begin(a, HttpRemote(nobody_accepts, SPACE), Part.UPLOAD)
        threading.Event().wait(0.05)  # let it be connecting: the outcome is the same if it is not yet
        assert seconds_to_cancel(session, GRACE) < GRACE + 1
        assert session.phase in (Phase.FAILED, Phase.CANCELLED)


def test_connecting_gives_up_after_its_time_out(morning: Path, folder: Path, nobody_accepts: str) -> None:
    restore(morning, folder)
    with device(folder / "a.db") as a:
        began = time.monotonic()
        remote = HttpRemote(nobody_accepts, SPACE, connect_timeout=0.2)
        with pytest.raises(Unreachable) as caught:
            a.store.scope(remote).sync(SyncOptions(max_attempts=1))
        assert time.monotonic() - began < 1.2
        assert not caught.value.maybe_applied


def test_reading_gives_up_after_its_time_out(morning: Path, folder: Path, network: Network) -> None:
    restore(morning, folder)
    with network(folder) as proxy, device(folder / "a.db") as a:
        proxy.plan = lambda _: Fault.BLACK
        began = time.monotonic()
        remote = HttpRemote(proxy.address, SPACE, read_timeout=0.2)
        with pytest.raises(ConnectionLost) as caught:
            a.store.scope(remote).sync(SyncOptions(max_attempts=1))
        assert time.monotonic() - began < 1.2
        assert caught.value.maybe_applied


def test_a_session_that_fails_with_an_upload_in_doubt_says_so(
    morning: Path, folder: Path, network: Network
) -> None:
    restore(morning, folder)
    with network(folder) as proxy, device(folder / "a.db") as a:
        proxy.plan = lambda _: Fault.DROP_ANSWER
        with pytest.raises(ConnectionLost):
            a.store.scope(HttpRemote(proxy.address, SPACE)).sync(SyncOptions(max_attempts=1))
        assert [batch.in_doubt for batch in a.store.sessions()[-1].batches] == [True]


class Deaf:
    """A remote that neither answers nor lets itself be interrupted."""

    space = SPACE

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def push(self, request: Push) -> PushAnswer:
        self.let_go.wait(30)
        raise ConnectionLost("at last", maybe_applied=True)

    def pull(self, request: Pull) -> Page:
        raise AssertionError("a session in doubt must not go on")

    def interrupt(self) -> None:
        """Hear nothing."""

    def close(self) -> None:
        """Have nothing to close."""


def test_a_cancel_ends_within_its_grace_though_the_remote_ignores_it(morning: Path, folder: Path) -> None:
    restore(morning, folder)
    remote = Deaf()
    with device(folder / "a.db") as a:
        session = begin(a, remote, Part.UPLOAD)
        assert seconds_to_cancel(session, GRACE) < GRACE + 1
        assert isinstance(session.exception(), InDoubt)
        remote.let_go.set()
