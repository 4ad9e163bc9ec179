"""SmallResNet: one pre-activation ResNet for small images with BatchNorm, normalizer-free, or without any
normalization.

    h' = shortcut + branch(act(norm(h)))                    with BatchNorm (He et al. 2016, arXiv 1603.05027)
    h' = shortcut + alpha gain branch(act(h) / beta)        normalizer-free (Brock et al. 2021, arXiv 2101.08692)

A branch is two 3x3 convolutions with a (norm and) ReLU between them; the shortcut is h, or a strided 1x1 convolution of
the input of the branch where stride or channels change. Same convolutions, strides and order in all variants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError
from ..nn import ScaledStdConv2d, expected_stds

Variant = Literal["batchnorm", "normfree", "bare"]


class SmallResNet(nn.Module):
    """Images (B, in_channels, H, W) -> logits (B, num_classes).

    variant   "batchnorm"; "normfree": scaled weight standardization, 1/beta in the weights, a learnable skip gain at
              the end of each branch; "bare": the first without its norms, to measure what they cost
    channels  of each stage's blocks; the second and later stages halve height and width, as the stem does
    depths    blocks of each stage
    alpha     of the normalizer-free variant

    Raises InputError for an unknown variant, and for channels and depths of different lengths.

    >>> [sum(p.numel() for p in SmallResNet(v).parameters()) for v in ("batchnorm", "normfree", "bare")]
    [77562, 77757, 77082]
    """

    def __init__(
        self,
        variant: Variant,
        channels: Sequence[int] = (16, 32, 64),
        depths: Sequence[int] = (1, 1, 1),
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        alpha: float = 0.2,
    ):
        super().__init__()
        if variant not in get_args(Variant):
            raise InputError(f"SmallResNet({variant!r}): expected one of {', '.join(get_args(Variant))}")
        if len(channels) != len(depths) or not depths:
            raise InputError(
                f"SmallResNet(channels={channels}, depths={depths}): expected one number for each stage"
            )
        now = channels[0]
        self.stem = _conv(variant, in_channels, now, 3, 2, after_relu=False)
        self.blocks = nn.Sequential()
        for stage, betas in enumerate(expected_stds(depths, alpha)):
            for block, beta in enumerate(betas):
                stride = 2 if block == 0 and stage > 0 else 1
                self.blocks.append(_Block(variant, now, channels[stage], stride, alpha, beta))
                now = channels[stage]
        self.norm = _norm(variant, now)
        self.fc = nn.Linear(now, num_classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.fc(x.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, variant: Variant, channels: int, out: int, stride: int, alpha: float, beta: float):
        super().__init__()
        self.alpha = alpha
        self.norm1, self.norm2 = _norm(variant, channels), _norm(variant, out)
        self.conv1 = _conv(variant, channels, out, 3, stride, beta=beta)
        self.conv2 = _conv(variant, out, out, 3)
        changes = stride > 1 or channels != out
        self.downsample = _conv(variant, channels, out, 1, stride, beta=beta) if changes else None
        self.gain = nn.Parameter(torch.tensor(1.0)) if variant == "normfree" else None

    def forward(self, h: Tensor) -> Tensor:
        x = F.relu(self.norm1(h))
        shortcut = h if self.downsample is None else self.downsample(x)
        x = self.conv2(F.relu(self.norm2(self.conv1(x)), inplace=True))
        return shortcut + x if self.gain is None else torch.addcmul(shortcut, x, self.gain, value=self.alpha)


def _conv(
    variant: Variant,
    channels: int,
    out: int,
    size: int,
    stride: int = 1,
    *,
    beta: float = 1.0,
    after_relu: bool = True,
) -> nn.Module:
    if variant == "normfree":  # a ReLU's gain can be in the weight after it
        gamma = "relu" if after_relu else 1.0
        return ScaledStdConv2d(channels, out, size, stride, size // 2, gamma=gamma, input_scale=1 / beta)
    conv = nn.Conv2d(channels, out, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu" if after_relu else "linear")
    return conv


def _norm(variant: Variant, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if variant == "batchnorm" else nn.Identity()
