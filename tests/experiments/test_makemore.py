"""The lecture's loop restated is the recipe's training, and the tables of rates and speed can be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import small_runs
import torch

import makemore as experiment
from makemore_plain import PlainLoop
from unitgain.data import load_names
from unitgain.recipes import makemore


@pytest.fixture
def names(tmp_path: Path) -> str:
    return small_runs.few_names(tmp_path)


@pytest.mark.parametrize("variant", ["softmax", "tanh", "kaiming", "batchnorm"])
def test_the_plain_loop_is_the_same_training(variant: str, names: str) -> None:
    settings = small_runs.config(names, variant=variant, steps=200, drop_at=200, every=0)
    data = load_names(names)
    generator = torch.Generator().manual_seed(settings.seed)
    loop = PlainLoop(makemore.make_model(settings, generator), data.train.x, data.train.y, 32, generator)
    losses = small_runs.train(None, settings).record.metric("loss")[1]
    assert float((torch.tensor(loop.run(200, settings.lr)) - torch.from_numpy(losses)).abs().max()) < 1e-4


def test_the_tables_of_rates_and_speed_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "tables.md"
    monkeypatch.setattr(sys, "argv", ["makemore.py", "--short", "--out", str(out)])
    monkeypatch.setattr(experiment, "VARIANTS", ("tanh", "batchnorm"))
    assert experiment.main() == 0
    text = out.read_text(encoding="utf-8")
    assert text.count("| batchnorm |") == 2
    assert "| tanh | yes |" in text, "lr_find leaves the model as it was"
