"""Changes to JSON documents, made up by Hypothesis: the answers of a liar, the requests of a stranger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from attrs import define, field
from hypothesis import strategies as st

from statesync import Remote
from statesync.errors import BadAnswer
from statesync.wire import Page, Pull, Push, PushAnswer

_Answer = TypeVar("_Answer", PushAnswer, Page)

HUGE = st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**40, -1, 0])
SCALARS = st.none() | st.booleans() | st.integers() | HUGE | st.floats(allow_nan=False) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@define
class Lie:
    """One change at one place of a document; ``place`` counts its values, modulo how many there are."""

    place: int
    kind: str
    value: Any = field(default=None)

    def tell(self, document: Any) -> None:
        """Change the document."""
        places = list(_places(document))
        if not places:
            return
        holder, key = places[self.place % len(places)]
        if self.kind == "replace":
            holder[key] = self.value
        elif self.kind == "leave_out":
            del holder[key]
        elif self.kind == "move" and isinstance(holder[key], int):
            holder[key] += self.value if isinstance(self.value, int) else 1
        elif self.kind == "reverse" and isinstance(holder[key], list):
            holder[key].reverse()
        elif self.kind == "repeat" and isinstance(holder[key], list):
            holder[key] *= 2


LIES = st.lists(
    st.builds(
        Lie,
        st.integers(0, 500),
        st.sampled_from(["replace", "leave_out", "move", "reverse", "repeat"]),
        VALUES,
    ),
    min_size=1,
    max_size=3,
)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


def changed(text: bytes, lies: list[Lie]) -> bytes:
    """Return a JSON document with the lies in it."""
    document = json.loads(text)
    for lie in lies:
        lie.tell(document)
    return json.dumps(document).encode()


class Liar:
    """A hub that does what it is asked, and lies about it: to the request with the number ``at``."""

    def __init__(self, remote: Remote, lies: list[Lie], at: int) -> None:
        self._remote = remote
        self._lies = lies
        self._at = at
        self._asked = 0

    @property
    def space(self) -> str:
        return self._remote.space

    def push(self, request: Push) -> PushAnswer:
        return self._lie(self._remote.push(request))

    def pull(self, request: Pull) -> Page:
        return self._lie(self._remote.pull(request))

    def interrupt(self) -> None:
        self._remote.interrupt()

    def close(self) -> None:
        self._remote.close()

    def _lie(self, answer: _Answer) -> _Answer:
        self._asked += 1
        if self._asked != self._at:
            return answer
        try:
            return msgspec.json.decode(changed(msgspec.json.encode(answer), self._lies), type=type(answer))
        except msgspec.MsgspecError as error:
            raise BadAnswer("no answer of a hub", maybe_applied=True) from error
