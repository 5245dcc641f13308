"""Which objects one pull asks for: a hub takes so many at once, and a program may have more."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MOST = 200
"""Objects in one pull: as many as a hub takes where nobody has set ``--limit-objects``."""


class Groups:
    """The objects of one session in groups, of which one is read to its end, and then the next.

    What is read first may be behind what is read last: a child that comes with a later group may have a
    parent in an earlier one. So those are asked once more that the hub's head has left behind meanwhile. That
    is once: others may write for ever.
    """

    def __init__(self, names: Sequence[str]) -> None:
        places = range(0, max(1, len(names)), MOST)  # a program without objects asks as well
        self._all = [frozenset(names[at : at + MOST]) for at in places]
        self.begin_again()

    def begin_again(self) -> None:
        """Read all from now on: what was read to its end is not any more."""
        self._left = list(range(len(self._all)))
        self._reached = dict.fromkeys(self._left, 0)
        self._is_first_round = True

    @property
    def current(self) -> Collection[str]:
        """The objects that are read now."""
        return self._all[self._left[0]]

    def following(self, head: int) -> Collection[str]:
        """Return what is read next, once the current ones are read up to ``head``; nothing if that is all."""
        left = self._left_after(head)
        return self._all[left[0]] if left else frozenset()

    def end_current(self, head: int) -> None:
        """Take note that the current objects are read up to ``head``. The last ones stay the current ones."""
        left = self._left_after(head)
        self._is_first_round = self._is_first_round and len(self._left) > 1
        self._reached[self._left[0]] = head
        self._left = left or self._left[:1]

    def _left_after(self, head: int) -> list[int]:
        reached = {**self._reached, self._left[0]: head}
        if len(self._left) > 1 or not self._is_first_round:
            return self._left[1:]
        return [place for place, at in reached.items() if at < max(reached.values())]
