"""What an exploration found, as a value and in words."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from attrs import frozen

from statesync.verify.keeping.moves import KeeperScope
from statesync.verify.space import Way


@frozen
class Explored:
    """How much was seen of one exploration."""

    scope: StrEnum
    configurations: int
    transitions: int


@frozen
class Verdict:
    """One property, and whether it holds in every exploration that it is judged in."""

    name: str
    statement: str
    holds: bool


@frozen
class Violation:
    """A property that does not hold, and a shortest ``way`` to where it breaks."""

    name: str
    statement: str
    scope: StrEnum
    way: Way[Any, Any]

    def text(self) -> str:
        """Return the counterexample, one numbered step a line."""
        steps = [f"  {number}. {step}" for number, step in enumerate(self.way.steps, start=1)]
        title = f"violated in the {self.scope}: {self.statement}"
        who = "a keeper" if isinstance(self.scope, KeeperScope) else "a session"
        return "\n".join([title, f"  0. {who} begins: {self.way.start}", *steps])

    def mermaid(self) -> str:
        """Return the counterexample as a mermaid state diagram."""
        lines = ["stateDiagram-v2", f"    %% violated in the {self.scope}: {self.statement}"]
        for number, now in enumerate([self.way.start, *(step.target for step in self.way.steps)]):
            lines.append(f'    state "{str(now).replace(", ", "<br/>")}" as s{number}')
        lines.append("    [*] --> s0")
        for number, step in enumerate(self.way.steps, start=1):
            lines.append(f"    s{number - 1} --> s{number}: {number}. {step.cause}")
        lines.append("    classDef broken fill:#f8d7da,stroke:#b02a37")
        lines.append(f"    class s{len(self.way.steps)} broken")
        return "\n".join(lines) + "\n"


@frozen
class Report:
    """What ``check`` saw and found. ``configurations`` and ``transitions`` add up all explorations."""

    configurations: int
    transitions: int
    properties: tuple[Verdict, ...]
    violations: tuple[Violation, ...]
    explorations: tuple[Explored, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every property holds."""
        return not self.violations

    def text(self) -> str:
        """Return the report as lines for people."""
        seen = [
            f"{part.scope:<15}{part.configurations:>6} configurations {part.transitions:>7} transitions"
            for part in self.explorations
        ]
        total = f"{'together':<15}{self.configurations:>6} configurations {self.transitions:>7} transitions"
        verdicts = [f"{'holds ' if each.holds else 'BROKEN'}  {each.statement}" for each in self.properties]
        return "\n".join([*seen, total, "", *verdicts, *("\n" + each.text() for each in self.violations)])
