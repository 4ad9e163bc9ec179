"""unitgain whatif: from what a person types to a table, a page and numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unitgain.cli import main

MODEL = """
from torch import nn
def make(width=16):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))
"""
FEW = ("--steps", "6", "--seeds", "2")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 4)).astype(np.float32)
    (tmp_path / "m.py").write_text(MODEL)
    np.savez(tmp_path / "train.npz", x=x, y=x[:, :3].argmax(1))
    np.savez(tmp_path / "few.npz", x=x[:6], y=np.arange(6) % 3)
    return tmp_path


def test_a_grid_of_two_knobs_on_a_file_of_ones_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["whatif", "m.py:make", "--data", "train.npz", "--batch", "16", *FEW, "--vary", "gain=1,5/3"]
    given += ["--vary", "norm=none,batch", "--html", "page.html", "--json", "numbers.json"]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "gain=5/3, norm=batch" in shown
    assert "batches of 16" in shown
    body = json.loads((here / "numbers.json").read_text())
    assert len(body["settings"]) == 4
    assert body["command"].startswith("unitgain whatif m.py:make --data train.npz")
    assert body["judged_on"] == "what was held out"
    assert "gain=5/3" in (here / "page.html").read_text()


def test_json_alone_goes_to_the_standard_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", "m.py:make", "--data", "train.npz", *FEW, "--vary", "lr=0.1", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["vary"] == {"lr": ["0.1"]}


WRONG = [
    (["--vary", "gain"], "knob=value"),
    (["--vary", "gian=1"], "did you mean 'gain'"),
    (["--vary", "gain=1", "--vary", "gain=2"], "given twice"),
    (["--vary", "norm=instance"], "norm=instance"),
    (["--vary", "lr=1", "--optimizer", "adamm"], "did you mean"),
    (["--vary", "lr=1", "--html", "page.txt"], "--html page.txt"),
    (["--vary", "lr=1", "--lr", "0"], "--lr 0"),
    ([], "--vary"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_line(
    here: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whatif", "m.py:make", "--data", "train.npz", *FEW, *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert words in shown.err


@pytest.mark.parametrize("given", [["--shape", "8,4"], ["--data", "few.npz"], [], ["--dataset", "mnist"]])
def test_what_nothing_can_be_learnt_from_is_refused(here: Path, given: list[str], capsys) -> None:
    assert main(["whatif", "m.py:make", *given, "--vary", "lr=0.1", *FEW]) == 2
    assert capsys.readouterr().err.count("\n") == 1
