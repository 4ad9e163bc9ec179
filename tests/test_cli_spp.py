"""unitgain spp: the picture is written, the numbers printed, mistakes told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from unitgain import Record
from unitgain.cli import main

MODEL = """
import torch
from torch import nn

class Block(nn.Linear):
    def forward(self, x):
        return x + 0.2 * super().forward(torch.relu(x))

class Zero(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.gain = nn.Linear(8, 8), nn.Parameter(torch.zeros(()))
    def forward(self, x):
        return x + self.gain * self.layer(x)

def deep(blocks=3):
    return nn.Sequential(*(Block(8, 8) for _ in range(blocks)))

def zero():
    return nn.Sequential(Zero(), Zero())
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(MODEL)
    return tmp_path


def test_prints_blocks_and_writes_picture_and_record(here, capsys) -> None:
    command = [
        "spp",
        "m.py:deep",
        "--against",
        "m.py:zero",
        "--shape",
        "16,8",
        "--out",
        "s.png",
        "--record",
        "s.sqlite",
    ]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "m.py:deep: average over channels" in out
    assert "stem" in out
    assert "m.py:zero: 2 branches add exactly zero" in err
    assert "plot written: s.png" in err
    assert (here / "s.png").stat().st_size > 1000
    assert len(Record.load(here / "s.sqlite").sites("activation")) == 7


def test_backward_adds_the_gradient(here, capsys) -> None:
    assert main(["spp", "m.py:deep", "--shape", "256,8", "--backward"]) == 0
    assert "gradient^2" in capsys.readouterr().out


def test_calibrated_wiring_takes_the_batch_of_the_command_line(here, capsys) -> None:
    """It was calibrated on noise of its own, or not at all: variances were not one on the batch that was given."""
    command = [
        "spp",
        "nf_resnet_tiny",
        "--set",
        "wiring=calibrated",
        "--shape",
        "16,3,32,32",
        "--record",
        "s.sqlite",
    ]
    assert main(command) == 0
    record = Record.load(here / "s.sqlite")
    frame = record.frame("activation")
    ends = [v for site, v in zip(frame["site"], frame["channel_var"]) if ":branch" in site]
    assert all(0.9 < v < 1.1 for v in ends)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["--shape", "16,8", "--out", "s.html"], "must end in .png, .svg or .pdf"),
        (["--shape", "16,9"], "the model raised"),
        ([], "no batch"),
        (["--shape", "16,8", "--set", "blocks=0"], "no residual sum"),
        (["--shape", "16,8", "--against", "m.py:nothing"], "nothing"),
    ],
)
def test_mistakes_are_one_line(here, capsys, command, words) -> None:
    assert main(["spp", "m.py:deep", *command]) == 2
    _, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
