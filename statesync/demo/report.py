"""What came of the story: values that are printed for people or for machines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from attrs import field

from statesync.classes import define, frozen
from statesync.demo.stage import Stage
from statesync.values import Progress


@frozen
class Check:
    """Something that must hold, whether it did, and the facts that it was judged by."""

    name: str
    held: bool
    facts: str


@frozen
class Holding:
    """What one database holds at the end."""

    holder: str
    records: int
    checksum: str


@frozen
class SessionRow:
    """One session of a device's history."""

    device: str
    session: str
    phase: str
    reason: str | None
    batches: int
    uploaded: int
    downloaded: int
    seconds: float


@frozen
class Edit:
    """An airport that two devices edited offline: what each did, and what hub and devices hold now."""

    airport: str
    device_a: str
    device_b: str
    now: str


@frozen
class Report:
    """The facts of one run, read from the databases and from the hub's count of what it sent."""

    passed: bool
    seconds: float
    checks: tuple[Check, ...]
    edits: tuple[Edit, ...]
    holdings: tuple[Holding, ...]
    sessions: tuple[SessionRow, ...]


class Teller(Protocol):
    """Who tells the story while it happens."""

    def act(self, title: str) -> None:
        """Begin a section."""

    def say(self, text: str) -> None:
        """Tell one fact."""

    def judge(self, check: Check) -> None:
        """Tell how a check went."""

    def show_edits(self, edits: tuple[Edit, ...]) -> None:
        """Show what became of the edits."""

    def transfer(self, what: str, total: int) -> AbstractContextManager[Callable[[Progress], None]]:
        """Show a bar for the length of the block; call what it gives with every progress event."""


@define(eq=False)
class Play:
    """The stage, who tells the story, and what was found so far."""

    stage: Stage
    teller: Teller
    checks: list[Check] = field(factory=list)
    edits: tuple[Edit, ...] = ()

    def expect(self, name: str, held: bool, facts: str) -> None:
        """Judge one promise by ``facts``; the story goes on in either case."""
        check = Check(name, held, facts)
        self.checks.append(check)
        self.teller.judge(check)
