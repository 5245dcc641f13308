"""What the hub refuses stops nothing else: other changes go up, the download runs, and the session says so.

Source: section 2 of the design's second part.
"""

from __future__ import annotations

import pytest
from rig.device import Device
from rig.gate import Gate, Reply, lose_answer

from statesync import AllRejected, InDoubt, Phase, SyncFailed

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
