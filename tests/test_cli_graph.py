"""check --graph: what was understood of a model, as text, as JSON, and without checking anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unitgain.cli import main

MODEL = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
    def forward(self, x):
        return x + torch.relu(self.norm(self.conv(x)))

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Block(), nn.Flatten(), nn.Linear(256, 5))
"""
ASK = ["check", "m.py:net", "--shape", "2,3,8,8", "--graph"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(MODEL)
    return tmp_path


def test_the_graph_names_weights_norms_branches_and_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ASK) == 0
    shown = capsys.readouterr().out
    assert "3 weights, 1 norm, 1 residual branch" in shown
    assert "output: 3" in shown
    assert "(2, 4, 8, 8)" in shown
    assert "UG" not in shown
    assert "healthy" not in shown


def test_json_holds_what_the_text_shows(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert main([*ASK, "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [w["name"] for w in printed["weights"]] == ["0", "1.conv", "3"]
    assert [(n["name"], n["fed_by"]) for n in printed["norms"]] == [("1.norm", "1.conv")]
    assert len(printed["branches"]) == 1
    assert printed["outputs"] == ["3"]
    assert main([*ASK, "--json", "graph.json"]) == 0
    assert json.loads((here / "graph.json").read_text()) == printed


@pytest.mark.parametrize(
    "option", [["--steps", "5"], ["--lr", "0.1"], ["--optimizer", "adam"], ["--record", "r.sqlite"]]
)
def test_an_option_that_means_nothing_beside_graph_is_refused_by_name(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASK, *option]) == 2
    error = capsys.readouterr().err
    assert option[0] in error
    assert "--graph" in error
    assert len(error.strip().splitlines()) == 1
