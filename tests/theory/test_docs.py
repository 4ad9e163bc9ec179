"""The table in docs/reference/theory.md is the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from unitgain import theory

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "theory.md"
ROWS = [
    cells
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if len(cells := [c.strip() for c in line.strip("|").split("|")]) == 7 and cells[0] in theory.NAMES
]


@pytest.mark.parametrize("row", ROWS, ids=[r[0] for r in ROWS])
def test_the_documented_numbers_are_computed_ones(row: list[str]) -> None:
    name, gain, centered, backward, shift, stability, chi = row
    exact = theory.gain(name)
    assert gain == f"{exact:.7f}"
    assert centered == f"{theory.centered_gain(name):.7f}"
    assert backward == f"{theory.backward_gain(name):.4f}"
    assert float(shift) == pytest.approx(theory.mean_shift(name), abs=5.1e-5)
    assert chi == f"{theory.chi(name, exact, variance=1.0):.4f}"
    points = theory.fixed_points(name, exact)
    if points.every:
        assert stability == "every variance"
    else:
        (point,) = [p for p in points.points if abs(p.variance - 1) < 1e-3]
        assert stability == f"{point.stability} (slope {point.slope:.3f})"


def test_there_are_rows() -> None:
    assert len(ROWS) == 13
