"""``statesync diagram`` and ``statesync verify``, as a person calls them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from verify.mutants import mutants_of

from statesync import diagram
from statesync.cli import charts
from statesync.cli.charts import diagram as diagram_command
from statesync.cli.charts import verify as verify_command
from statesync.lifecycle import BATCH, SESSION
from statesync.verify import check
from statesync.verify.system import explore
from statesync.verify.system.scenarios import SCANS, SCENARIOS

ROOT = Path(__file__).parents[2]


def test_diagram_prints_the_session_chart_as_mermaid() -> None:
    result = CliRunner().invoke(diagram_command, [])
    assert (result.exit_code, result.output) == (0, diagram.mermaid(SESSION))


@pytest.mark.parametrize("form", ["mermaid", "dot", "markdown", "scxml"])
def test_diagram_writes_every_text_format(form: str, tmp_path: Path) -> None:
    file = tmp_path / "batch.txt"
    result = CliRunner().invoke(diagram_command, ["batch", "--format", form, "-o", str(file)])
    assert result.exit_code == 0
    assert file.read_text(encoding="utf-8") == getattr(diagram, form)(BATCH)


def test_diagram_writes_pictures_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "session.png"
    assert CliRunner().invoke(diagram_command, ["--format", "png", "-o", str(file)]).exit_code == 0
    assert file.read_bytes() == diagram.png(SESSION)


def test_diagram_check_passes_for_what_is_committed() -> None:
    result = CliRunner().invoke(diagram_command, ["--check", "--folder", str(ROOT / "diagrams")])
    assert result.exit_code == 0, result.output


def test_diagram_check_fails_for_an_empty_folder_and_write_mends_it(tmp_path: Path) -> None:
    where = ["--folder", str(tmp_path / "pictures")]
    missing = CliRunner().invoke(diagram_command, ["--check", *where])
    assert missing.exit_code == 1
    assert missing.output.count("missing") == 18
    assert CliRunner().invoke(diagram_command, ["--write", *where]).exit_code == 0
    assert CliRunner().invoke(diagram_command, ["--check", *where]).exit_code == 0


def test_diagram_of_a_session_is_refused_as_a_table(tmp_path: Path) -> None:
    command = ["--format", "markdown", "--session", str(tmp_path / "x.db"), "1"]
    result = CliRunner().invoke(diagram_command, command)
    assert result.exit_code == 2
    assert "mermaid, dot, svg, png" in result.output


def test_diagram_of_a_database_that_is_none_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(diagram_command, ["--session", str(tmp_path / "none.db"), "1"])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1


def test_verify_prints_what_was_seen_and_every_verdict() -> None:
    result = CliRunner().invoke(verify_command, [])
    report = check()
    assert result.exit_code == 0
    assert f"{report.configurations} configurations" in result.output
    assert f"{report.transitions} transitions" in result.output
    assert result.output.count("holds  ") == len(report.properties)


def test_verify_fails_with_the_way_to_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = next(
        mutant.chart for mutant in mutants_of(SESSION) if mutant.edit.endswith("guard feed_drained dropped")
    )
    assert broken is not None
    monkeypatch.setattr(charts, "check_charts", lambda: check(session=broken))
    result = CliRunner().invoke(verify_command, [])
    assert result.exit_code == 1
    assert "BROKEN  done is reached only with both directions drained" in result.output
    assert "finish_download: session done" in result.output
    assert "stateDiagram-v2" in result.output


def test_verify_system_prints_runs_and_states(monkeypatch: pytest.MonkeyPatch) -> None:
    explored = (*SCENARIOS[:2], *SCANS[:1])  # test_system.py explores all of them
    monkeypatch.setattr(explore, "SCENARIOS", explored[:2])
    monkeypatch.setattr(explore, "SCANS", explored[2:])
    result = CliRunner().invoke(verify_command, ["--system", "--times", "0"])
    assert result.exit_code == 0
    told = re.findall(r"\d+ runs through \d+ states and \d+ transitions: (.+)", result.output)
    assert told == [scenario.name for scenario in explored]
    assert "holds   no local change is lost" in result.output
