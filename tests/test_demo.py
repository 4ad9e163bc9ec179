"""What `make demo` shows must be what was measured, and the same each time."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from unitgain import demo


def show(out: str) -> tuple[str, list]:
    """The demo's text with a short training, and its two reports."""
    file = io.StringIO()
    reports = demo.run(out, steps=60, console=Console(file=file, width=100))
    return file.getvalue(), reports


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "report[1].html"
    return *show(str(out)), out


def test_the_first_network_is_sick_for_the_stated_reasons_and_the_second_is_healthy(shown) -> None:
    _, (sick, well), _ = shown
    assert {f.code for f in sick.findings if f.severity == "error"} == {"UG101", "UG303"}
    assert well.ok


def test_the_figures_printed_are_those_measured(shown) -> None:
    text, (sick, well), out = shown
    for report in (sick, well):
        loss = report.record.facts.loss.value
        assert f"{loss:.4f}" in text
        assert f"{report.record.value('activation', 'tanh', 'saturated'):.0%}" in text
    assert f"{math.log(27):.4f}" in text
    assert str(out) in text  # in one piece, brackets and all
    assert out.stat().st_size > 10_000


def test_both_networks_see_the_same_batches() -> None:
    names = demo.load_names()
    sick = demo._contender("", "char_mlp_original", names.train)
    well = demo._contender("", "char_mlp_tanh", names.train)
    for ours, theirs in ((sick.first, well.first), (next(sick.batches), next(well.batches))):
        assert ours[0].equal(theirs[0])
        assert ours[1].equal(theirs[1])


def test_the_names_sampled_are_the_same_each_time(shown, tmp_path) -> None:
    def names(text: str) -> list[str]:
        lines = text.splitlines()
        return [lines[i + 1] for i, line in enumerate(lines) if line.startswith("Names from")]

    again = names(show(str(tmp_path / "again.html"))[0])
    assert len(again) == 2
    assert names(shown[0]) == again
