"""What each kind of token is told of a record that somebody else has written, by every request there is.

The rights of a request are what its token had when it came in: they are looked at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from statesync.hub import Hub, HubLimits, Right, create_token, revoke_token, serving

from ..devices import Device, Service, delete, upsert

pytestmark = pytest.mark.any_database

NONE, READ, WRITE = frozenset[Right](), frozenset({Right.READ}), frozenset({Right.WRITE})
BOTH = READ | WRITE
SECRET = "the secret of another till"
MOST = 2000


@pytest.fixture(scope="module")
def guarded(lasting_database: Callable[[], str]) -> Iterator[Service]:
    url = lasting_database()
    hub = Hub(url, limits=HubLimits(record=MOST))
    with serving(hub) as address, Service(address, hub, url) as running:
        yield running
    hub.close()


@pytest.fixture
def owner(guarded: Service, space: str) -> Device:
    """A device that may do everything, and has written two records, and deleted one of two others."""
    device = guarded.device(space)
    device.token = create_token(guarded.hub.database, space, {"*": BOTH})
    device.push(upsert("a", {"text": SECRET}), upsert("gone", {"text": SECRET}))
    device.push(delete("gone"), upsert("a", {"text": SECRET}, name="Other"))
    return device


def holder(guarded: Service, owner: Device, rights: frozenset[Right], **more: frozenset[Right]) -> Device:
    """Return a device that has these rights of the object Airport, and ``more`` of others."""
    device = guarded.device(owner.space)
    device.token = create_token(guarded.hub.database, owner.space, {"Airport": rights} | more)
    return device


def survey_of(device: Device, name: str) -> dict[str, Any]:
    asked = {"client": "me", "hub": None, "epoch": None, "object": name}
    return asked | {"columns": ["text"], "bounds": [""], "listed": True}


def code_of(answer: tuple[int, dict[str, Any]]) -> str:
    """Return the one verdict of an answer, or the code of its refusal."""
    status, document = answer
    if status != 200:
        return f"{status} {document['error']['code']}"
    (verdict,) = document["results"]
    return str(verdict.get("code", verdict["status"]))


PUSHED = {
    "a record of somebody else, unseen": upsert("a", {"text": "mine"}),
    "its delete, unseen": delete("a"),
    "a delete of somebody else, unseen": upsert("gone", {"text": "mine"}, base=1),
    "a record that is seen": upsert("a", {"text": "mine"}, base=4),
    "a record of nobody": upsert("new", {"text": "mine"}),
    "a field that makes it too large": upsert("a", {"more": "x" * (MOST - 20)}, base=4),
}

WRITER_IS_TOLD = {
    "a record of somebody else, unseen": "conflict_unreadable",
    "its delete, unseen": "conflict_unreadable",
    "a delete of somebody else, unseen": "conflict_unreadable",
    "a record that is seen": "accepted",
    "a record of nobody": "accepted",
    "a field that makes it too large": "record_too_large",
}
OWNER_IS_TOLD = WRITER_IS_TOLD | {
    "a record of somebody else, unseen": "conflict",
    "its delete, unseen": "conflict",
    "a delete of somebody else, unseen": "conflict",
}


@pytest.mark.crossed
@pytest.mark.parametrize("pushed", PUSHED)
@pytest.mark.parametrize(
    ("rights", "told"),
    [
        (NONE, dict.fromkeys(PUSHED, "403 forbidden")),
        (READ, dict.fromkeys(PUSHED, "403 forbidden")),
        (WRITE, WRITER_IS_TOLD),
        (BOTH, OWNER_IS_TOLD),
    ],
    ids=["none", "read", "write", "both"],
)
def test_what_a_push_tells(
    guarded: Service, owner: Device, rights: frozenset[Right], told: dict[str, str], pushed: str
) -> None:
    device = holder(guarded, owner, rights)
    answer = device.send("push", device.push_document(PUSHED[pushed]))
    assert code_of(answer) == told[pushed]
    shown = SECRET in json.dumps(answer)
    assert shown == (rights == BOTH and pushed in ("a record of somebody else, unseen", "its delete, unseen"))


@pytest.mark.parametrize("rights", [NONE, READ, WRITE, BOTH], ids=["none", "read", "write", "both"])
def test_pulls_and_surveys_are_for_who_may_read(
    guarded: Service, owner: Device, rights: frozenset[Right]
) -> None:
    device = holder(guarded, owner, rights)
    page = device.send("pull", device.pull_document({"Airport": {"cursor": 0}}))
    listing = device.send("survey", survey_of(device, "Airport"))
    may = Right.READ in rights
    assert (page[0], listing[0]) == ((200, 200) if may else (403, 403))
    assert (SECRET in json.dumps(page)) is may
    assert ("records" in listing[1]) is may
    other = device.send("pull", device.pull_document({"Airport": {"cursor": 0}, "Other": {"cursor": 0}}))
    assert other[0] == 403
    assert device.send("survey", survey_of(device, "Other"))[0] == 403


@pytest.mark.crossed
@pytest.mark.parametrize("offers_again", [True, False])
@pytest.mark.parametrize(
    ("rights", "others", "told"),
    [
        (NONE, WRITE, "403 forbidden"),
        (BOTH, NONE, "403 forbidden"),
        (READ, NONE, "403 forbidden"),
        (NONE, READ, "403 forbidden"),
        (READ, READ, "200"),
        (READ, WRITE, "200"),
        (WRITE, READ, "200"),
        (WRITE, WRITE, "200"),
        (BOTH, BOTH, "200"),
    ],
)
@pytest.mark.parametrize(
    "claimed",
    [
        [],
        [upsert("b", {})],
        [upsert("b", {}), upsert("c", {})],
        [upsert("a", {}), upsert("a", {}, name="Other")],
    ],
)
def test_a_receipt_is_for_who_may_write_or_read_all_that_its_batch_was_about(
    guarded: Service,
    owner: Device,
    rights: frozenset[Right],
    others: frozenset[Right],
    told: str,
    claimed: list[dict[str, Any]],
    offers_again: bool,
) -> None:
    """It is so whatever the repeat says that the batch was about, and no repeat brings a record."""
    sender = holder(guarded, owner, BOTH, Other=BOTH)
    batch = sender.push_document(upsert("a", {"text": "x"}), upsert("a", {"text": "x"}, name="Other"))
    assert [each["data"] for each in sender.send("push", batch)[1]["results"]] == [{"text": SECRET}] * 2
    thief = holder(guarded, owner, rights, Other=others)
    status, answer = thief.send("push", batch | {"changes": claimed, "offers_again": offers_again})
    if told == "200" and len(claimed) != 2:  # who might hear the receipt hears that this is no repeat
        told = "400 malformed"
    assert (f"{status} {answer['error']['code']}" if status != 200 else "200") == told
    assert SECRET not in json.dumps(answer)
    if status == 200:
        assert {each["status"] for each in answer["results"]} == {"conflict" if offers_again else "rejected"}


@pytest.mark.parametrize("size", [1, 100_000], ids=["short", "long"])
def test_who_may_not_write_any_more_hears_what_became_of_its_last_batch_and_writes_nothing(
    guarded: Service, owner: Device, size: int
) -> None:
    """Short or long: the rights are looked at once more when a long body has come."""
    device = holder(guarded, owner, BOTH)
    batch = device.push_document(upsert("mine", {"text": "x"}), upsert("a", {"text": "x"}))
    padded = json.dumps(batch).encode() + b" " * size
    status, first = device.send("push", padded)
    device.token = create_token(guarded.hub.database, owner.space, {"*": READ})
    told = device.send("push", padded)
    assert (status, told[0]) == (200, 200)
    assert [each["status"] for each in told[1]["results"]] == ["accepted", "rejected"]
    assert told[1]["results"][0] == first["results"][0]
    assert SECRET not in json.dumps(told)
    nearly: list[dict[str, Any]] = [
        {"number": 2},
        {"batch": "another"},
        {"client": owner.client},
        {"epoch": "another"},
    ]
    for change in nearly:
        again = json.dumps(batch | change).encode() + b" " * size
        assert code_of(device.send("push", again)) == "403 forbidden"
    assert owner.push(upsert("b", {}))[0]["version"] == told[1]["head"] + 1  # nothing was written


@pytest.mark.parametrize("rights", [NONE, WRITE], ids=["none", "write"])
def test_who_may_neither_read_nor_write_an_object_hears_no_receipt_of_it(
    guarded: Service, owner: Device, rights: frozenset[Right]
) -> None:
    """Also the token of a device whose own batch it was: it waits until the right is back."""
    device = holder(guarded, owner, BOTH)
    batch = device.push_document(upsert("mine", {"text": "x"}))
    first = device.send("push", batch)
    device.token = create_token(guarded.hub.database, owner.space, {"Other": rights})
    assert code_of(device.send("push", batch)) == "403 forbidden"
    device.token = create_token(guarded.hub.database, owner.space, {"Airport": WRITE})
    assert device.send("push", batch) == first


def test_the_sender_of_a_batch_of_which_it_may_not_write_all_hears_its_receipt(
    guarded: Service, owner: Device
) -> None:
    """What was rejected for want of a right is nobody's: else a device whose answer was lost is stuck."""
    device = holder(guarded, owner, BOTH)
    batch = device.push_document(upsert("mine", {}), upsert("a", {}, name="Other"))
    first = device.send("push", batch)
    assert [each["status"] for each in first[1]["results"]] == ["accepted", "rejected"]
    assert device.send("push", batch) == first


def test_a_receipt_from_before_is_for_who_may_write_what_it_claims(guarded: Service, owner: Device) -> None:
    """It does not say whose it is, and has records: they are not told."""
    sender = holder(guarded, owner, BOTH)
    batch = sender.push_document(upsert("a", {"text": "x"}))
    _, answer = sender.send("push", batch)
    with guarded.hub.database.writing():
        guarded.hub.database.run(
            "UPDATE receipt SET answer = ? WHERE client = ?", json.dumps(answer), sender.client
        )
    repeated = sender.send("push", batch | {"offers_again": True})
    assert repeated[1]["results"] == [{"status": "conflict", "version": 1, "deleted": False}]
    for others in (BOTH, READ):
        thief = holder(guarded, owner, READ, Other=others)
        assert thief.send("push", batch)[0] == 403


@pytest.mark.parametrize(("size", "last"), [(1, "admit"), (100_000, "admit_again")], ids=["short", "long"])
def test_the_rights_of_a_request_that_is_here_are_looked_at_once(
    guarded: Service, owner: Device, monkeypatch: pytest.MonkeyPatch, size: int, last: str
) -> None:
    """A token that ends while its request is served is good for the whole of it, and for no other."""
    device = holder(guarded, owner, BOTH)
    admit, looked = getattr(guarded.hub, last), list[str]()

    def admitted(space: str, token: str | None, *more: Any) -> Any:
        rights = admit(space, token, *more)
        looked.append(space)
        assert revoke_token(guarded.hub.database, space, str(token).split("~")[1])
        return rights

    monkeypatch.setattr(guarded.hub, last, admitted)
    status, answer = device.send("push", device.push_document(upsert("a", {"text": "x" * size})))
    assert (status, len(looked)) == (200, 1)
    assert answer["results"][0].get("data", {"text": SECRET}) == {"text": SECRET}
    monkeypatch.undo()
    assert device.send("push", device.push_document(upsert("a", {})))[0] == 401
