"""What the hub refuses stops nothing else: other changes go up, the download runs, and the session says so.

Source: section 2 of the design's second part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from peewee import TextField
from rig.device import Device, device_at
from rig.gate import Gate, Reply, lose_answer

from statesync import AllRejected, InDoubt, Phase, SyncFailed, Unauthorized
from statesync.hub import Hub, Right, create_token, serving

MOST = 600
"""Bytes that a push may have at the gate, as at a proxy with a limit of its own."""


def strict(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
    """Refuse what is large as a proxy does: with a page for people."""
    if path.endswith("push") and len(body) > MOST:
        return 413, {"Content-Type": "text/html"}, b"<html>413 Request Entity Too Large</html>"
    return gate.ask_hub(path, body, headers)


@pytest.fixture
def small_gate(gate: Gate) -> Gate:
    gate.plan(*[strict] * 200)
    return gate


def test_what_a_proxy_finds_too_large_is_cut_until_the_one_record_is_alone_and_all_others_go_up(
    here: Device, there: Device, small_gate: Gate
) -> None:
    there.add(3, first=100)
    there.sync()
    keys = here.add(20)
    here.edit(keys[7], name="x" * MOST)
    result = here.sync()
    assert result.phase is Phase.DONE
    assert [(error.key, error.code) for error in result.errors.upload] == [(keys[7], "http_413")]
    assert result.stats.uploaded == 19
    assert result.stats.downloaded == 3
    there.sync()
    assert set(there.keys()) == {*here.keys()} - {keys[7]}
    assert [change.key for change in here.store.pending()] == [keys[7]]
    assert here.store.conflicts() == []


def test_the_record_that_was_too_large_goes_up_once_it_is_smaller(
    here: Device, there: Device, small_gate: Gate
) -> None:
    (key,) = here.add(1)
    here.edit(key, name="x" * MOST)
    with pytest.raises(AllRejected):
        here.sync()
    here.edit(key, name="small")
    assert here.sync().stats.uploaded == 1
    there.sync()
    assert there.field(key, "name") == "small"
    assert not here.store.has_pending()


def test_a_session_whose_changes_were_all_rejected_downloads_all_the_same_and_then_says_so(
    here: Device, there: Device, small_gate: Gate
) -> None:
    there.add(30, first=100)
    there.sync()
    (key,) = here.add(1)
    here.edit(key, name="x" * MOST)
    with pytest.raises(AllRejected) as failed:
        here.sync(download_batch_size=10)
    assert failed.value.result.stats.downloaded == 30
    assert set(there.keys()) < set(here.keys())
    assert [session.phase for session in here.store.sessions()][-1] is Phase.FAILED


def test_a_batch_in_doubt_is_never_cut(here: Device, there: Device, gate: Gate) -> None:
    """Its answer was lost, so the hub may have it: it goes again as it was, whatever a proxy says then."""
    keys = here.add(20)
    gate.plan(lose_answer, *[strict] * 10)
    with pytest.raises(SyncFailed) as failed:
        here.sync(max_attempts=1)
    assert failed.value.reason != InDoubt.reason
    first = gate.seen[0].body
    gate.forget_plans()
    here.sync()
    again = next(seen.body for seen in gate.seen[1:] if seen.verb == "push")
    assert (again["batch"], again["changes"]) == (first["batch"], first["changes"])
    there.sync()
    assert there.keys() == keys


@pytest.fixture
def reader(
    live_hub: tuple[Hub, str], tmp_path: Path, space: str
) -> Iterator[Callable[[dict[str, Any]], Device]]:
    """Open a device whose token has these rights, at a hub over the same database that asks for tokens."""
    with ExitStack() as stack:
        hub = Hub(live_hub[0].url)
        stack.callback(hub.close)
        address = stack.enter_context(serving(hub))

        def make(rights: dict[str, Any]) -> Device:
            token = create_token(hub.database, space, rights)
            return stack.enter_context(device_at(tmp_path / "reader.db", address, space, token=token))

        yield make


def test_who_may_only_read_downloads_and_is_told_that_its_changes_wait(
    reader: Callable[..., Device], there: Device
) -> None:
    there.add(3)
    there.sync()
    device = reader({"*": frozenset({Right.READ})})
    device.add(2, first=100)
    with pytest.raises(Unauthorized) as failed:
        device.sync()
    assert failed.value.result.stats.downloaded == 3
    assert [change.error for change in device.store.pending()] == [None, None]
    there.sync()
    assert len(there.keys()) == 3


def test_a_missing_right_for_one_object_holds_back_its_changes_and_the_others_go_up(
    reader: Callable[..., Device], there: Device
) -> None:
    device = reader({"*": frozenset(Right), "Memo": frozenset({Right.READ})})
    store = device.store

    class Memo(store.Model):  # type: ignore[name-defined, misc]
        text = TextField()

    store.setup()
    memo = Memo.create(text="mine")
    device.add(2)
    result = device.sync()
    assert result.phase is Phase.DONE
    assert [(error.object, error.key, error.code) for error in result.errors.upload] == [
        ("Memo", memo.id, "forbidden")
    ]
    there.sync()
    assert len(there.keys()) == 2
