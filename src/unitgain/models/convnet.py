"""The five-convolution network for 28x28 images: each halves the image until one pixel of logits is left.

Source: J. Howard, "Practical Deep Learning for Coders" part 2, lesson 17 (fast.ai), where it shows on
Fashion-MNIST what initialization, normalization and the optimizer each contribute.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from .._base import InputError
from ._entry import Entry, arguments_of

WIDTHS = (8, 16, 32, 64)


def convnet(
    num_classes: int = 10,
    in_channels: int = 1,
    widths: Sequence[int] = WIDTHS,
    init: Literal["default", "kaiming"] = "default",
) -> nn.Sequential:
    """Images (B, in_channels, H, W) -> logits (B, num_classes), for H and W from 17 to 32.

    3x3 convolutions of stride 2 and padding 1, channels in_channels-8-16-32-64-num_classes, ReLU between
    them, flatten. In general n widths need images of 2^n + 1 to 2^(n+1) pixels a side.

    init: "default" leaves torch's initialization; "kaiming" draws every weight from a normal distribution of
    std sqrt(2 / fan_in) (He et al. 2015) and does not change the biases. Both use torch's global random state.

    >>> sum(p.numel() for p in convnet().parameters())
    30154
    """
    for name, size in (
        ("num_classes", num_classes),
        ("in_channels", in_channels),
        *(("widths", w) for w in widths),
    ):
        if not isinstance(size, int) or size < 1:
            raise InputError(f"convnet: {name} is {size!r}; expected a whole number of at least 1")
    if init not in ("default", "kaiming"):
        raise InputError(f"convnet: init is {init!r}; expected default or kaiming")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = (in_channels, *widths, num_classes)
    for i, (before, after) in enumerate(pairwise(channels), start=1):
        conv = nn.Conv2d(before, after, 3, stride=2, padding=1)  # (B, after, H/2, W/2), rounded up
        if init == "kaiming":
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers[f"conv{i}"] = conv
        if i < len(channels) - 1:
            layers[f"relu{i}"] = nn.ReLU()
    layers["flatten"] = nn.Flatten()  # (B, num_classes)
    return nn.Sequential(layers)


ENTRIES = {"convnet": Entry(convnet, arguments_of(convnet), "five stride-2 convolutions for 28x28 images")}
