"""Conflicts: the policies as pure functions, and what two devices hold after they disagreed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig.device import Device, device_on
from rig.gate import Gate, Reply, lose_answer
from rig.search import examples

from statesync import Conflict, Phase, SyncOptions, client_wins, merge_fields, server_wins
from statesync.conflicts import Policy, Record
from statesync.hub import Hub, LocalRemote

# -- the policies, as pure functions -----------------------------------------------------------------

cells = st.sampled_from([None, 0, 1, "x"])
records = st.fixed_dictionaries({"a": cells, "b": cells, "c": cells})
sides = st.none() | records


def asked(base: Record | None, local: Record | None, remote: Record | None) -> Conflict:
    return Conflict(object="Airport", key="k", base=base, local=local, remote=remote)


@given(base=sides, local=sides, remote=sides)
def test_server_wins_keeps_the_hubs_record(
    base: Record | None, local: Record | None, remote: Record | None
) -> None:
    assert server_wins(asked(base, local, remote)) == remote


@given(base=sides, local=sides, remote=sides)
def test_client_wins_keeps_the_devices_record(
    base: Record | None, local: Record | None, remote: Record | None
) -> None:
    assert client_wins(asked(base, local, remote)) == local


@given(base=records, local=records, remote=records)
def test_merging_takes_each_field_from_the_side_that_changed_it_and_the_hubs_where_both_did(
    base: Record, local: Record, remote: Record
) -> None:
    merged = merge_fields(asked(base, local, remote))
    assert merged is not None
    for name in "abc":
        only_here = local[name] != base[name] and remote[name] == base[name]
        assert merged[name] == (local[name] if only_here else remote[name])


@given(base=records, local=records)
def test_merging_with_a_hub_that_changed_nothing_keeps_the_device(base: Record, local: Record) -> None:
    assert merge_fields(asked(base, local, dict(base))) == local
    assert merge_fields(asked(base, None, dict(base))) is None


@given(base=records, remote=sides)
def test_merging_with_a_device_that_changed_nothing_keeps_the_hub(
    base: Record, remote: Record | None
) -> None:
    assert merge_fields(asked(base, dict(base), remote)) == remote


@given(base=records, edited=records)
def test_merging_a_delete_with_an_edit_keeps_what_the_hub_has(base: Record, edited: Record) -> None:
    assert merge_fields(asked(base, edited, None)) is None
    if edited != base:
        assert merge_fields(asked(base, None, edited)) == edited


@given(local=records, remote=records)
def test_merging_two_new_records_keeps_the_hubs_fields(local: Record, remote: Record) -> None:
    assert merge_fields(asked(None, local, remote)) == remote


def test_merging_keeps_a_field_that_the_hubs_older_writer_did_not_know() -> None:
    assert merge_fields(asked({"a": 0, "new": 0}, {"a": 0, "new": 5}, {"a": 1})) == {"a": 1, "new": 5}


@given(base=sides, local=sides, remote=sides)
@pytest.mark.parametrize("policy", [merge_fields, server_wins, client_wins])
def test_a_policy_changes_none_of_the_records_that_it_is_given(
    policy: Policy, base: Record | None, local: Record | None, remote: Record | None
) -> None:
    given_sides = [base, local, remote]
    before = [None if side is None else dict(side) for side in given_sides]
    policy(asked(base, local, remote))
    assert given_sides == before


# -- two devices -------------------------------------------------------------------------------------

KEY = "k00000"


@pytest.fixture
def shared(here: Device, there: Device) -> None:
    """One record that both devices have: name n0, elevation 0."""
    there.add(1)
    there.sync()
    here.sync()


def settle(here: Device, there: Device, new_device: Callable[..., Device]) -> dict[str, Any] | None:
    """Sync until all agree; return name and elevation of the record, None if it is gone everywhere."""
    for device in (there, here, there):
        assert device.operations() == {}
        assert device.sync().phase is Phase.DONE
    fresh = new_device("fresh")
    fresh.sync()
    assert here.rows() == there.rows() == fresh.rows()
    if KEY not in fresh.rows():
        return None
    return {"name": fresh.field(KEY, "name"), "elevation": fresh.field(KEY, "elevation")}


def edit_both(here: Device, there: Device) -> None:
    here.edit(KEY, name="here")
    there.edit(KEY, elevation=9)


def edit_same(here: Device, there: Device) -> None:
    here.edit(KEY, name="here")
    there.edit(KEY, name="there")


def delete_here(here: Device, there: Device) -> None:
    here.delete(KEY)
    there.edit(KEY, name="there")


def delete_there(here: Device, there: Device) -> None:
    here.edit(KEY, name="here")
    there.delete(KEY)


def delete_both(here: Device, there: Device) -> None:
    here.delete(KEY)
    there.delete(KEY)


def record(name: str, elevation: int) -> dict[str, Any]:
    return {"name": name, "elevation": elevation}


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    ("disagree", "policy", "kept", "is_conflict"),
    [
        (edit_both, "merge_fields", record("here", 9), True),
        (edit_both, "server_wins", record("n0", 9), True),
        (edit_both, "client_wins", record("here", 0), True),
        (edit_same, "merge_fields", record("there", 0), True),
        (edit_same, "server_wins", record("there", 0), True),
        (edit_same, "client_wins", record("here", 0), True),
        (delete_here, "merge_fields", record("there", 0), True),
        (delete_here, "server_wins", record("there", 0), True),
        (delete_here, "client_wins", None, True),
        (delete_there, "merge_fields", None, True),
        (delete_there, "server_wins", None, True),
        (delete_there, "client_wins", record("here", 0), True),
        (delete_both, "merge_fields", None, False),
        (delete_both, "client_wins", None, False),
    ],
)
def test_after_a_disagreement_all_hold_the_same(
    here: Device,
    there: Device,
    new_device: Callable[..., Device],
    disagree: Callable[[Device, Device], None],
    policy: str,
    kept: dict[str, Any] | None,
    is_conflict: bool,
) -> None:
    """``there`` syncs first, so ``here`` finds the conflict and its policy decides."""
    disagree(here, there)
    there.sync()
    result = here.sync(conflict_policy=policy)
    assert result.phase is Phase.DONE
    assert [conflict.key for conflict in result.conflicts] == ([KEY] if is_conflict else [])
    assert settle(here, there, new_device) == kept


@pytest.mark.parametrize(
    ("policy", "name"), [("merge_fields", "there"), ("server_wins", "there"), ("client_wins", "here")]
)
def test_two_devices_that_make_the_same_key_agree_on_one_record(
    here: Device, there: Device, new_device: Callable[..., Device], policy: str, name: str
) -> None:
    here.airport.create(id=KEY, name="here", elevation=1)
    there.airport.create(id=KEY, name="there", elevation=1)
    there.sync()
    (conflict,) = here.sync(conflict_policy=policy).conflicts
    assert conflict.base is None
    settled = settle(here, there, new_device)
    assert settled is not None
    assert settled["name"] == name


def test_the_same_record_made_twice_is_no_conflict(
    here: Device, there: Device, new_device: Callable[..., Device]
) -> None:
    for device in (here, there):
        device.airport.create(id=KEY, name="same", elevation=1, latitude=0.1)
    there.sync()
    assert here.sync().conflicts == ()
    assert settle(here, there, new_device) == record("same", 1)


@pytest.mark.usefixtures("shared")
def test_the_same_edit_made_twice_is_no_conflict(here: Device, there: Device) -> None:
    asked: list[Record | None] = []
    for device in (here, there):
        device.edit(KEY, name="same", is_open=False)
    there.sync()
    result = here.sync(conflict_policy=lambda conflict: asked.append(conflict.local))
    assert (result.conflicts, asked) == ((), [])
    assert here.operations() == {}


@pytest.mark.usefixtures("shared")
def test_the_conflict_log_keeps_every_side_of_it(here: Device, there: Device) -> None:
    edit_same(here, there)
    there.sync()
    result = here.sync()
    (entry,) = here.store.conflicts()
    assert (entry,) == result.conflicts
    assert (entry.session, entry.object, entry.key) == (result.session, "Airport", KEY)
    rest = {"elevation": 0, "latitude": None, "is_open": 1, "plan": None}
    assert entry.base == {"name": "n0", **rest}
    assert entry.local == {"name": "here", **rest}
    assert entry.remote == {"name": "there", **rest}
    assert entry.kept == {"name": "there", **rest}


@pytest.mark.usefixtures("shared")
def test_the_conflict_log_tells_a_delete_from_an_edit(here: Device, there: Device) -> None:
    delete_here(here, there)
    there.sync()
    here.sync()
    (entry,) = here.store.conflicts()
    assert entry.local is None
    assert entry.remote is not None


# -- a policy of the program's own -------------------------------------------------------------------


@pytest.mark.usefixtures("shared")
def test_a_callable_decides(here: Device, there: Device, new_device: Callable[..., Device]) -> None:
    asked: list[Conflict] = []

    def longest(conflict: Conflict) -> Record:
        asked.append(conflict)
        assert conflict.local is not None
        assert conflict.remote is not None
        return {**conflict.remote, "name": f"{conflict.local['name']}+{conflict.remote['name']}"}

    edit_same(here, there)
    there.sync()
    here.sync(conflict_policy=longest)
    (one,) = asked
    assert (one.object, one.key) == ("Airport", KEY)
    assert [side and side["name"] for side in (one.base, one.local, one.remote)] == ["n0", "here", "there"]
    assert settle(here, there, new_device) == record("here+there", 0)


@pytest.mark.usefixtures("shared")
def test_a_callable_may_delete(here: Device, there: Device, new_device: Callable[..., Device]) -> None:
    edit_same(here, there)
    there.sync()
    here.sync(conflict_policy=lambda conflict: None)
    assert settle(here, there, new_device) is None


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("flaw", ["raises", "unknown column", "no record", "a value SQLite has not"])
def test_a_policy_that_fails_leaves_its_record_pending_with_the_error_and_hurts_no_other(
    here: Device, there: Device, new_device: Callable[..., Device], flaw: str
) -> None:
    def fail(conflict: Conflict) -> Any:
        if flaw == "raises":
            raise ZeroDivisionError("the policy is broken")
        answers = {
            "unknown column": {"colour": "red"},
            "no record": 7,
            "a value SQLite has not": {"name": []},
        }
        return answers[flaw]

    edit_same(here, there)
    there.sync()
    here.add(1, first=7)
    result = here.sync(conflict_policy=fail)
    assert result.phase is Phase.DONE
    (error,) = result.errors.upload
    assert (error.key, error.code) == (KEY, "policy_failed")
    assert here.field(KEY, "name") == "here"
    assert here.operations() == {KEY: "update"}
    here.sync(conflict_policy="client_wins")
    assert settle(here, there, new_device) == record("here", 0)


@pytest.mark.usefixtures("shared")
def test_a_policy_whose_record_the_table_refuses_leaves_it_pending_with_the_error(
    here: Device, there: Device, new_device: Callable[..., Device]
) -> None:
    edit_same(here, there)
    there.sync()
    result = here.sync(conflict_policy=lambda conflict: {"name": None})
    assert [(error.key, error.code) for error in result.errors.upload] == [(KEY, "does_not_fit")]
    assert here.store.conflicts() == []
    here.sync(conflict_policy="client_wins")
    assert settle(here, there, new_device) == record("here", 0)


@pytest.mark.usefixtures("shared")
def test_a_policy_may_name_only_the_fields_that_it_decides(
    here: Device, there: Device, new_device: Callable[..., Device]
) -> None:
    """Also where the device has no record to take the others from: they come from the hub's."""
    delete_here(here, there)
    there.edit(KEY, elevation=4)
    there.sync()
    here.sync(conflict_policy=lambda conflict: {"name": "decided"})
    assert settle(here, there, new_device) == record("decided", 4)


# -- rounds, and what comes between ------------------------------------------------------------------


@pytest.mark.usefixtures("shared")
def test_a_record_that_is_edited_between_all_rounds_is_sent_three_times_at_most(
    here: Device, there: Device, gate: Gate, new_device: Callable[..., Device]
) -> None:
    counts: list[int] = []

    def meddle(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        counts.append(1)
        there.edit(KEY, elevation=100 + len(counts))
        there.sync()
        there.store.database.close()
        return gate.ask_hub(path, body, headers)

    gate.plan(*[meddle] * 10)
    here.edit(KEY, name="here")
    result = here.sync()
    gate.forget_plans()
    assert result.phase is Phase.DONE
    assert gate.verbs().count("push") == 3
    assert here.operations() == {KEY: "update"}
    assert here.sync().stats.uploaded == 1
    assert settle(here, there, new_device) == record("here", 100 + len(counts))


@pytest.mark.usefixtures("shared")
def test_an_edit_made_while_its_conflict_is_under_way_is_not_lost(
    here: Device, there: Device, gate: Gate, new_device: Callable[..., Device]
) -> None:
    edit_both(here, there)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    here.edit(KEY, name="later")
    held.release()
    session.result(20)
    if here.operations():
        here.sync()
    assert settle(here, there, new_device) == record("later", 9)


@pytest.mark.usefixtures("shared", "no_backoff")
def test_a_lost_acknowledgement_is_no_conflict_and_makes_no_duplicate(
    here: Device, there: Device, gate: Gate, new_device: Callable[..., Device]
) -> None:
    here.edit(KEY, name="here")
    here.add(2, first=5)
    gate.plan(lose_answer)
    result = here.sync()
    assert result.conflicts == ()
    assert result.stats.uploaded == 3
    pushes = [seen.body for seen in gate.seen if seen.verb == "push"]
    assert pushes[-2] == pushes[-1]
    there.sync()
    assert there.keys() == [KEY, "k00005", "k00006"]
    assert there.sync().stats.downloaded == 0


# -- any history converges ---------------------------------------------------------------------------

devices = st.sampled_from([0, 1, 2])
names = st.sampled_from(["k1", "k2"])
moves = st.one_of(
    st.tuples(
        st.just("put"), devices, names, st.sampled_from(["name", "elevation", "latitude"]), st.integers(0, 9)
    ),
    st.tuples(st.just("delete"), devices, names),
    st.tuples(st.just("sync"), devices, st.sampled_from(["merge_fields", "server_wins", "client_wins"])),
)


def put(device: Device, key: str, name: str, value: int) -> None:
    row = {"name": str(value)} | {name: str(value) if name == "name" else value}
    device.airport.insert(id=key, **row).on_conflict(
        conflict_target=[device.airport.id], update={getattr(device.airport, name): row[name]}
    ).execute()


@settings(
    max_examples=examples(5), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.lists(moves, min_size=4, max_size=14))
def test_whatever_three_devices_do_they_agree_in_the_end(
    live_hub: tuple[Hub, str], tmp_path_factory: pytest.TempPathFactory, history: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("crowd")
    remote = LocalRemote(live_hub[0], folder.name)
    with ExitStack() as stack:
        crowd = [stack.enter_context(device_on(folder / f"{number}.db", remote)) for number in range(4)]
        for what, number, *rest in history:
            device = crowd[number]
            if what == "put":
                put(device, *rest)
            elif what == "delete":
                device.airport.delete_by_id(rest[0])
            else:
                device.scope.sync(SyncOptions(conflict_policy=rest[0], download_batch_size=1))
        for device in crowd * 2:
            assert device.sync().phase is Phase.DONE
        for device in crowd:
            assert device.operations() == {}
            assert device.rows() == crowd[0].rows()
