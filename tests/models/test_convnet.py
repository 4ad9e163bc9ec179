from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from unitgain import InputError
from unitgain.models import convnet


@pytest.mark.parametrize("size", [17, 28, 32])
def test_five_halvings_leave_one_pixel_of_logits(size: int) -> None:
    assert convnet()(torch.zeros(2, 1, size, size)).shape == (2, 10)


def test_layers() -> None:
    model = convnet()
    assert sum(p.numel() for p in model.parameters()) == 30_154
    assert [n for n, _ in model.named_children()][-3:] == ["relu4", "conv5", "flatten"]
    assert [m.out_channels for m in model if isinstance(m, nn.Conv2d)] == [8, 16, 32, 64, 10]


def test_kaiming_gives_every_weight_the_std_of_its_fan_in_and_default_does_not() -> None:
    torch.manual_seed(0)
    kaiming = convnet(init="kaiming")
    for conv in (m for m in kaiming if isinstance(m, nn.Conv2d)):
        want = math.sqrt(2 / (conv.in_channels * 9))
        assert abs(float(conv.weight.detach().std()) / want - 1) < 4 / math.sqrt(2 * conv.weight.numel())
    default = convnet()
    assert default.conv4.weight.std() < 0.5 * math.sqrt(2 / (32 * 9))


@pytest.mark.parametrize(
    "options", [{"num_classes": 0}, {"in_channels": 1.5}, {"widths": (8, -1)}, {"init": "magic"}]
)
def test_impossible_options_are_refused(options) -> None:
    with pytest.raises(InputError, match=f"convnet: {next(iter(options))}"):
        convnet(**options)
