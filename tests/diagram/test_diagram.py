"""The pictures show what the charts say, no more and no less."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from attrs import evolve
from lifecycle.keeper_matrix import KEEPER_MATRIX
from lifecycle.matrix import BATCH_MATRIX, SESSION_MATRIX, Pair
from rig.child import on_a_device
from transitions.extensions import GraphMachine

from statesync import diagram
from statesync.diagram import committed
from statesync.diagram.drawing import GROUP, Kind, Mark, Marks, Weight, drawing_of
from statesync.diagram.notebook import Shown
from statesync.lifecycle import (
    BATCH,
    KEEPER,
    SESSION,
    Chart,
    Edge,
    KeeperPhase,
    KeeperTrigger,
    keeper_chart,
)

ROOT = Path(__file__).parents[2]
CHARTS = pytest.mark.parametrize(
    ("chart", "matrix"),
    [(SESSION, SESSION_MATRIX), (BATCH, BATCH_MATRIX), (KEEPER, KEEPER_MATRIX)],
    ids=["session", "batch", "keeper"],
)
Arrow = tuple[str, str, str]


def legal(matrix: tuple[Pair, ...]) -> set[Arrow]:
    return {(pair.trigger, pair.phase, pair.target) for pair in matrix if pair.target is not None}


def as_arrows(edges: tuple[Edge, ...]) -> list[Arrow]:
    return [(str(edge.trigger), str(edge.source), str(edge.target)) for edge in edges]


@CHARTS
def test_a_drawing_shows_every_edge_exactly_once(chart: Chart, matrix: tuple[Pair, ...]) -> None:
    assert sorted(as_arrows(drawing_of(chart).edges)) == sorted(legal(matrix))


@CHARTS
def test_graph_machine_sees_the_same_edges(chart: Chart, matrix: tuple[Pair, ...]) -> None:
    machine = GraphMachine(
        states=[str(phase) for phase in chart.phases],
        initial=str(chart.initial),
        transitions=[[str(edge.trigger), str(edge.source), str(edge.target)] for edge in chart.edges],
        auto_transitions=False,
        graph_engine="mermaid",
    )
    source = machine.get_graph().source
    seen = {
        (trigger.strip(), one, other)
        for one, other, label in re.findall(r"(\w+) --> (\w+): (.+)", source)
        for trigger in label.split("|")
    }
    assert seen == legal(matrix) == set(as_arrows(drawing_of(chart).edges))


def read_mermaid(text: str, chart: Chart) -> set[Arrow]:
    """Read the edges back from a state diagram: arrows, arrows from the frame, lines inside boxes."""
    inside = re.search(r" as running \{\n(.*?)\n    \}", text, re.S)
    assert inside is not None
    grouped = set(re.findall(r"^\s+(\w+) : \1$", inside[1], re.M))
    arrows = {
        (trigger, one, other)
        for source, other, triggers in re.findall(r"^    (\w+) --> (\w+) : ([\w, ]+)", text, re.M)
        for trigger in triggers.split(", ")
        for one in (grouped if source == GROUP else {source})
    }
    triggers = {str(trigger) for trigger in chart.triggers}
    stays = {
        (word, phase, phase)
        for phase, word in re.findall(r"^\s+(\w+) : (\w+)", text, re.M)
        if word in triggers
    }
    return arrows | stays


@CHARTS
def test_mermaid_says_what_the_chart_says(chart: Chart, matrix: tuple[Pair, ...]) -> None:
    text = diagram.mermaid(chart)
    assert read_mermaid(text, chart) == legal(matrix)
    assert f"[*] --> {chart.initial}" in text
    ends = re.findall(r"(\w+) --> \[\*\]", text)
    assert sorted(ends) == sorted(str(phase) for phase in chart.finals)


def test_mermaid_and_dot_show_guards_and_effects_in_words() -> None:
    assert "settle<br/>[no batch is open and no batch is in doubt]" in diagram.mermaid(SESSION)
    assert "open_batch<br/>[no batch is open]<br/>/ a batch begins" in diagram.mermaid(SESSION)
    assert "/ batch: commit" in diagram.dot(SESSION)
    assert "[no batch is open]" in diagram.dot(SESSION)


@CHARTS
def test_scxml_says_what_the_chart_says(chart: Chart, matrix: tuple[Pair, ...]) -> None:
    name = "{http://www.w3.org/2005/07/scxml}"
    root = ElementTree.fromstring(diagram.scxml(chart).encode())
    arrows = {
        (move.attrib["event"], state.attrib["id"], move.attrib.get("target", state.attrib["id"]))
        for state in root.iter(f"{name}state")
        for move in state.iter(f"{name}transition")
    }
    conditions = [
        (
            state.attrib["id"],
            move.attrib["event"],
            frozenset(move.attrib.get("cond", "").split(" && ")) - {""},
        )
        for state in root.iter(f"{name}state")
        for move in state.iter(f"{name}transition")
    ]
    said = [(pair.phase, pair.trigger, pair.guards) for pair in matrix if pair.target]
    assert arrows == legal(matrix)
    assert len(conditions) == len(said)
    assert set(conditions) == set(said)
    assert root.attrib["initial"] == str(chart.initial)
    assert {end.attrib["id"] for end in root.iter(f"{name}final")} == {str(phase) for phase in chart.finals}


@CHARTS
def test_markdown_has_a_cell_for_every_pair(chart: Chart, matrix: tuple[Pair, ...]) -> None:
    lines = diagram.markdown(chart).splitlines()
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    phases = rows[0][1:]
    cells = {
        (phase, row[0].strip("`")): cell
        for row in rows[2:]
        for phase, cell in zip(phases, row[1:], strict=True)
    }
    guards = dict(re.findall(r"^(\d+)\. `(\w+)`", diagram.markdown(chart), re.M))
    assert cells.keys() == {(pair.phase, pair.trigger) for pair in matrix}
    said: list[tuple[str | frozenset[str], ...]] = [
        (
            *place,
            way.strip(" →*").split(" ")[0].strip("*"),
            frozenset(guards[n] for n in re.findall(r"\d+", way)),
        )
        for place, cell in cells.items()
        for way in cell.split("<br>")
        if cell != "-"
    ]
    expected = [
        (pair.phase, pair.trigger, "stays" if pair.target == pair.phase else pair.target, pair.guards)
        for pair in matrix
        if pair.target is not None
    ]
    assert len(said) == len(expected)
    assert all(way in said for way in expected)


def test_the_phases_between_start_and_end_are_one_group() -> None:
    kept = ["resting", "listening", "backing_off", "held", "needs_token"]
    assert [str(phase) for phase in drawing_of(KEEPER).grouped] == kept
    assert [str(phase) for phase in drawing_of(SESSION).grouped] == ["uploading", "downloading", "cancelling"]


def test_colours_tell_the_kinds_apart() -> None:
    kinds = {str(box.phase): box.kind for box in drawing_of(SESSION).boxes}
    assert kinds == {
        "idle": Kind.READY,
        "uploading": Kind.ACTIVE,
        "downloading": Kind.ACTIVE,
        "cancelling": Kind.STOPPING,
        "done": Kind.ENDED_WELL,
        "cancelled": Kind.ENDED_OTHERWISE,
        "failed": Kind.ENDED_OTHERWISE,
    }


def test_triggers_that_lead_the_same_way_share_an_arrow_unless_they_are_marked() -> None:
    assert "    backing_off --> syncing : nudge, back_off_over<br/>" in diagram.mermaid(KEEPER)
    edge = KEEPER.edges_of(KeeperPhase.BACKING_OFF, KeeperTrigger.NUDGE)[0]
    marked = diagram.mermaid(KEEPER, Marks(edges={edge: Mark("taken once", Weight.STRONG)}))
    assert 'backing_off -->|"taken once<br/>nudge<br/>' in marked
    assert 'backing_off -->|"back_off_over<br/>' in marked


def test_a_program_s_conditions_stand_in_the_picture_of_its_keeper() -> None:
    drawn = diagram.mermaid(keeper_chart(["on_wifi"]))
    assert "interval, nudge, token_renewed<br/>[the gap is over and on_wifi holds]" in drawn
    assert "all conditions hold" not in drawn


def test_no_marks_draw_the_plain_picture() -> None:
    assert diagram.mermaid(SESSION, Marks()) == diagram.mermaid(SESSION)


def test_texts_are_the_same_in_every_process() -> None:
    code = (
        "from statesync import diagram; from statesync.lifecycle import CHARTS\n"
        "for c in CHARTS:\n"
        "    print(diagram.mermaid(c), diagram.dot(c), diagram.markdown(c), diagram.scxml(c))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            cwd=ROOT,
            env=on_a_device(PYTHONHASHSEED=seed, PYTHONUTF8="1"),
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_committed_pictures_are_what_the_charts_say() -> None:
    assert committed.stale(ROOT / "diagrams") == []


def test_a_picture_that_is_missing_or_edited_is_found(tmp_path: Path) -> None:
    for path in (ROOT / "diagrams").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert committed.stale(tmp_path) == []
    (tmp_path / "batch.md").unlink()
    for name in ("session.mmd", "session.dot", "batch.scxml"):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace("abort", "drop", 1))
    svg = tmp_path / "session.svg"
    svg.write_text(svg.read_text().replace("<title>downloading&#45;&gt;done</title>", ""))
    png = tmp_path / "session.png"
    png.write_bytes(png.read_bytes().replace(b"sha256:", b"sha255:"))
    found = " ".join(committed.stale(tmp_path))
    for name in ("batch.md", "session.mmd", "session.dot", "batch.scxml", "session.svg", "session.png"):
        assert name in found
    assert len(committed.stale(tmp_path)) == 6


def test_a_changed_chart_makes_every_picture_of_it_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = evolve(SESSION, edges=SESSION.edges[:1] + SESSION.edges[2:])
    monkeypatch.setattr(committed, "CHARTS", (changed, BATCH))
    assert len(committed.stale(ROOT / "diagrams")) == 6


def test_pictures_are_drawn_by_graphviz() -> None:
    assert diagram.png(BATCH).startswith(b"\x89PNG\r\n")
    assert ElementTree.fromstring(diagram.svg(BATCH).encode()).tag.endswith("svg")


@pytest.fixture
def without_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


@pytest.mark.usefixtures("without_graphviz")
def test_a_picture_without_the_extra_says_what_to_install() -> None:
    with pytest.raises(diagram.DiagramsMissing, match=r"statesync\[diagrams\]"):
        diagram.svg(SESSION)


@pytest.mark.usefixtures("without_graphviz")
def test_a_notebook_without_the_extra_shows_mermaid() -> None:
    shown = diagram.show(SESSION)
    assert shown._repr_svg_() is None
    assert shown._repr_mimebundle_() == {
        "text/markdown": f"```mermaid\n{diagram.mermaid(SESSION)}```\n",
        "text/plain": diagram.mermaid(SESSION),
    }


def test_a_notebook_shows_the_picture() -> None:
    shown = Shown(SESSION)
    assert "<svg" in shown._repr_mimebundle_()["image/svg+xml"]
    assert str(shown) == diagram.mermaid(SESSION)


def test_drawing_needs_no_extra() -> None:
    code = "import sys, statesync.diagram; sys.exit('pygraphviz' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=on_a_device())
