"""A ReLU in front of a global average, as SqueezeNet ends, is no ReLU on logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unitgain as ug


def net(*end: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 10, 1), nn.ReLU(), *end)


@pytest.mark.parametrize(
    ("end", "severity"),
    [
        ((nn.AdaptiveAvgPool2d(1), nn.Flatten()), "info"),
        ((nn.AvgPool2d(14), nn.Flatten(), nn.ReLU()), "warning"),  # another one behind the average
    ],
)
def test_only_a_relu_that_single_scores_pass_is_an_alarm(end, severity) -> None:
    batch = torch.randn(32, 3, 16, 16), torch.randint(10, (32,))
    report = ug.check(net(*end), batch, F.cross_entropy, select=["UG115"])
    assert [f.severity for f in report.findings] == [severity]
