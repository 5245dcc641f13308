"""A device that was told what no hub can have given out finds its way back to the honest one.

A hub that lies is believed as far as its answers can be; what cannot be is refused in words, and nothing of
it is stored. Whatever false memory is left, the honest hub takes its requests: the device forgets what it
has seen, reads again, offers nothing over what others wrote, and brings nothing back that was deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import define
from rig.device import Device, device_on

from statesync import Phase, Remote, RemoteError, SyncOptions, SyncType
from statesync.hub import Hub, LocalRemote, Refused, Right, Rights, prepare
from statesync.net.remote import refusal
from statesync.wire import MAX_NUMBER, MAX_VERSION, Entry, Page, Problem, Pull, Push, PushAnswer, Refusal

READER = Rights({"*": frozenset({Right.READ})})
FAR = (1 << 62) + 1


@define(eq=False)
class Liar:
    """A hub that does what it is asked, and changes what it answers."""

    remote: Remote
    of_page: Callable[[Page], Page] = lambda page: page
    of_answer: Callable[[PushAnswer], PushAnswer] = lambda answer: answer

    @property
    def space(self) -> str:
        return self.remote.space

    def push(self, request: Push) -> PushAnswer:
        return self.of_answer(self.remote.push(request))

    def pull(self, request: Pull) -> Page:
        return self.of_page(self.remote.pull(request))

    def interrupt(self) -> None:
        self.remote.interrupt()

    def close(self) -> None:
        self.remote.close()


@define(eq=False)
class BeforeThat(Liar):
    """The honest hub, as a device sees it that does not know of ``highest``."""

    def push(self, request: Push) -> PushAnswer:
        answer: PushAnswer = self._told(self.remote.push, request)
        return answer

    def pull(self, request: Pull) -> Page:
        page: Page = self._told(self.remote.pull, request)
        return page

    def _told(self, ask: Callable[[Any], Any], request: Push | Pull) -> Any:
        try:
            return ask(request)
        except RemoteError as error:
            problem = error.problem or Problem("none", "a refusal has a problem")
            raise refusal(409, msgspec.structs.replace(problem, highest=None)) from error


@define(eq=False)
class ReadOnly:
    """The honest hub, for who has a token that may only read."""

    hub: Hub
    space: str = "space"

    def push(self, request: Push) -> PushAnswer:
        raise AssertionError("it sends nothing")

    def pull(self, request: Pull) -> Page:
        try:
            answer = self.hub.pull(self.space, msgspec.json.encode(request), READER)
        except Refused as error:
            raise refusal(error.status, error.problem, error.retry_after) from error
        return msgspec.json.decode(answer, type=Page)

    def interrupt(self) -> None:
        """A call into the hub ends by itself."""

    def close(self) -> None:
        """There is nothing to close."""


def far(page: Page) -> Page:
    """Return a page with a head and cursors that no honest hub has."""
    return msgspec.structs.replace(page, head=FAR, cursors=dict.fromkeys(page.cursors, FAR))


def raised(entry: Entry) -> Entry:
    """Return an entry in a version that no honest hub has."""
    return msgspec.structs.replace(entry, version=FAR)


@define(eq=False)
class World:
    """An honest hub, and two devices that are in step with it."""

    folder: Path
    stack: ExitStack
    hub: Hub
    a: Device
    b: Device

    def other(self) -> Device:
        """Return a device that comes to the hub as it is now."""
        device = self.stack.enter_context(device_on(self.folder / "other.db", self.a.remote))
        device.sync()
        return device

    def only_reads(self, device: Device) -> Phase:
        """Let a device sync with a token that may only read."""
        options = SyncOptions(sync_type=SyncType.DOWNLOAD_ONLY)
        return device.store.scope(ReadOnly(self.hub)).sync(options).phase

    def back_up(self) -> None:
        self._copy("hub.db", "backup.db")

    def restore(self) -> None:
        self._copy("backup.db", "hub.db")

    def _copy(self, source: str, target: str) -> None:
        with (
            closing(sqlite3.connect(self.folder / source)) as old,
            closing(sqlite3.connect(self.folder / target)) as new,
        ):
            old.backup(new)

    def lie(self, **lies: Any) -> None:
        """Let device a sync with a liar in the honest hub's place."""
        self.a.store.scope(Liar(self.a.remote, **lies)).sync()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True)
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(device_on(tmp_path / f"{name}.db", LocalRemote(hub, "space")))
            for name in "ab"
        )
        a.add(4)
        a.sync()
        b.sync()
        yield World(tmp_path, stack, hub, a, b)
    hub.close()


def conflicts(device: Device) -> dict[str, tuple[Any, Any]]:
    """Return what the conflict log has: ours and what was kept, by the key."""
    return {
        each.key: (each.local and each.local["name"], each.kept and each.kept["name"])
        for each in device.store.conflicts()
    }


def test_a_device_with_a_false_head_and_false_cursors_syncs_with_the_honest_hub_again(world: World) -> None:
    world.lie(of_page=far)
    world.b.edit("k00000", name="of b")
    world.b.sync()
    before = epoch(world.hub)
    world.a.edit("k00001", name="of a")
    assert world.a.sync().phase is Phase.DONE
    assert world.b.sync().phase is Phase.DONE
    assert world.a.rows() == world.b.rows()
    assert world.a.field("k00000", "name") == "of b"
    assert world.b.field("k00001", "name") == "of a"
    assert epoch(world.hub) == before, "no lie makes others read again"


def test_nothing_is_offered_over_what_others_wrote_and_what_is_replaced_is_in_the_conflict_log(
    world: World,
) -> None:
    world.lie(of_page=far)
    world.b.edit("k00000", name="of b")
    world.b.sync()
    world.a.sync()
    assert world.a.operations() == {}
    assert conflicts(world.a) == {"k00000": ("n0", "of b")}
    world.b.sync()
    assert world.b.field("k00000", "name") == "of b"


def test_what_was_deleted_meanwhile_does_not_come_back_silently(world: World) -> None:
    world.lie(of_page=far)
    world.b.delete("k00000")
    world.b.delete("k00001")
    world.b.sync()
    assert world.hub.purge("space", 5) == 1  # one of the deletes is forgotten
    for device in (world.a, world.a, world.b):
        device.sync(conflict_policy="server_wins")
    assert world.a.keys() == world.b.keys() == ["k00002", "k00003"]
    assert set(conflicts(world.a)) == {"k00000", "k00001"}


def test_an_edit_that_was_made_with_a_false_memory_is_a_conflict_where_others_wrote(world: World) -> None:
    world.lie(of_page=far)
    world.a.edit("k00000", name="of a")
    world.a.delete("k00001")
    world.b.edit("k00000", name="of b")
    world.b.edit("k00001", name="of b, too")
    world.b.sync()
    world.a.sync(conflict_policy="server_wins")
    assert world.a.rows() == {**world.b.rows(), **world.a.rows()}
    assert conflicts(world.a) == {"k00000": ("of a", "of b"), "k00001": (None, "of b, too")}


def test_what_was_offered_again_with_a_false_base_has_an_unknown_one(world: World) -> None:
    """The next epoch leaps over the false base: then it would pass for a true one."""
    world.a.airport.create(id="offered", name="once more")
    world.a.store.pending()
    world.a.sync(sync_type=SyncType.DOWNLOAD_ONLY)  # which folds
    assert world.a.execute("UPDATE statesync_change SET base = 9, since = 9, shared = 1").rowcount == 1
    world.a.execute("UPDATE statesync_space SET head = ?", FAR)
    world.a.sync(sync_type=SyncType.DOWNLOAD_ONLY)
    assert world.a.execute("SELECT base, since FROM statesync_change").fetchall() == [(1, 1)], (
        "it may be there"
    )


def test_what_is_local_only_ends_with_news_of_the_hub_whatever_was_believed(world: World) -> None:
    world.lie(of_page=far)
    with world.a.store.untracked():
        world.a.edit("k00000", name="local only")
    world.a.sync()
    assert world.a.field("k00000", "name") == "local only"
    world.b.edit("k00000", name="of b")
    world.b.sync()
    world.a.sync()
    assert world.a.field("k00000", "name") == "of b"


def test_the_old_row_of_what_waits_in_quarantine_is_no_news(world: World) -> None:
    world.a.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON airport WHEN NEW.name = 'unfit' "
        "BEGIN SELECT raise(ABORT, 'unfit'); END"
    )
    world.b.edit("k00000", name="unfit")
    world.b.sync()
    world.a.sync()
    world.lie(of_page=far)
    world.a.sync()
    assert world.a.field("k00000", "name") == "n0"
    assert conflicts(world.a) == {}


def test_a_number_that_no_hub_has_given_out_locks_no_device_out(world: World) -> None:
    world.a.execute("UPDATE statesync_space SET number = ?", MAX_VERSION)  # as an older version believed it
    world.a.edit("k00000", name="of a")
    assert world.a.sync().phase is Phase.DONE
    world.b.sync()
    assert world.b.field("k00000", "name") == "of a"
    world.a.execute("UPDATE statesync_space SET number = ?", MAX_NUMBER)
    assert world.a.sync().phase is Phase.DONE


@pytest.mark.parametrize(
    "said",
    [
        '"number":9223372036854775807',
        '"number":-1',
        '"highest":9223372036854775808',
        f'"number":{MAX_NUMBER + 1}',
    ],
)
def test_a_refusal_over_the_bounds_is_no_refusal_of_a_hub(said: str) -> None:
    text = f'{{"error":{{"code":"epoch_changed","message":"no","epoch":"e",{said}}}}}'
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text.encode(), type=Refusal)


@pytest.mark.parametrize(
    "lie",
    [
        {"of_page": lambda page: msgspec.structs.replace(page, cursors=dict.fromkeys(page.cursors, FAR))},
        {"of_page": lambda page: msgspec.structs.replace(page, head=0)},
        {
            "of_page": lambda page: msgspec.structs.replace(
                page, changes=[raised(each) for each in page.changes]
            )
        },
    ],
    ids=["a cursor above its head", "a head below its cursor", "a record above its head"],
)
def test_a_page_whose_versions_are_above_its_head_is_refused_and_nothing_is_stored(
    world: World, lie: dict[str, Any]
) -> None:
    world.b.edit("k00000", name="of b")
    world.b.sync()
    before = stands(world.a)
    with pytest.raises(RemoteError, match="above its own head"):
        world.lie(**lie)
    assert stands(world.a) == before
    world.a.sync()
    assert world.a.field("k00000", "name") == "of b"


def test_an_answer_whose_versions_are_above_its_head_is_refused_and_settled_by_the_honest_hub(
    world: World,
) -> None:
    world.a.edit("k00000", name="of a")
    with pytest.raises(RemoteError, match="above its own head"):
        world.lie(of_answer=lambda answer: msgspec.structs.replace(answer, head=1))
    assert world.a.operations() == {"k00000": "update"}
    world.a.sync()
    assert world.a.operations() == {}


def test_a_device_that_may_only_read_goes_on_after_the_hub_was_restored(world: World) -> None:
    """It has seen more than there is, and no writer has come yet: it reads again, and loses nothing."""
    world.back_up()
    world.b.edit("k00000", name="lost by the hub")
    world.b.airport.create(id="new", name="lost by the hub, too")
    world.b.sync()
    world.a.sync()
    world.restore()
    before = epoch(world.hub)
    for _ in range(2):
        assert world.only_reads(world.a) is Phase.DONE
    assert epoch(world.hub) == before
    assert conflicts(world.a) == {"k00000": ("lost by the hub", "n0")}
    assert "new" in world.a.rows()
    other = world.other()  # it is not ahead, and goes on where the backup ends
    other.edit("k00001", name="after the backup")
    other.sync()
    assert world.only_reads(world.a) is Phase.DONE
    seen = world.a.field("k00001", "name")
    assert seen == "after the backup", (
        "its version was given out before the backup was restored, and passed over"
    )
    world.b.sync()  # the writer comes back, and the epoch begins
    assert epoch(world.hub) != before
    world.b.sync()
    other.sync()
    assert world.only_reads(world.a) is Phase.DONE
    assert world.a.rows() == world.b.rows() == other.rows()
    assert world.a.field("k00000", "name") == "lost by the hub"


def test_an_edit_of_the_very_first_record_is_offered_to_a_restored_hub(tmp_path: Path) -> None:
    """The device had read up to version 1, which is all that the backup knows."""
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    with closing(Hub(url, without_tokens=True)) as hub, ExitStack() as stack:
        a = stack.enter_context(device_on(tmp_path / "a.db", LocalRemote(hub, "space")))
        a.add(1)
        a.sync()
        world = World(tmp_path, stack, hub, a, a)
        world.back_up()
        a.edit("k00000", name="of a")
        a.sync(sync_type=SyncType.UPLOAD_ONLY)
        world.restore()
        a.sync()  # it reads again, and offers what the hub lacks
        a.sync()
        assert conflicts(a) == {}
        assert world.other().field("k00000", "name") == a.field("k00000", "name") == "of a"


def test_that_nobody_knows_how_far_was_read_is_no_version_where_a_read_begins_once_more(
    world: World,
) -> None:
    """The hub's epoch changes while the device reads again because of what it had been told."""
    world.lie(of_page=far)
    world.a.execute("UPDATE statesync_cursor SET cursor = 0, rereading = 'epoch', reread_from = -1")
    world.hub.begin_epoch("space")
    world.b.edit("k00000", name="of b")
    world.b.sync()
    world.a.sync()
    assert world.a.operations() == {}
    assert conflicts(world.a) == {"k00000": ("n0", "of b")}


def test_a_writer_that_is_ahead_too_soon_after_an_epoch_is_told_what_to_do_and_loses_nothing(
    world: World,
) -> None:
    world.a.execute("UPDATE statesync_space SET head = head + 1")
    world.a.sync()
    world.a.edit("k00000", name="of a")
    world.a.execute("UPDATE statesync_space SET head = head + 1")
    with pytest.raises(RemoteError, match=r"sync again in .* seconds.*statesync hub epoch") as caught:
        world.a.sync()
    assert not caught.value.retryable, "a session does not wait an hour"
    assert world.a.operations() == {"k00000": "update"}
    world.b.sync()
    world.hub.begin_epoch("space")
    assert world.a.sync().phase is Phase.DONE
    world.b.sync()
    assert world.b.field("k00000", "name") == "of a"


def test_a_device_of_the_version_before_goes_on_too(world: World) -> None:
    """It does not know of ``highest``: it reads again as after a restored backup."""
    world.lie(of_page=far)
    world.a.edit("k00001", name="of a")
    world.b.airport.create(id="new", name="of b")
    world.b.sync()
    for _ in range(2):
        assert world.a.store.scope(BeforeThat(world.a.remote)).sync().phase is Phase.DONE
    world.b.sync()
    assert world.a.rows() == world.b.rows()
    assert world.b.field("k00001", "name") == "of a"


def epoch(hub: Hub) -> str:
    with hub.database.reading():
        return str(hub.database.run("SELECT epoch FROM space WHERE space = ?", "space").fetchone()[0])


def stands(device: Device) -> list[Any]:
    space = device.execute("SELECT number, epoch, head FROM statesync_space").fetchall()
    return [*space, *device.execute("SELECT object, cursor, rereading FROM statesync_cursor").fetchall()]
