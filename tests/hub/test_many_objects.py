"""A program may have more objects than one pull may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peewee import ForeignKeyField, TextField
from rig.device import quick_store

from statesync import Phase, Store, SyncOptions
from statesync.hub import Hub, HubLimits, LocalRemote
from statesync.store.download import groups
from statesync.wire import Page, Pull

pytestmark = pytest.mark.any_database


class Watched(LocalRemote):
    """A way to the hub that notes of how many objects each pull is; ``amid`` is called after each page."""

    def __init__(self, hub: Hub, amid: Callable[[int], object] = lambda _count: None) -> None:
        super().__init__(hub, "many")
        self.counts: list[int] = []
        self._amid = amid

    def pull(self, request: Pull) -> Page:
        self.counts.append(len(request.objects))
        page = super().pull(request)
        self._amid(len(self.counts))
        return page


@contextmanager
def device(path: Path, count: int) -> Iterator[tuple[Store, list[Any]]]:
    with closing(quick_store(path)) as store:
        models: list[Any] = []
        for number in range(count):
            parent = ForeignKeyField(models[0], null=True) if models else TextField(null=True)
            fields = {"title": TextField(), "parent": parent}
            models.append(type(f"Note{number:03}", (store.Model,), fields))
        store.setup()
        yield store, models


def limited(url: str, objects: int) -> Hub:
    return Hub(url, without_tokens=True, limits=HubLimits(objects=objects))


def test_a_device_without_objects_syncs_too(hub: Hub, tmp_path: Path) -> None:
    with device(tmp_path / "none.db", 0) as (none, _):
        assert none.scope(Watched(hub)).sync().phase is Phase.DONE


@pytest.mark.parametrize(
    ("most", "count"),
    [(7, 21), pytest.param(200, 600, marks=[pytest.mark.exhaustive, pytest.mark.timeout(300)])],
)
def test_a_device_with_three_times_as_many_objects_as_a_pull_may_have_reads_them_in_three(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, count: int
) -> None:
    monkeypatch.setattr(groups, "MOST", most)
    with (
        closing(limited(new_database(), most)) as hub,
        device(tmp_path / "home.db", count) as (home, notes),
        device(tmp_path / "away.db", count) as (away, copies),
    ):
        for place, model in enumerate(notes):
            model.create(id="a", title=f"{place}")
        assert home.scope(Watched(hub)).sync().stats.uploaded == count
        remote = Watched(hub)
        result = away.scope(remote).sync(SyncOptions(download_batch_size=most // 2))
        assert (result.phase, result.stats.downloaded) == (Phase.DONE, count)
        assert [model.get_by_id("a").title for model in copies] == [f"{place}" for place in range(count)]
        assert max(remote.counts) == most
        notes[-1].update(title="new").execute()
        notes[0].delete_by_id("a")
        home.scope(Watched(hub)).sync()
        remote = Watched(hub)
        assert away.scope(remote).sync().phase is Phase.DONE
        assert (copies[-1].get_by_id("a").title, copies[0].get_or_none()) == ("new", None)
        assert remote.counts == [most] * 3
        hub.begin_epoch("many")
        notes[1].create(id="b", title="b")
        assert home.scope(Watched(hub)).sync().phase is Phase.DONE
        assert away.scope(Watched(hub)).sync().phase is Phase.DONE
        assert copies[1].get_by_id("b").title == "b"
        assert away.pending() == home.pending() == []


def test_a_parent_that_comes_while_its_children_are_read_is_there_in_the_end(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its group was read before; who writes on and on is not followed for ever."""
    monkeypatch.setattr(groups, "MOST", 2)
    with (
        closing(limited(new_database(), 2)) as hub,
        device(tmp_path / "home.db", 5) as (home, notes),
        device(tmp_path / "away.db", 5) as (away, copies),
    ):

        def write(pulls: int) -> None:
            notes[0].create(id=f"parent-{pulls}", title="")
            notes[4].create(id=f"child-{pulls}", title="", parent=f"parent-{pulls}")
            home.scope(Watched(hub)).sync()

        remote = Watched(hub, write)
        result = away.scope(remote).sync()
        assert result.phase is Phase.DONE
        parents = {row.id for row in copies[0].select()}
        assert {child.parent_id for child in copies[4].select()} <= parents
        assert result.errors.download == ()
        assert len(remote.counts) < 12
