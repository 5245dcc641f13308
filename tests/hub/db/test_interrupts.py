"""A Ctrl-C in the main thread of a program with a hub of its own: nothing is told that is not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from statesync.hub import Hub, LocalRemote, prepare
from statesync.hub.db.groups import Group
from statesync.wire import Change, Feed, Page, Pull, Push, PushAnswer


def push(hub: Hub, client: str) -> PushAnswer:
    changes = [Change("A", client, "upsert", 0, msgspec.Raw(b"{}"))]
    return LocalRemote(hub, "s").push(
        Push(client, 1, f"of {client}", None, None, msgspec.Raw(msgspec.json.encode(changes)))
    )


def pull(hub: Hub) -> Page:
    return LocalRemote(hub, "s").pull(Pull("reader", 0, None, None, {"A": Feed(0)}, 10))


@pytest.fixture
def new_hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub on a file, where one thread leads the others."""
    prepare(f"sqlite:///{tmp_path}/hub.db")
    with closing(Hub(f"sqlite:///{tmp_path}/hub.db", without_tokens=True, patience=0.5)) as own:
        yield own


class BegunAndInterrupted:
    """A transaction that begins, and an interrupt before anybody is in it."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __enter__(self) -> None:
        self._real.__enter__()
        raise KeyboardInterrupt

    def __exit__(self, *_error: object) -> None:
        raise AssertionError("nobody is in it")


@pytest.mark.parametrize("asked", [lambda hub: push(hub, "interrupted"), pull])
def test_what_is_told_as_accepted_after_an_interrupt_as_a_transaction_begins_is_there(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, asked: Callable[[Hub], object]
) -> None:
    push(hub, "first")
    pool: Any = hub.database.pool
    atomic = pool.atomic
    with monkeypatch.context() as patch:
        patch.setattr(pool, "atomic", lambda mode: BegunAndInterrupted(atomic(mode)))
        with pytest.raises(KeyboardInterrupt):
            asked(hub)
    assert [push(hub, name).head for name in ("second", "third")] == [2, 3]
    assert pull(hub).cursors == {"A": 3}
    with closing(Hub(hub.url, without_tokens=True)) as other:
        assert pull(other).head == 3


def test_a_connection_that_was_left_amid_a_transaction_is_used_by_nobody(hub: Hub) -> None:
    """As an interrupt leaves it that comes while the connection is given back."""
    push(hub, "first")
    pool: Any = hub.database.pool
    pool.connect()
    pool.atomic(None).__enter__()
    assert push(hub, "second").head == 2
    assert pool.transaction_depth() == 0
    with closing(Hub(hub.url, without_tokens=True)) as other:
        assert pull(other).head == 2


def test_who_was_interrupted_while_it_led_leads_again_and_then_others_do(
    new_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_group: Group) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Group, "_lead", interrupted)
        with pytest.raises(KeyboardInterrupt):
            push(new_hub, "interrupted")
    assert push(new_hub, "second").head == 1, "what was interrupted is run by nobody"
    with ThreadPoolExecutor(1) as other:
        assert other.submit(push, new_hub, "third").result(30).head == 2


def test_who_was_interrupted_with_the_file_s_lock_has_it_and_gives_it_back(new_hub: Hub) -> None:
    new_hub.database.writer_lock.__enter__()
    assert push(new_hub, "second").head == 1
    with ThreadPoolExecutor(1) as other:
        assert other.submit(push, new_hub, "third").result(30).head == 2
