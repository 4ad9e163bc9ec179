"""The tables of the Fashion-MNIST recipe can be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import fashion_mnist as targets
import fashion_mnist_rates as rates
from unitgain.data import ImageSplit
from unitgain.recipes import fashion_mnist
from unitgain.recipes.fashion_mnist import Images


@pytest.fixture(autouse=True)
def images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten classes that brightness tells apart, in place of the data set."""
    y = torch.arange(1024) % 10
    x = torch.randn(1024, 1, 28, 28) + y.view(-1, 1, 1, 1) / 3
    found = Images(ImageSplit(x, y), ImageSplit(x[:200], y[:200]))
    monkeypatch.setattr(fashion_mnist, "load", lambda config: found)


@pytest.mark.slow
def test_suggested_rates_stand_beside_hand_picked_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rates.md"
    monkeypatch.setattr(rates, "SEEDS", {3: 12, 7: 3})
    monkeypatch.setattr(sys, "argv", ["fashion_mnist_rates.py", "--short", "--out", str(out)])
    assert rates.main() == 0
    rows = [
        line for line in out.read_text(encoding="utf-8").splitlines() if line.startswith(("| 3 |", "| 7 |"))
    ]
    assert len(rows) == 2


def test_accuracy_and_time_of_the_default_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "default.md"
    arguments = [
        "fashion_mnist.py",
        "--short",
        "--default-seeds",
        "1",
        "--best-seeds",
        "0",
        "--out",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    assert targets.main() == 0
    assert "| 0 |" in out.read_text(encoding="utf-8")
