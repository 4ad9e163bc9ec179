"""unitgain landscape: the picture is written, the numbers printed, mistakes told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unitgain.cli import main

MODEL = """
from torch import nn
def make(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))
def wide():
    return make(16)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    (tmp_path / "m.py").write_text(MODEL)
    np.savez(tmp_path / "train.npz", x=x, y=x[:, :3].argmax(1))
    return tmp_path


def test_two_networks_are_trained_drawn_and_printed(here, capsys) -> None:
    given = ["landscape", "m.py:make", "--against", "m.py:wide", "--data", "train.npz", "--steps", "10"]
    assert main([*given, "--points", "3", "--out", "both.png", "--json", "both.json"]) == 0
    shown = capsys.readouterr().out
    assert "m.py:wide: Loss" in shown
    assert "after 10 steps" in shown
    assert (here / "both.png").stat().st_size > 1000
    body = json.loads((here / "both.json").read_text())["landscapes"]
    assert [(x["model"], x["steps"], len(x["losses"])) for x in body] == [
        ("m.py:make", 10, 3),
        ("m.py:wide", 10, 3),
    ]


def test_json_alone_goes_to_the_standard_output(here, capsys) -> None:
    assert (
        main(["landscape", "m.py:make", "--data", "train.npz", "--dims", "1", "--points", "3", "--json", "-"])
        == 0
    )
    assert len(json.loads(capsys.readouterr().out)["landscapes"][0]["axis"]) == 3


WRONG = [
    (["--points", "4"], "odd number"),
    (["--lr", "0.1"], "--lr"),
    (["--steps", "5", "--optimizer", "adamm"], "did you mean"),
    (["--out", "hills.gif"], "--out hills.gif"),
    (["--span", "-1"], "span"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_a_mistake_is_told_in_one_line(here, capsys, given, said) -> None:
    assert main(["landscape", "m.py:make", "--data", "train.npz", *given]) == 2
    assert said in capsys.readouterr().err


def test_random_input_is_not_trained_on(here, capsys) -> None:
    assert main(["landscape", "m.py:make", "--shape", "8,4", "--steps", "5"]) == 2
    assert "nothing to learn" in capsys.readouterr().err


def test_a_second_network_that_is_not_there_is_told_before_the_first_is_measured(
    here, monkeypatch, capsys
) -> None:
    import unitgain._check as rooms

    monkeypatch.setattr(rooms, "landscape", lambda *_, **__: pytest.fail("minutes were spent on the first"))
    assert main(["landscape", "m.py:make", "--against", "m.py:wied", "--data", "train.npz"]) == 2
    assert "did you mean 'wide'?" in capsys.readouterr().err
