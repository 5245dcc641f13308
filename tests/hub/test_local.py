from __future__ import annotations

import time

import msgspec
import pytest

from statesync.errors import RemoteError, Unauthorized, WrongHub
from statesync.hub import Hub, LocalRemote, serving
from statesync.net.remote import HttpRemote
from statesync.remote import Remote
from statesync.wire import Accepted, Change, Entry, Feed, Pull, Push

from .devices import Device, Service, upsert


def offer(number: int, *changes: Change, hub: str | None = None) -> Push:
    return Push("me", number, f"batch-{number}", hub, None, msgspec.Raw(msgspec.json.encode(changes)))


def test_the_hub_in_process_and_over_http_are_one_to_a_client(hub: Hub) -> None:
    with serving(hub) as address:
        remotes: list[Remote] = [LocalRemote(hub, "local"), HttpRemote(address, "http")]
        for remote in remotes:
            answer = remote.push(offer(1, Change("A", "1", "upsert", 0, msgspec.Raw(b'{"n":1}'))))
            assert answer.results == [Accepted(1)]
            page = remote.pull(Pull("you", 0, answer.hub, answer.epoch, {"A": Feed(0)}, 10))
            assert page.cursors == {"A": 1}
            (entry,) = page.changes
            assert isinstance(entry, Entry)
            assert isinstance(entry.data, msgspec.Raw)
            assert bytes(entry.data) == b'{"n":1}'
            with pytest.raises(WrongHub, match="wrong_hub"):
                remote.push(offer(2, hub="another"))
            with pytest.raises(RemoteError, match="epoch_changed") as caught:
                remote.push(offer(9))
            assert caught.value.problem is not None
            assert caught.value.problem.number == 1
            remote.close()


def test_the_hub_in_process_asks_for_a_token_as_over_http(new_database: object, hub: Hub) -> None:
    closed = Hub(hub.url)
    for token in (None, "wrong"):
        with pytest.raises(Unauthorized):
            LocalRemote(closed, "space", token).push(offer(1))
    closed.close()


def test_an_answer_is_not_held_back_by_the_network_stack(service: Service, device: Device) -> None:
    device.push(upsert("a", {}))

    def seconds() -> float:
        begun = time.perf_counter()
        device.pull({"Airport": {"cursor": 1}})
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(20)) < 0.03, "Nagle's delay is 40 ms for each answer"
