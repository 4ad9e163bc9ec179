"""unitgain normfree: the folder that it writes can be used, and mistakes are told in one line."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from unitgain.cli import main

MODEL = """
import torch
from torch import nn

def net(channels=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))
"""
BATCH = ["--shape", "4,3,8,8"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(MODEL)
    return tmp_path


@pytest.mark.parametrize(
    "command", [["convert"], ["convert", "--mode", "preserve"], ["fold"]], ids=["train", "preserve", "fold"]
)
def test_the_written_program_makes_the_converted_network(
    here: Path, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["normfree", *command, "m.py:net", "--set", "channels=6", *BATCH, "--out", "made"]) == 0
    assert "1 batch norms" in capsys.readouterr().out
    assert "<h2>Norms</h2>" in (here / "made" / "report.html").read_text()
    report = json.loads((here / "made" / "report.json").read_text())
    assert report["batch_norms"] == [1, 0]
    monkeypatch.chdir(here / "made")  # it found its network from the folder of the command only
    model = runpy.run_path("model.py")["make_model"]()
    monkeypatch.chdir(here)
    assert not any("BatchNorm" in type(m).__name__ for m in model.modules())
    assert main(["check", "made/model.py:make_model", *BATCH, "--fail-on", "never"]) == 0
    if command == ["fold"]:
        assert not any(type(m).__module__.startswith("unitgain") for m in model.modules())
        original = runpy.run_path("m.py")["net"](6).eval()
        x = torch.randn(2, 3, 8, 8)
        with torch.no_grad():
            assert torch.allclose(model.eval()(x), original(x), atol=1e-5)


def test_a_short_training_on_half_of_a_file_is_in_the_report(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("b.npz", x=np.random.default_rng(0).normal(size=(32, 3, 8, 8)).astype("f4"), y=np.arange(32) % 2)
    assert main(["normfree", "convert", "m.py:net", "--data", "b.npz", "--steps", "4", "--out", "made"]) == 0
    assert "4 steps of SGD on half of the batch" in capsys.readouterr().out
    assert len(json.loads((here / "made" / "report.json").read_text())["training"]["arms"]) == 3


def test_audit_prints_and_writes_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--batches", "4,8", "--json", "a.json", "--out", "audit"]
    assert main(["normfree", "audit", "m.py:net", *BATCH, *arguments]) == 0
    assert "batch normalization runs 1 times" in capsys.readouterr().out
    assert "<h2>Batch sizes</h2>" in (here / "audit" / "report.html").read_text()
    assert (here / "audit" / "report.json").read_text() == (here / "a.json").read_text()
    assert len(json.loads((here / "a.json").read_text())["sizes"]) == 2


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["fold", "m.py:net", *BATCH, "--out", "m.py"], "exists and is not an empty folder"),
        (["fold", "m.py:net", *BATCH, "--out", "no/where"], "create it first"),
        (["fold", "m.py:net", "--shape", "1,3,8,8"], "at least two"),
        (["audit", "m.py:net", *BATCH, "--batches", "4;8"], "--batches 4;8"),
        (["audit", "m.py:net", *BATCH, "--out", "m.py"], "exists and is not an empty folder"),
        (["convert", "m.py:net", *BATCH, "--steps", "8"], "no loss to train on"),
        (["convert", "m.py:net", *BATCH, "--loss", "mse"], "add --steps 50"),
        (["convert", "m.py:net", *BATCH, "--mode", "melt"], "melt"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(
    here: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["normfree", *arguments]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize("command", [["audit"], ["convert"], ["convert", "--mode", "preserve"], ["fold"]])
def test_a_batch_that_does_not_fit_is_one_line(
    here: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """convert and fold called it a defect of unitgain."""
    assert main(["normfree", *command, "m.py:net", "--set", "channels=6", "--shape", "4,5,8,8"]) == 2
    assert "the model raised" in capsys.readouterr().err
