"""Writes the generated parts of docs/lifecycle.md: ``PYTHONPATH=tests python -m lifecycle.document``.

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; the rest is hand-written.
Tests are named as pytest names them, from the folder ``tests``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from protocol.matrix import CASES, CASES_BEGIN, PAIRS, SITUATIONS, Row

from statesync import diagram
from statesync.lifecycle import BATCH, KEEPER, SESSION, AnyPhase, AnyTrigger, Chart
from statesync.verify.keeping.properties import KEEPER_PROPERTIES
from statesync.verify.properties import PROPERTIES
from statesync.verify.system.promises import STATEMENTS

from .example import SESSION_INFO, journal

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "lifecycle.md"

SHORT = {
    "S": "lifecycle/test_matrix.py::test_session_chart_answers_this_pair_as_designed",
    "B": "lifecycle/test_matrix.py::test_batch_chart_answers_this_pair_as_designed",
    "TS": "lifecycle/test_machine_pairs.py::test_machine_takes_this_session_pair",
    "TB": "lifecycle/test_machine_pairs.py::test_machine_takes_this_batch_pair",
    "G": "lifecycle/test_machine_pairs.py::test_machine_refuses_this_pair_without_this_guard",
    "I": "lifecycle/test_machine_pairs.py::test_machine_refuses_this_illegal_pair_and_changes_nothing",
    "K": "lifecycle/test_keeper.py::test_keeper_chart_answers_this_pair_as_designed",
    "TK": "lifecycle/test_keeper.py::test_machine_takes_this_keeper_way",
    "GK": "lifecycle/test_keeper.py::test_machine_does_not_go_this_keeper_way_without_this_guard",
    "IK": "lifecycle/test_keeper.py::test_machine_refuses_this_illegal_keeper_pair_and_changes_nothing",
    "H": "verify/test_verify.py::test_the_charts_keep_every_promise",
    "F": "verify/test_verify.py::test_property_fails_for_a_chart_that_breaks_it",
    "FK": "verify/test_keeper.py::test_property_fails_for_a_keeper_s_chart_that_breaks_it",
}
"""Tests that have so many cases that the tables name them by a letter."""

PROMISES = {
    1: "after `cancelling` is entered no batch is opened and nothing is sent",
    2: "the batch in flight gets a recorded end: acknowledgements, per-record verdicts and cursor in one "
    "local transaction",
    3: "`cancelled` is announced only after K2, with every transaction, socket and worker released",
    4: "the statistics in the terminal event equal what is durable",
    5: "cancel during back-off, or before a batch is sent, takes effect at once",
    6: "cancel after the last batch was committed: the session is `done`, or `cancelled` if it still builds "
    "indexes. Cancel twice: the same outcome. "
    "Cancel with nothing running: `NothingToCancel`",
    7: "`cancel(grace=seconds)` bounds the drain. Past it a download batch is dropped (`cancelled`); an "
    "upload batch is in doubt, and the session is `failed` with `InDoubt`, never `cancelled`",
    8: "a crash in any phase: at the next open the session is `failed` with `Interrupted`, never resumed",
    9: "nothing staged survives a terminal phase, but committed progress does: the next session goes on from "
    "the last committed batch",
    10: "an illegal trigger raises and changes nothing",
    11: "the reason is kept with the outcome: user, shutdown, deadline, interrupted, error code",
}


def generated() -> dict[str, str]:
    """Return every generated part by its name."""
    return {
        "tests": _table(["letter", "test"], [[letter, f"`{test}`"] for letter, test in SHORT.items()]),
        "session": diagram.markdown(SESSION).rstrip(),
        "batch": diagram.markdown(BATCH).rstrip(),
        "keeper": diagram.markdown(KEEPER).rstrip(),
        "session pairs": _pairs(SESSION, "S", "TS"),
        "batch pairs": _pairs(BATCH, "B", "TB"),
        "keeper pairs": _keeper_pairs(),
        "decisions": _decisions(PAIRS, SITUATIONS),
        "cases": _decisions(CASES, CASES_BEGIN),
        "invariants": _invariants(),
        "keeper invariants": _keeper_invariants(),
        "system": _system(),
        "promises": _promises(),
        "example way": _mermaid(diagram.mermaid(SESSION, diagram.taken(journal(), SESSION_INFO))),
        "example conversation": _mermaid(diagram.sequence_mermaid(journal(), SESSION_INFO)),
    }


def render(text: str) -> str:
    """Return ``text`` with its generated parts made anew."""
    for name, part in generated().items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.S)
        if not pattern.search(text):
            raise ValueError(f"docs/lifecycle.md has no generated part {name!r}")
        text = pattern.sub(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", text)  # type: ignore[misc]
    return text


def named_tests(text: str) -> list[str]:
    """Return every test that ``text`` names, in pytest's own words."""
    written = re.findall(r"`([\w/]+\.py::[^`]+)`", text)
    short = re.findall(r"`([A-Z]{1,2})\[([^`]+)\]`", text)
    return [*written, *(f"{SHORT[letter]}[{case}]" for letter, case in short)]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _mermaid(text: str) -> str:
    return f"```mermaid\n{text}```"


def _pairs(chart: Chart, designed: str, taken: str) -> str:
    rows = [
        _pair(chart, phase, trigger, designed, taken) for phase in chart.phases for trigger in chart.triggers
    ]
    return _table(["phase", "trigger", "leads to", "if", "tests"], rows)


def _pair(chart: Chart, phase: AnyPhase, trigger: AnyTrigger, designed: str, taken: str) -> list[str]:
    case = f"{phase}-{trigger}"
    edges = chart.edges_of(phase, trigger)
    if not edges:
        return [str(phase), f"`{trigger}`", "illegal", "", f"`{designed}[{case}]` `I[{case}]`"]
    (edge,) = edges
    target = "stays" if edge.target is phase else f"**{edge.target}**"
    # No batch can be open in idle: there is nothing to refuse.
    guards = [guard.name for guard in edge.guards if (phase, guard.name) != ("idle", "no_batch_open")]
    refused = [f"`G[{case}-{name}]`" for name in sorted(guards)]
    tests = " ".join([f"`{designed}[{case}]`", f"`{taken}[{case}]`", *refused])
    meaning = "; ".join(guard.meaning for guard in edge.guards)
    return [str(phase), f"`{trigger}`", target, meaning, tests]


def _keeper_pairs() -> str:
    rows = [_keeper_pair(phase, trigger) for phase in KEEPER.phases for trigger in KEEPER.triggers]
    return _table(["phase", "trigger", "leads to", "if", "tests"], rows)


def _keeper_pair(phase: AnyPhase, trigger: AnyTrigger) -> list[str]:
    """Return the row of a pair that may have several ways, each under the others in its cells."""
    case = f"{phase}-{trigger}"
    edges = KEEPER.edges_of(phase, trigger)
    if not edges:
        return [str(phase), f"`{trigger}`", "illegal", "", f"`K[{case}]` `IK[{case}]`"]
    tests = [f"`K[{case}]`"]
    for edge in edges:
        tests.append(f"`TK[{case}-{edge.target}]`")
        tests += [f"`GK[{case}-{edge.target}-{name}]`" for name in sorted(g.name for g in edge.guards)]
    targets = "<br>".join(f"**{edge.target}**" for edge in edges)
    meanings = "<br>".join("; ".join(guard.meaning for guard in edge.guards) for edge in edges)
    return [str(phase), f"`{trigger}`", targets, meanings, " ".join(tests)]


def _decisions(rows: Iterable[Row], situations: Iterable[str]) -> str:
    """Return what is decided, a table of its own for what happens, and a line for what does not."""
    known = list(rows)
    return "\n\n".join(
        _situation(name, [row for row in known if row.situation == name])
        for name in situations
        if any(row.situation == name for row in known)
    )


def _situation(name: str, rows: list[Row]) -> str:
    happens = [row for row in rows if row.triggers not in ("-", "defect")]
    cells = [
        [
            row.event,
            _code(row.triggers.split()),
            _code(row.written.split(", ")),
            _code(row.beside.split(", ")),
            _code(row.then.split(", ")),
        ]
        for row in happens
    ]
    table = _table(["event", "triggers", "written with them", "begun beside", "then"], cells)
    nothing = ", ".join(row.event for row in rows if row.triggers == "-")
    return f"**{name}**\n\n{table}" + (f"\n\nNothing happens at: {nothing}." if nothing else "")


def _code(words: list[str]) -> str:
    return ", ".join(f"`{word}`" for word in words if word)


def _invariants() -> str:
    rows = [
        [f"L{number}", each.statement, f"`{SHORT['H']}` `F[{each.name}]`"]
        for number, each in enumerate(PROPERTIES, start=1)
    ]
    return _table(["no.", "invariant", "tests"], rows)


def _keeper_invariants() -> str:
    rows = [
        [f"N{number}", each.statement, f"`{SHORT['H']}` `FK[{each.name}]`"]
        for number, each in enumerate(KEEPER_PROPERTIES, start=1)
    ]
    return _table(["no.", "invariant", "tests"], rows)


def _system() -> str:
    name = "test_every_promise_holds_in_every_interleaving"
    test = f"`verify/test_system.py::{name}`<br>`verify/scans/test_scans.py::{name}`"
    rows = [[f"S{number}", statement, test] for number, statement in enumerate(STATEMENTS, start=1)]
    return _table(["no.", "invariant", "test"], rows)


def _promises() -> str:
    source = (ROOT / "tests" / "session" / "test_promises.py").read_text(encoding="utf-8")
    rows = []
    for number, words in PROMISES.items():
        names = re.findall(rf"^def (test_k{number}_\w+)", source, re.M)
        rows.append(
            [f"K{number}", words, "<br>".join(f"`session/test_promises.py::{name}`" for name in names)]
        )
    return _table(["no.", "promise", "tests"], rows)


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(render(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
