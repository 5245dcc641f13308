"""Classes that share their comparison, hash and text behave as attrs' own do."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from attrs import Factory, evolve, field

from statesync.classes import define, frozen


@frozen
class Point:
    x: int
    y: object = 0
    note: str = field(default="", eq=False)
    secret: str = field(default="", repr=False)
    url: str = field(default="https://me:hidden@there", repr=lambda url: url.split("@")[1])


@frozen
class Place(Point):
    name: str = "here"


@frozen
class Nothing:
    pass


@frozen
class NothingElse:
    pass


@define
class Basket:
    things: list[object] = Factory(list)
    _count: int = field(init=False)


@define(eq=False)
class Part:
    what: str


@frozen(slots=False, repr=False)
class Loose:
    what: str


@frozen
class Odd:
    what: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd)

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "odd"


def test_values_are_equal_by_the_fields_that_count_and_only_to_their_own_class() -> None:
    assert Point(1, note="a") == Point(1, note="b")
    assert Point(1, secret="a") != Point(1, secret="b")
    assert Point(1, 2) != Point(2, 2)
    assert Point(1) != Place(1)
    assert Place(1) != Point(1)
    assert Place(1) != Place(1, name="there")
    assert Point(1).__eq__(1) is NotImplemented
    assert Nothing() == Nothing()
    assert Nothing().__eq__(NothingElse()) is NotImplemented


def test_equal_values_have_one_hash_and_what_changes_has_none() -> None:
    assert len({Point(1, note="a"), Point(1, note="b"), Point(2), Place(1), Nothing(), Nothing()}) == 4
    with pytest.raises(TypeError, match="unhashable type: 'Basket'"):
        hash(Basket())
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(Point(1, []))


def test_parts_are_themselves() -> None:
    one, other = Part("a"), Part("a")
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_what_a_class_writes_itself_stays() -> None:
    assert Odd("a") == Odd("b")
    assert hash(Odd("a")) == 7
    assert repr(Odd("a")) == "odd"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Point(1, "a"), "Point(x=1, y='a', note='', url=there)"),
        (Place(1), "Place(x=1, y=0, note='', url=there, name='here')"),
        (Nothing(), "Nothing()"),
        (Part("a"), "Part(what='a')"),
        (Basket([1]), "Basket(things=[1], _count=NOTHING)"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_the_text_shows_what_may_be_shown(value: object, text: str) -> None:
    assert repr(value) == text


def test_the_text_of_a_class_within_a_function_and_of_what_holds_itself() -> None:
    @define
    class Local:
        inner: object = None

    it = Local()
    it.inner = [it]
    assert repr(it) == "Local(inner=[...])"
    assert " object at 0x" in repr(Loose("a"))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(frozen, attrs.frozen), (define, attrs.define)], ids=["frozen", "define"]
)
def test_a_class_is_what_attrs_make_of_it(ours: Callable[[type], Any], theirs: Callable[[type], Any]) -> None:
    """Its text, its fields, how it is matched, copied and refused; only the methods are shared."""

    def made(by: Callable[[type], Any]) -> Any:
        body = {"__annotations__": {"x": "int", "y": "str"}, "y": "b", "__module__": __name__}
        return by(type("Made", (), {**body, "__qualname__": "Made"}))

    our, their = made(ours), made(theirs)
    assert repr(our(1)) == repr(their(1)) == "Made(x=1, y='b')"
    assert our.__match_args__ == their.__match_args__ == ("x", "y")
    assert our.__slots__ == their.__slots__
    assert attrs.asdict(evolve(our(1), y="c")) == {"x": 1, "y": "c"}
    assert set(dir(our)) == set(dir(their))
    assert (our.__hash__ is None) is (their.__hash__ is None)


def test_values_travel_and_stay_as_they_are() -> None:
    there = pickle.loads(pickle.dumps(Place(1, name="there")))
    assert there == Place(1, name="there")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        there.x = 2
    match there:
        case Place(x, name="there"):
            assert x == 1
        case _:
            pytest.fail("no match")
