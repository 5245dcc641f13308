"""A page in place of the hub's answer, as a proxy sends it: what a device believes of its push then.

The table is written by hand, from RFC 9110 and RFC 6585: which status says of itself that the request was not
processed. Of everything else a device does not know whether the hub has applied the push, and repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from rig.device import Device, device_at
from rig.gate import Gate, Reply, Step, answer

from statesync import BadAnswer, HttpRemote, RemoteError, SyncFailed
from statesync.wire import Push

PAGE = b"<html>somebody else's words</html>"
PUSH = Push("client", 1, "batch", None, None, msgspec.Raw(b"[]"))

IN_DOUBT, NOT_APPLIED = True, False
ONCE, AGAIN = False, True

TABLE = {
    204: (IN_DOUBT, ONCE),
    301: (IN_DOUBT, ONCE),
    302: (IN_DOUBT, ONCE),  # often the way to a page to log in, often the answer to a form that was taken
    303: (IN_DOUBT, ONCE),  # "the result is over there"
    304: (IN_DOUBT, ONCE),
    307: (IN_DOUBT, ONCE),
    308: (IN_DOUBT, ONCE),
    400: (IN_DOUBT, ONCE),  # also of a proxy that did not understand the hub's answer
    401: (NOT_APPLIED, ONCE),  # "has not been applied because it lacks valid authentication credentials"
    403: (IN_DOUBT, ONCE),  # filters say so that look at answers, too
    404: (IN_DOUBT, ONCE),
    405: (IN_DOUBT, ONCE),
    406: (IN_DOUBT, ONCE),  # what a filter for answers says by default
    407: (NOT_APPLIED, ONCE),  # the proxy's own, before it passes anything on
    408: (IN_DOUBT, AGAIN),
    409: (IN_DOUBT, ONCE),
    410: (IN_DOUBT, ONCE),
    411: (NOT_APPLIED, ONCE),  # "refuses to accept the request without a defined Content-Length"
    413: (NOT_APPLIED, ONCE),  # "refusing to process"; the device cuts its batch
    414: (NOT_APPLIED, ONCE),  # "refusing to service"
    415: (NOT_APPLIED, ONCE),  # "refusing to service"
    417: (NOT_APPLIED, ONCE),
    421: (NOT_APPLIED, ONCE),  # "unable or unwilling to produce an authoritative response"
    422: (NOT_APPLIED, ONCE),  # "unable to process the contained instructions"; the device cuts its batch
    426: (NOT_APPLIED, ONCE),  # "refuses to perform the request using the current protocol"
    429: (IN_DOUBT, AGAIN),
    431: (NOT_APPLIED, ONCE),  # "unwilling to process the request because its header fields are too large"
    451: (IN_DOUBT, ONCE),
    499: (IN_DOUBT, ONCE),
    500: (IN_DOUBT, AGAIN),
    502: (IN_DOUBT, AGAIN),
    503: (IN_DOUBT, AGAIN),
    504: (IN_DOUBT, AGAIN),
    520: (IN_DOUBT, AGAIN),
}


@pytest.mark.parametrize(("status", "says"), TABLE.items(), ids=map(str, TABLE))
def test_what_a_page_of_this_status_says_of_a_push(gate: Gate, status: int, says: tuple[bool, bool]) -> None:
    gate.plan(answer(status, b"" if status in (204, 304) else PAGE))
    with closing(HttpRemote(gate.url, "acme")) as remote, pytest.raises(RemoteError) as failed:
        remote.push(PUSH)
    assert isinstance(failed.value, BadAnswer)
    assert (failed.value.maybe_applied, failed.value.retryable) == says


def applied_and(status: int) -> Step:
    """Let the hub apply the request, and answer with a page."""

    def step(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        gate.ask_hub(path, body, headers)
        return status, {"Content-Type": "text/html"}, PAGE

    return step


@pytest.fixture
def device(tmp_path: Path, gate: Gate, space: str) -> Iterator[Device]:
    with device_at(tmp_path / "device.db", gate.url, space) as opened:
        yield opened


def batches(gate: Gate) -> list[str]:
    """Return the ids of the batches that were sent, in their order."""
    return [seen.body["batch"] for seen in gate.seen if seen.verb == "push"]


@pytest.mark.parametrize("status", [302, 303, 400, 403, 404, 406, 429, 502])
def test_a_push_that_was_applied_behind_a_page_is_neither_lost_nor_applied_twice(
    device: Device, gate: Gate, tmp_path: Path, address: str, space: str, status: int
) -> None:
    gone, stays = device.add(2)
    gate.plan(applied_and(status))
    with pytest.raises(SyncFailed):
        device.sync(max_attempts=1)
    device.delete(gone)  # the hub has it, so this is no record that never left the device
    device.edit(stays, name="edited")
    device.sync()
    assert batches(gate)[:2] == [batches(gate)[0]] * 2
    assert not device.store.has_pending()
    assert device.store.conflicts() == []
    with device_at(tmp_path / "other.db", address, space) as other:
        other.sync()
        assert other.rows() == device.rows()
        assert other.field(stays, "name") == "edited"


@pytest.mark.parametrize("status", [302, 400, 403, 404])
def test_a_way_that_leads_to_pages_alone_ends_each_session_and_loses_nothing(
    device: Device, gate: Gate, status: int
) -> None:
    device.add(2)
    for _ in range(3):
        gate.plan(*[answer(status, PAGE)] * 10)
        with pytest.raises(BadAnswer):
            device.sync()
        gate.forget_plans()
    assert len(gate.seen) <= 6, "no session asks for ever"
    assert device.sync().stats.uploaded == 2
    assert not device.store.has_pending()
