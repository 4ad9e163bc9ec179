"""Batches on the command line: from files and shapes, and for models that take their targets themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unitgain import InputError
from unitgain.cli import main
from unitgain.targets import load_batch

MODELS = """
import torch
import torch.nn.functional as F
from torch import nn

class LM(nn.Module):
    '''As nanoGPT: without targets, the last position alone.'''
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
    def forward(self, idx, targets=None):
        logits = self.head(self.embed(idx))
        if targets is None:
            return logits[:, [-1]], None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

class Last(LM):
    '''Takes no targets at all.'''
    def forward(self, idx):
        return self.head(self.embed(idx))[:, [-1]]

class Own(nn.Linear):
    def forward(self, x, labels=None):
        logits = super().forward(x)
        return {"logits": logits, "loss": None if labels is None else F.cross_entropy(logits, labels)}

class Two(nn.Linear):
    def forward(self, a, b):
        return super().forward(a + b)

def own(): return Own(4, 3)
def two(): return Two(4, 3)
def plain(): return nn.Linear(4, 3)
def one(): return nn.Linear(4, 1)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(MODELS)
    return tmp_path


def checked(capsys, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    code = main(["check", *arguments, "--json", "-", "--fail-on", "never"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)["meta"]["facts"]


X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
Y = np.arange(32) % 3
FILES = {
    "an input": ("plain", {"x": X}, None),
    "inputs and targets": ("plain", {"x": X, "y": Y}, "cross_entropy"),
    "arguments by name": ("own", {"x": X, "labels": Y}, "the model's own"),
    "a target that the model takes itself": ("own", {"x": X, "y": Y}, "the model's own"),
    "several inputs by name": ("two", {"a": X, "b": X}, None),
    "tokens and targets": ("LM", {"x": np.arange(40).reshape(8, 5) % 11, "y": np.arange(40).reshape(8, 5) % 11},
                           "the model's own"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_the_same_batch_in_python_is(here: Path, capsys, name: str) -> None:
    model, arrays, loss = FILES[name]
    np.savez(here / "b.npz", **arrays)
    facts = checked(capsys, f"m.py:{model}", "--data", "b.npz")
    assert facts.get("loss", {}).get("name") == loss
    for command in (["fix", f"m.py:{model}", "--data", "b.npz", "--dry-run", "--fail-on", "never"],):
        assert main(command) == 0


@pytest.mark.parametrize("loss", ["auto", "cross_entropy"])
def test_a_language_model_that_returns_one_position_has_a_loss_and_no_rate_is_made_up(
    here, capsys, loss: str
) -> None:
    """It was given targets of one class: loss 0, healthy, and told to raise its rate to 0.4."""
    for model in ("LM", "Last") if loss != "auto" else ("LM",):
        shape = ["--shape", "16,9", "--tokens", "11"]
        facts = checked(capsys, f"m.py:{model}", *shape, "--loss", loss, "--steps", "3")
        assert facts["loss"]["value"] == pytest.approx(math.log(11), rel=0.2)
        assert facts["loss"]["kind"] == "cross_entropy"
        assert facts["target"]["classes"] == 11
        assert facts["gradients"]["reached"] == facts["gradients"]["of"]


def test_one_output_is_no_classes(here, capsys) -> None:
    assert main(["check", "m.py:one", "--shape", "8,4", "--loss", "cross_entropy"]) == 2
    error = capsys.readouterr().err
    assert "--loss cross_entropy: the model's output of shape (8, 1) holds one class" in error
    assert "bce_with_logits" in error
    assert len(error.strip().splitlines()) == 1


def test_a_loss_by_name_without_targets_is_refused_and_not_ignored(here, capsys) -> None:
    np.savez(here / "b.npz", x=X)
    assert main(["check", "m.py:plain", "--data", "b.npz", "--loss", "mse"]) == 2
    assert "loss mse: the batch holds nothing to compare with" in capsys.readouterr().err


class Positions(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(tokens), *self.shape)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (Positions(9, 11), "16,9", (16, 9)),
        (Positions(1, 11), "16,9", (16, 1)),
        (Positions(11), "16,9", (16,)),
        (Positions(11, 4), "16,9", (16, 4)),
        (Positions(11), "16", (16,)),
    ],
)
def test_targets_have_the_shape_of_what_the_model_says_something_about(
    model, shape: str, expected: tuple
) -> None:
    _, targets = load_batch(model, shape=shape, tokens=11, loss="cross_entropy")
    assert tuple(targets.shape) == expected
    assert 0 <= int(targets.min()) <= int(targets.max()) < 11


def test_one_class_is_never_drawn() -> None:
    with pytest.raises(InputError, match="holds one class, over which this loss is 0"):
        load_batch(Positions(1), shape="16,9", tokens=11, loss="cross_entropy")
