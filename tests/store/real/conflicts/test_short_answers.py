"""A conflict without the hub's record is offered again until that has come, and decided then as any other.

The hub here carries one record in an answer to a push.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import define, field
from peewee import TextField
from rig.device import device_at

from statesync import BadAnswer, Conflict, Phase, RemoteError, Store, SyncFailed, SyncType
from statesync.hub import Hub, HubLimits, LocalRemote, Right, create_token, prepare, serving
from statesync.wire import Conflicted, Page, Pull, Push, PushAnswer

from ..sites import Site, note

NewSite = Callable[..., Site]
UP = SyncType.UPLOAD_ONLY
KEYS = [f"k{n}" for n in range(6)]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True, limits=HubLimits(page_bytes=1))
    yield hub
    hub.close()


Step = Callable[[Push, PushAnswer], PushAnswer]


@define(eq=False)
class Watched:
    """A remote that keeps what went up and how it was answered; ``becomes`` changes answers on their way."""

    hub: LocalRemote
    knows: bool = True
    becomes: Step = field(default=lambda request, answer: answer)
    pushes: list[tuple[int, list[Any]]] = field(factory=list)

    @property
    def space(self) -> str:
        return self.hub.space

    def push(self, request: Push) -> PushAnswer:
        count = len(msgspec.json.decode(request.changes))
        answer = self.hub.push(msgspec.structs.replace(request, offers_again=self.knows))
        self.pushes.append((count, answer.results))
        return self.becomes(request, answer)

    def pull(self, request: Pull) -> Page:
        return self.hub.pull(request)

    def interrupt(self) -> None:
        self.hub.interrupt()

    def close(self) -> None:
        self.hub.close()


def lost_once() -> Step:
    """Lose the first answer: the hub has applied its batch."""
    lost = list[Push]()

    def becomes(request: Push, answer: PushAnswer) -> PushAnswer:
        lost.append(request)
        if len(lost) == 1:
            raise RemoteError("gone", retryable=False, maybe_applied=True)
        return answer

    return becomes


def without_records(_: Push, answer: PushAnswer) -> PushAnswer:
    bare = [Conflicted(each.version) if isinstance(each, Conflicted) else each for each in answer.results]
    return msgspec.structs.replace(answer, results=bare)


@pytest.fixture
def pair(new_site: NewSite) -> tuple[Site, Site]:
    """Two devices that have changed the same records; those of the second are at the hub already."""
    a, b = new_site("a", note), new_site("b", note)
    for key in KEYS:
        a.model.create(id=key, title="first")
    a.sync()
    b.sync()
    for site, words in ((b, "theirs"), (a, "mine")):
        for key in KEYS:
            site.model.update(title=f"{words} {key}").where(site.model.id == key).execute()
    b.sync()
    return a, b


def watched(site: Site, **how: Any) -> Watched:
    remote = Watched(site.remote, **how)
    site.remote = remote  # type: ignore[assignment]
    return remote


def sides(site: Site) -> dict[str, tuple[Any, ...]]:
    """Return what the conflict log has of each record: one entry each."""
    entries = site.store.conflicts()
    assert len({entry.key for entry in entries}) == len(entries)
    return {
        entry.key: tuple(side and side["title"] for side in (entry.base, entry.local, entry.remote))
        for entry in entries
    }


DECIDED = {key: ("first", f"mine {key}", f"theirs {key}") for key in KEYS}


@pytest.mark.crossed
@pytest.mark.parametrize("options", [{}, {"sync_type": UP}, {"upload_batch_size": 2}], ids=str)
@pytest.mark.parametrize("policy", ["client_wins", "server_wins"])
def test_all_are_decided_in_one_session_once_each_with_both_sides(
    pair: tuple[Site, Site], policy: str, options: dict[str, Any]
) -> None:
    a, b = pair
    remote = watched(a)
    result = a.sync(conflict_policy=policy, **options)
    assert (result.phase, result.errors.upload) == (Phase.DONE, ())
    assert sides(a) == DECIDED
    assert len(result.conflicts) == len(KEYS)
    told = [each.detail for each in a.store.journal(result.session) if each.trigger == "commit_batch"]
    assert sum(detail.get("conflicts", 0) for detail in told) == len(KEYS), "others were none yet"
    assert not a.store.has_pending()
    words = "mine" if policy == "client_wins" else "theirs"
    b.sync()
    assert a.rows() == b.rows() == {key: (f"{words} {key}",) for key in KEYS}
    bare = [sum(isinstance(v, Conflicted) and v.lacks_record for v in told) for _, told in remote.pushes]
    assert max(bare) == min(options.get("upload_batch_size", 6), 6) - 1, "answers came without records"


@pytest.mark.parametrize("knows", [True, False], ids=["knows", "is older"])
def test_a_lost_answer_costs_no_conflict(pair: tuple[Site, Site], knows: bool) -> None:
    """The repeat tells of the conflicts without a record: each comes with a later batch of the session."""
    a, b = pair
    remote = watched(a, knows=knows, becomes=lost_once())
    with pytest.raises(SyncFailed):
        a.sync(conflict_policy="client_wins", upload_batch_size=1 if not knows else 6)
    result = a.sync(conflict_policy="client_wins")
    assert result.phase is Phase.DONE
    assert sides(a) == DECIDED
    assert not a.store.has_pending()
    b.sync()
    assert a.rows() == b.rows() == {key: (f"mine {key}",) for key in KEYS}
    assert all(not isinstance(each, Conflicted) or each.lacks_record for each in remote.pushes[1][1])


def test_an_older_device_sends_less_until_all_that_is_in_conflict_comes(pair: tuple[Site, Site]) -> None:
    """The hub refuses what it cannot answer whole, and any device cuts a batch that is refused so."""
    a, b = pair
    remote = watched(a, knows=False)
    result = a.sync(conflict_policy="client_wins")
    assert (result.phase, result.errors.upload) == (Phase.DONE, ())
    assert sides(a) == DECIDED
    b.sync()
    assert a.rows() == b.rows() == {key: (f"mine {key}",) for key in KEYS}
    told = [verdict for _, verdicts in remote.pushes for verdict in verdicts]
    assert not any(isinstance(verdict, Conflicted) and verdict.lacks_record for verdict in told)


def test_nobody_is_asked_before_the_record_has_come_and_a_session_ends_where_it_never_does(
    pair: tuple[Site, Site],
) -> None:
    """A hub that answers no record at all: what waits is no conflict, no rejection, and stays as it was."""
    a, _ = pair
    remote = watched(a, becomes=without_records)
    asked = list[Conflict]()

    def policy(conflict: Conflict) -> Any:
        asked.append(conflict)
        return conflict.remote

    before = a.rows()
    result = a.sync(conflict_policy=policy, sync_type=UP)
    assert (result.phase, result.conflicts, result.errors.upload, asked) == (Phase.DONE, (), (), [])
    assert len(remote.pushes) == 2, "a second round that leaves no fewer is the last one"
    assert a.rows() == before
    assert a.operations() == dict.fromkeys(KEYS, "update")
    remote.becomes = lambda request, answer: answer
    a.sync(conflict_policy="client_wins")
    assert sides(a) == DECIDED


def test_a_record_made_on_both_sides_and_deleted_here_is_not_forgotten(new_site: NewSite) -> None:
    """That a conflict came says that the hub has the record: its delete goes up (G31)."""
    a, b = new_site("a", note), new_site("b", note)
    for site in (b, a):
        site.model.create(id="k", title="made twice")
        site.model.create(id="l", title="made twice")
    b.sync()
    watched(a, becomes=without_records)
    a.sync(sync_type=UP)
    a.model.delete_by_id("k")
    assert a.operations() == {"k": "delete", "l": "insert"}


def test_a_policy_that_fails_for_some_keeps_no_other_record_from_coming(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    met = set[str]()

    def policy(conflict: Conflict) -> Any:
        met.add(conflict.key)
        raise ValueError("no idea")

    for _ in range(2):
        met.clear()
        a.sync(conflict_policy=policy)
        assert met == set(KEYS)
    a.sync(conflict_policy="client_wins")
    assert sides(a) == DECIDED


def test_an_old_row_before_which_the_newer_one_waits_in_quarantine_is_decided_too(new_site: NewSite) -> None:
    """The conflict's version is one that the device has read already: no feed brings it again."""

    def unique(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(unique=True)

        return Note

    a, b = new_site("a", unique), new_site("b", note)
    for key in "xy":
        b.model.create(id=key, title=key)
    b.sync()
    a.sync()
    a.model.create(id="z", title="taken")
    b.model.update(title="taken").where(b.model.id == "x").execute()
    b.model.update(title="taken").where(b.model.id == "y").execute()
    b.sync()
    a.sync()
    assert {each.key for each in a.store.quarantine()} == {"x", "y"}
    for key in "xy":
        a.model.update(title=f"mine {key}").where(a.model.id == key).execute()
    result = a.sync(conflict_policy="client_wins")
    remotes = {each.key: each.remote and each.remote["title"] for each in result.conflicts}
    assert remotes == {"x": "taken", "y": "taken"}
    assert a.store.quarantine() == []
    b.sync()
    assert a.rows() == b.rows() == {"x": ("mine x",), "y": ("mine y",), "z": ("taken",)}


# -- over HTTP, with rights, and with a bound of the device's own ------------------------------------------


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, Hub]]:
    url = f"sqlite:///{tmp_path}/guarded.db"
    prepare(url)
    hub = Hub(url)
    with serving(hub) as at:
        yield at, hub
    hub.close()


def token(hub: Hub, *rights: Right) -> str:
    return create_token(hub.database, "space", {"*": frozenset(rights)})


def test_who_may_only_write_overwrites_nothing_and_is_told_what_to_do(
    address: tuple[str, Hub], tmp_path: Path
) -> None:
    at, hub = address
    writer, both = token(hub, Right.WRITE), token(hub, *Right)
    with (
        device_at(tmp_path / "all.db", at, "space", token=both) as other,
        device_at(tmp_path / "w.db", at, "space", token=writer) as device,
    ):
        other.add(2)
        other.sync()
        device.add(3)
        device.edit("k00000", name="mine")
        result = device.sync(sync_type=UP)
        assert [(each.key, each.code) for each in result.errors.upload] == [
            ("k00000", "conflict_unreadable"), ("k00001", "conflict_unreadable"),
        ]  # fmt: skip
        assert "retry()" in result.errors.upload[0].message
        assert device.store.conflicts() == []
        assert device.sync(sync_type=UP).stats.uploaded == 0, "it is parked"
        other.sync()
        assert other.keys() == ["k00000", "k00001", "k00002"]
        assert other.field("k00000", "name") == "n0"
    with device_at(tmp_path / "w.db", at, "space", token=both) as device:
        device.store.retry()
        device.sync(conflict_policy="client_wins")
        assert [(each.key, each.remote and each.remote["name"]) for each in device.store.conflicts()] == [
            ("k00000", "n0")
        ]


def test_a_device_that_takes_less_than_the_hub_answers_goes_on_with_smaller_batches(
    address: tuple[str, Hub], tmp_path: Path
) -> None:
    """The answer may be as long as it likes: its repeat brings no record, so that no doubt stays."""
    at, hub = address
    both = token(hub, *Right)
    with device_at(tmp_path / "all.db", at, "space", token=both) as other:
        keys = other.add(10)
        for key in keys:
            other.edit(key, name="x" * 3000)
        other.sync()
    with device_at(tmp_path / "little.db", at, "space", token=both, max_answer=8000) as device:
        device.add(10)
        with pytest.raises(BadAnswer, match="smaller batches"):
            device.sync(sync_type=UP, conflict_policy="client_wins")
        result = device.sync(sync_type=UP, conflict_policy="client_wins", upload_batch_size=2)
        assert result.phase is Phase.DONE
        assert len(result.conflicts) == 10
        assert not device.store.has_pending()
