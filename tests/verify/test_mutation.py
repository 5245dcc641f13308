"""A chart that is changed by one edit is noticed: by the explorer, by the matrix, nearly always by both."""

from __future__ import annotations

import pytest
from attrs import frozen
from lifecycle.matrix import BATCH_MATRIX, SESSION_MATRIX, disagreements

from statesync.lifecycle import BATCH, SESSION, Chart
from statesync.verify import violations

from .mutants import mutants_of

pytestmark = [pytest.mark.long, pytest.mark.sabotage]


@frozen
class Hunt:
    """Which mutants were refused when they were made, and which were caught by what."""

    refused: tuple[str, ...]
    made: tuple[str, ...]
    explorer: frozenset[str]
    matrix: frozenset[str]

    def figures(self) -> str:
        return (
            f"{len(self.refused) + len(self.made)} one-edit mutants: {len(self.refused)} refused by Chart; "
            f"of the other {len(self.made)} the explorer caught {len(self.explorer)}, "
            f"the matrix {len(self.matrix)}, either {len(self.explorer | self.matrix)}"
        )


def holds(chart: Chart) -> bool:
    found = violations(session=chart) if chart.name == SESSION.name else violations(batch=chart)
    return next(found, None) is None


@pytest.fixture(scope="module")
def hunt() -> Hunt:
    both = [(SESSION, SESSION_MATRIX), (BATCH, BATCH_MATRIX)]
    mutants = [(mutant, matrix) for chart, matrix in both for mutant in mutants_of(chart)]
    made = [(mutant.edit, mutant.chart, matrix) for mutant, matrix in mutants if mutant.chart is not None]
    return Hunt(
        refused=tuple(mutant.edit for mutant, _ in mutants if mutant.chart is None),
        made=tuple(edit for edit, _, _ in made),
        explorer=frozenset(edit for edit, chart, _ in made if not holds(chart)),
        matrix=frozenset(edit for edit, chart, matrix in made if disagreements(chart, matrix)),
    )


def test_every_one_edit_change_of_a_chart_is_caught(hunt: Hunt, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{hunt.figures()}")
    assert not set(hunt.made) - hunt.explorer - hunt.matrix


def test_the_explorer_alone_catches_nine_in_ten(hunt: Hunt) -> None:
    missed = sorted(set(hunt.made) - hunt.explorer)
    assert len(missed) * 10 <= len(hunt.made), missed


def test_what_the_explorer_misses_cannot_be_told_apart(hunt: Hunt) -> None:
    """No batch can be open in ``idle``, so the guard that asks for it there can never refuse."""
    assert set(hunt.made) - hunt.explorer == {
        "session: fail: idle -> failed if no_batch_open: guard no_batch_open dropped"
    }


def test_the_matrix_alone_catches_them_all(hunt: Hunt) -> None:
    assert hunt.matrix == set(hunt.made)


def test_the_hunt_is_as_large_as_the_charts_ask_for(hunt: Hunt) -> None:
    edges = len(SESSION.edges) * (1 + 6 + 6) + len(BATCH.edges) * (1 + 5 + 5)
    guards = sum(len(edge.guards) for edge in (*SESSION.edges, *BATCH.edges))
    assert len(hunt.refused) + len(hunt.made) == edges + guards
