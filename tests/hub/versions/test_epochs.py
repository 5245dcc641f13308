"""What a device says about versions moves a space by no more than the hub knows how to count from.

The head is moved by the hub's own counting; a claim that a restored backup explains begins an epoch, for a
device that may write, and not more often than the limit says. Whatever else is claimed moves nothing, stops
nobody, and locks nobody out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from statesync.hub import Hub, HubLimits, Refused, Right, Rights
from statesync.wire import MAX_VERSION

from ..devices import upsert

READER = Rights({"*": frozenset({Right.READ})})
WRITER = Rights({"*": frozenset(Right)})
LEAP = 1 << 32
OLD_FALSE_HEAD = (1 << 62) + (1 << 32)
"""Where a space stands for which an older hub believed a cursor of 2**62."""


@define(eq=False)
class Peer:
    """A device as the hub sees it. It believes what it is told and counts its batches."""

    hub: Hub
    client: str
    rights: Rights = WRITER
    number: int = 0
    known: dict[str, Any] = field(factory=lambda: {"hub": None, "epoch": None})
    cursor: int = 0
    head: int = 0

    def push(self, *changes: dict[str, Any], **claims: Any) -> dict[str, Any]:
        batch = f"{self.client} {self.number + 1} {len(changes)}"
        said = {"client": self.client, "number": self.number + 1, "batch": batch, "head": self.head}
        answer = self._ask(self.hub.push, said | {"changes": list(changes)} | claims)
        self.number += 1
        return answer

    def pull(self, **claims: Any) -> dict[str, Any]:
        feeds = {"Airport": {"cursor": claims.pop("cursor", self.cursor)}}
        said = {"client": self.client, "number": self.number, "head": self.head, "objects": feeds, "limit": 0}
        answer = self._ask(self.hub.pull, said | claims)
        self.cursor = answer["cursors"]["Airport"]
        return answer

    def _ask(self, work: Callable[[str, bytes, Rights], bytes], said: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(work("acme", json.dumps(self.known | said).encode(), self.rights))
        self.known = {"hub": answer["hub"], "epoch": answer["epoch"]}
        self.head = max(self.head, answer["head"])
        return answer

    def refused(self, work: Callable[[], object]) -> Refused:
        with pytest.raises(Refused) as caught:
            work()
        return caught.value

    def follow(self, refusal: Refused) -> None:
        """Do what ``epoch_changed`` asks for."""
        problem = refusal.problem
        assert (refusal.status, problem.code) == (409, "epoch_changed")
        self.known["epoch"], self.number = problem.epoch, problem.number or 0
        self.head = self.cursor = 0


def head_of(hub: Hub) -> int:
    with hub.database.reading():
        return int(hub.database.run("SELECT head FROM space WHERE space = ?", "acme").fetchone()[0])


def set_space(hub: Hub, **columns: int) -> None:
    """Make the space what it is said to be, as a restored backup or an older hub has left it."""
    with hub.database.writing():
        for name, value in columns.items():
            hub.database.run(f"UPDATE space SET {name} = ? WHERE space = ?", value, "acme")


@pytest.fixture
def ann(hub: Hub) -> Peer:
    """A device that is in step with a space of three versions."""
    ann = Peer(hub, "ann")
    ann.push(upsert("a", {"n": 1}), upsert("b", {"n": 1}), upsert("c", {"n": 1}))
    ann.pull()
    return ann


CLAIMS: list[dict[str, int]] = [
    {"cursor": 4}, {"head": 4}, {"number": 1}, {"cursor": 3 + 32 * LEAP}, {"cursor": 1 << 62},
    {"head": 1 << 62}, {"cursor": MAX_VERSION}, {"number": 1 << 62}, {"number": 10**30},
]  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_a_reader_moves_no_head_and_begins_no_epoch_and_stops_nobody(
    hub: Hub, ann: Peer, claim: dict[str, int]
) -> None:
    reader = Peer(hub, "reader", READER)
    reader.pull()
    before = ann.known["epoch"]
    for _ in range(3):
        refusal = reader.refused(lambda: reader.pull(**claim))
        assert (refusal.problem.code, refusal.problem.epoch) == ("epoch_changed", before)
        assert (refusal.problem.highest, refusal.problem.number) == (3, 0)
    assert head_of(hub) == 3
    ann.push(upsert("a", {"n": 2}))
    assert ann.pull()["head"] == 4
    reader.follow(refusal)
    assert [entry["key"] for entry in reader.pull()["changes"]] == ["b", "c", "a"]


@pytest.mark.parametrize(
    "claim", [{"head": 4 + 32 * LEAP}, {"head": 1 << 62}, {"head": MAX_VERSION}, {"number": 1 << 40}], ids=str
)
def test_no_claim_that_no_backup_explains_moves_anything(hub: Hub, ann: Peer, claim: dict[str, int]) -> None:
    liar = Peer(hub, "liar")
    liar.pull()
    before = ann.known["epoch"]
    for ask in (liar.pull, liar.push):
        refusal = liar.refused(lambda ask=ask: ask(**claim))  # type: ignore[misc]
        assert (refusal.problem.code, refusal.problem.epoch, refusal.problem.highest) == (
            "epoch_changed", before, 3,
        )  # fmt: skip
    assert head_of(hub) == 3
    ann.push(upsert("a", {"n": 2}))
    liar.follow(refusal)
    assert liar.pull()["head"] == 4
    assert liar.push(upsert("d", {}))["results"] == [{"status": "accepted", "version": 5}]


@pytest.mark.parametrize("version", [-1, MAX_VERSION + 1, 10**30])
def test_a_version_that_no_column_holds_is_malformed(hub: Hub, ann: Peer, version: int) -> None:
    for ask in (
        lambda: ann.pull(cursor=version),
        lambda: ann.pull(head=version),
        lambda: ann.push(head=version),
    ):
        assert ann.refused(ask).problem.code == "malformed"
    ann.pull()


def test_the_furthest_claim_that_a_backup_explains_begins_one_epoch_and_is_told_in_the_log(
    hub: Hub, ann: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    claim = 3 + 32 * LEAP
    before = ann.known["epoch"]
    refusal = ann.refused(lambda: ann.pull(head=claim))
    assert refusal.problem.epoch != before
    assert refusal.problem.highest is None
    assert LEAP <= head_of(hub) - claim < 2 * LEAP
    again = ann.refused(lambda: ann.pull(head=claim))
    (said,) = caplog.messages
    assert f"acme begins a new epoch: a device had seen version {claim}" in said
    assert again.problem.epoch == refusal.problem.epoch, "one restored backup, one new epoch"
    ann.follow(again)
    assert ann.pull()["head"] == head_of(hub)


def test_epochs_begin_no_more_often_than_the_limit_says(hub: Hub, ann: Peer) -> None:
    ann.follow(ann.refused(lambda: ann.push(head=4)))
    ann.pull()
    begun = ann.known["epoch"]
    hostile = Peer(hub, "hostile")
    hostile.pull()
    for ask in (hostile.pull, hostile.push):
        for claim in ({"head": hostile.head + 1}, {"number": 2}):
            refusal = hostile.refused(lambda ask=ask, claim=claim: ask(**claim))  # type: ignore[misc]
            assert (refusal.status, refusal.problem.code) == (409, "epoch_awaited")
            assert 590 < (refusal.retry_after or 0) <= 600
            assert "statesync hub epoch" in refusal.problem.message
    assert ann.pull()["epoch"] == begun
    ann.push(upsert("a", {"n": 2}))
    set_space(hub, begun=1)  # long ago
    hostile.follow(hostile.refused(lambda: hostile.push(number=2)))
    ann.follow(ann.refused(ann.pull))


def test_the_pause_between_epochs_is_a_limit(hub: Hub, ann: Peer) -> None:
    hub.limits = HubLimits(epoch_pause=0)
    for _ in range(3):
        ann.follow(ann.refused(lambda: ann.push(head=ann.head + 1)))
        ann.pull()


def test_a_clock_that_was_set_back_holds_up_no_epoch(hub: Hub, ann: Peer) -> None:
    set_space(hub, begun=1 << 40)
    ann.follow(ann.refused(lambda: ann.push(head=4)))


def test_a_space_that_an_older_hub_moved_far_up_goes_on(hub: Hub, ann: Peer) -> None:
    set_space(hub, head=OLD_FALSE_HEAD)
    assert ann.pull()["cursors"] == {"Airport": OLD_FALSE_HEAD}
    (verdict,) = ann.push(upsert("a", {"n": 2}, base=ann.cursor))["results"]
    assert verdict == {"status": "accepted", "version": OLD_FALSE_HEAD + 1}
    reader = Peer(hub, "reader", READER)
    assert [entry["version"] for entry in reader.pull()["changes"]] == [2, 3, OLD_FALSE_HEAD + 1]
    assert reader.pull()["changes"] == []
    set_space(hub, head=3)  # whoever runs it has restored the backup from before
    reader.follow(reader.refused(reader.pull))
    ann.follow(ann.refused(ann.pull))
    assert ann.pull()["head"] == reader.pull()["head"] == 3


def test_a_space_at_the_end_of_its_versions_says_what_to_do_and_is_read_as_ever(hub: Hub, ann: Peer) -> None:
    set_space(hub, head=MAX_VERSION - 1)
    (verdict,) = ann.push(upsert("a", {"n": 2}, base=3))["results"]
    assert verdict == {"status": "accepted", "version": MAX_VERSION}
    refusal = ann.refused(lambda: ann.push(upsert("b", {"n": 2}, base=3)))
    assert (refusal.status, refusal.problem.code) == (409, "versions_used_up")
    assert "make a new space" in refusal.problem.message
    reader = Peer(hub, "reader")
    assert reader.pull()["cursors"] == {"Airport": MAX_VERSION}
    assert reader.pull()["changes"] == []
    set_space(hub, head=MAX_VERSION - 2 * LEAP)  # restored, and no other epoch fits
    reader.follow(reader.refused(reader.pull))
    assert reader.pull()["head"] == MAX_VERSION - 2 * LEAP
    with pytest.raises(Refused, match="versions_used_up"):
        hub.begin_epoch("acme")


def test_a_base_above_the_head_overwrites_nothing_unseen(hub: Hub, ann: Peer) -> None:
    bob = Peer(hub, "bob")
    bob.pull()
    changes = [upsert(key, {"n": 9}, base=1 << 62) for key in "ab"]
    ann.push({"object": "Airport", "key": "b", "op": "delete", "base": 3})
    verdicts = bob.push(*changes)["results"]
    assert [verdict["status"] for verdict in verdicts] == ["conflict", "conflict"]
    assert verdicts[1]["deleted"]
    hub.purge("acme", 4)
    (verdict,) = bob.push(upsert("b", {"n": 9}, base=1 << 62))["results"]
    assert (verdict["status"], verdict["deleted"]) == ("conflict", True), "nor a delete that is forgotten"


def test_a_device_of_a_later_epoch_shows_that_the_hub_was_restored_to_an_earlier_one(
    hub: Hub, ann: Peer
) -> None:
    """Were it let into the epoch that the backup has, versions would be given out twice."""
    backup = dict(ann.known)
    ann.follow(ann.refused(lambda: ann.push(head=4)))
    ann.pull()
    later = ann.head
    with hub.database.writing():
        sql = "UPDATE space SET epoch = ?, head = 3, begun = 0 WHERE space = ?"
        hub.database.run(sql, backup["epoch"], "acme")
    refusal = ann.refused(ann.pull)
    assert refusal.problem.epoch not in (backup["epoch"], ann.known["epoch"])
    assert head_of(hub) >= later + LEAP


def test_two_epochs_that_begin_after_one_backup_was_restored_twice_give_out_other_versions(
    hub: Hub, ann: Peer
) -> None:
    heads = set()
    for _ in range(3):
        set_space(hub, head=3)
        hub.begin_epoch("acme")
        heads.add(head_of(hub))
    assert len(heads) == 3


def test_an_epoch_that_a_device_is_told_of_is_there_when_it_comes_back(hub: Hub) -> None:
    """Also where its space is made by the very request that is refused."""
    lost = Peer(hub, "lost", READER, number=7, known={"hub": None, "epoch": "of another hub"})
    lost.follow(lost.refused(lost.pull))
    assert lost.pull()["epoch"] == lost.known["epoch"]


def test_a_reader_that_is_ahead_holds_up_no_writer(hub: Hub, ann: Peer) -> None:
    reader = Peer(hub, "reader", READER)
    reader.pull()
    told: list[str] = []

    def ask() -> None:
        told.append(reader.refused(lambda: reader.pull(head=9)).problem.code)

    with hub.database.writing():
        hub.database.run("UPDATE space SET head = head WHERE space = ?", "acme")  # somebody writes
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(5)
        assert told == ["epoch_changed"]


def test_whoever_runs_the_hub_begins_an_epoch_before_devices_come_back(hub: Hub, ann: Peer) -> None:
    ann.push(upsert("a", {"n": 2}))
    set_space(hub, head=3)
    hub.begin_epoch("acme")
    hub.begin_epoch("acme")  # no limit holds up whoever runs it
    bob = Peer(hub, "bob")
    assert bob.push(upsert("z", {}))["results"][0]["version"] > 2 * LEAP
    ann.follow(ann.refused(ann.pull))
    with pytest.raises(Refused, match="nothing_here"):
        hub.begin_epoch("other")
