"""A filter lets through what it names, looks the same however it was written, and survives its travels."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rig.search import examples

from statesync import BadOptions, SyncOptions
from statesync.filters import NO_FILTER, Filter, Scalar

scalars: st.SearchStrategy[Scalar] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.text(max_size=2)
)
wanted = st.dictionaries(st.sampled_from("abc"), st.lists(scalars, min_size=1, max_size=3), max_size=3)
records = st.dictionaries(st.sampled_from("abc"), scalars)


def as_json(value: Scalar) -> tuple[str, Scalar]:
    """A value by what JSON says it is: a number is a number, true is none."""
    kind = (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )
    return kind, value


@settings(max_examples=examples(25), deadline=None)
@example({"a": [1, 0.0]}, {"a": True})
@example({"a": [True]}, {"a": 1})
@given(wanted, records)
def test_a_record_passes_if_every_named_field_has_one_of_its_values(
    fields: dict[str, list[Scalar]], record: dict[str, Scalar]
) -> None:
    expected = all(as_json(record.get(name)) in map(as_json, values) for name, values in fields.items())
    assert Filter.of(fields).passes(record) == expected


@settings(max_examples=examples(25), deadline=None)
@given(wanted)
def test_a_filter_is_the_same_after_it_has_travelled_and_was_kept(fields: dict[str, list[Scalar]]) -> None:
    made = Filter.of(fields)
    travelled = json.loads(json.dumps(made.on_the_wire()))
    assert Filter.from_wire(travelled) == made
    assert Filter.from_text(made.as_text()).on_the_wire() == made.on_the_wire()


def test_the_order_and_the_container_of_the_values_do_not_matter() -> None:
    assert Filter.of({"a": [2, 1, 1]}) == Filter.of({"a": {1, 2}}) == Filter.of({"a": (1, 2)})
    assert Filter.of({"a": 1}) == Filter.of({"a": [1]})


def test_a_filter_without_fields_lets_everything_pass_and_does_not_travel() -> None:
    assert Filter.of({}).passes({"a": 1})
    assert (NO_FILTER.on_the_wire(), NO_FILTER.as_text(), NO_FILTER.is_open) == (None, None, True)


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="text, numbers, booleans and None"):
        Filter.of({"a": [b"bytes"]})


def test_a_number_that_no_column_holds_is_refused() -> None:
    for number in (float("nan"), float("inf"), 2**63 + 1, 10**400, 10**5000):
        with pytest.raises(BadOptions, match="no column holds"):
            SyncOptions(filter={"Airport": {"a": [1, number]}})


def test_numbers_that_a_column_holds_are_taken() -> None:
    numbers = [2**63 - 1, -(2**63), 10**20, 1e308]
    assert all(Filter.of({"a": numbers}).passes({"a": number}) for number in numbers)


def test_a_filter_that_no_hub_takes_is_refused_with_its_object_its_size_and_what_to_do() -> None:
    with pytest.raises(
        BadOptions, match=r"filter of Airport asks for 10001 values.*limit is 10000; ask for fewer"
    ):
        SyncOptions(filter={"Country": {"a": 1}, "Airport": {"a": list(range(10_000)), "b": 1}})
    with pytest.raises(BadOptions, match=r"filter of Airport looks at 101 fields.*limit is 100; name fewer"):
        SyncOptions(filter={"Airport": {f"f{n}": 1 for n in range(101)}})
    SyncOptions(filter={"Airport": {f"f{n}": list(range(100)) for n in range(100)}})
