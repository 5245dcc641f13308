"""What a damaged file has lost, table by table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from statesync.classes import frozen

Entry = dict[str, Any]
"""What an index still knows of a row that is lost: values by their columns."""


@frozen
class Loss:
    """What is gone of one table: ``read`` rows could be read, ``lost`` could not, None where nobody knows.

    ``known`` are the lost rows as the table's unique index has them; None if no index could be read.
    ``garbled`` are the rowids of rows that could be read and are not what the index has. ``doubtful`` are
    the rows that could be read from damaged pages, as that index would have them.
    """

    table: str
    read: int
    lost: int | None
    known: tuple[Entry, ...] | None = None
    garbled: tuple[int, ...] = ()
    doubtful: tuple[Entry, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether every row of the damaged table could be read after all."""
        return self.lost == 0

    def keys(self, column: str) -> list[Any] | None:
        """Return the lost rows' values of a column; None if nobody knows them."""
        if self.known is None or not all(column in entry for entry in self.known):
            return [] if self.is_nothing else None
        return [entry[column] for entry in self.known]

    def touched(self, column: str) -> list[Any] | None:
        """Return the values of a column of all rows that damaged pages had; None if nobody knows them."""
        if self.known is None or not all(column in entry for entry in (*self.known, *self.doubtful)):
            return None
        return [entry[column] for entry in (*self.known, *self.doubtful)]

    def in_words(self) -> str:
        """Return what a person should know of it."""
        lost = "an unknown number of its rows is" if self.lost is None else f"{self.lost} of its rows are"
        return f"{lost} gone with a damaged page, {self.read} could be read"


class Losses:
    """The losses of a file, by the names of their tables, which have no case."""

    def __init__(self, losses: Iterable[Loss]) -> None:
        self._by_table = {loss.table.lower(): loss for loss in losses if not loss.is_nothing}

    def __iter__(self) -> Iterator[Loss]:
        return iter(self._by_table.values())

    def of(self, table: str) -> Loss | None:
        """Return what is gone of a table, None if nothing is."""
        return self._by_table.get(table.lower())
