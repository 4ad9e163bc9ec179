"""Lets the tests of this folder import their networks, and fills big ones quickly: their weights do not matter here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def constant_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(tensor: Tensor, *_: object, **__: object) -> Tensor:
        with torch.no_grad():
            return tensor.fill_(0.02)

    for name in (
        "normal_",
        "uniform_",
        "kaiming_normal_",
        "kaiming_uniform_",
        "trunc_normal_",
        "xavier_uniform_",
    ):
        monkeypatch.setattr(nn.init, name, fill)
