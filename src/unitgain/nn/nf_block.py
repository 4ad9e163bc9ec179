"""The normalizer-free residual block, and the variance that each block is expected to get.

Papers: Brock et al. 2021 (arXiv 2101.08692, arXiv 2102.06171). Reference code: DeepMind's nfnets, timm's nfnet.

    o = activation(h) / beta              beta: std of h. Divided after the activation, as both codes do and
    h' = shortcut + alpha * branch(o)     published weights need (the text has f(h / beta): other for GELU, SiLU)

The shortcut is h itself, or, where stride or channels change, a 1x1 convolution of o, which resets the variance.
Known deviation: 1/beta is not multiplied to o but put into the weights of the two convolutions that read it
(`input_scale`), which does not change the result and saves a pass over the largest tensors. So the output of `act1`
is activation(h), undivided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from .residual import StochasticDepth
from .scaled_std import ScaledStdConv2d


def expected_stds(depths: Sequence[int], alpha: float) -> list[list[float]]:
    """beta of every block, stage by stage: 1 at the start; sqrt(1 + j alpha^2) after j blocks of a stage.

    The input of a stage's first block still has the std that the stage before has reached.

    >>> [[round(1 / b, 6) for b in stage] for stage in expected_stds((1, 2, 6, 3), 0.2)][:2]
    [[1.0], [0.980581, 0.980581]]
    """
    variance, stds = 1.0, []
    for depth in depths:
        stage = []
        for block in range(depth):
            stage.append(variance**0.5)
            variance = (1.0 if block == 0 else variance) + alpha**2
        stds.append(stage)
    return stds


class Shortcut(nn.Module):
    """The shortcut of a transition: (B, C, H, W) -> (B, O, ceil(H/s), ceil(W/s)).

    pool: mean over s x s pixels (those inside the image), then a 1x1 convolution; otherwise a strided 1x1
    convolution. Pooling averages out what differs between neighbouring pixels: the variance becomes
    (1 + 3 rho) / 4 for s = 2 and a correlation of rho between neighbours, 1/4 for white noise.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        pool: bool,
        conv: Callable[..., ScaledStdConv2d],
        input_scale: float,
    ):
        super().__init__()
        self.pool: nn.Module = nn.Identity()
        if pool and stride > 1:
            self.pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            stride = 1
        self.conv = conv(in_channels, out_channels, 1, stride, input_scale=input_scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(x))


_SYMMETRIC = partial(ScaledStdConv2d, padding="symmetric")


class NFBlock(nn.Module):
    """A pre-activation bottleneck without normalization: (B, C, H, W) -> (B, O, ceil(H/s), ceil(W/s)).

    width            channels inside
    stride           of the first 3x3 convolution
    groups           of the 3x3 convolutions
    second_conv      a second 3x3 convolution, as in NFNets
    alpha, beta      see above
    activation       function of "may it work in place" to a module
    conv             like ScaledStdConv2d, with padding, gamma, eps and so on already chosen
    attention        function of a number of channels to a module, or None
    attention_last   after the last convolution, otherwise between the 3x3 and the last one (RegNet)
    skip_gain        a learnable scalar at the end, 0 at first; without it the last convolution's gain starts at 0
    pooled_shortcut  see Shortcut
    drop, rescale    see StochasticDepth

    A block without transition is at first the identity. State-dict keys are timm's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        stride: int = 1,
        groups: int = 1,
        second_conv: bool = False,
        alpha: float = 0.2,
        beta: float = 1.0,
        activation: Callable[[bool], nn.Module],
        conv: Callable[..., ScaledStdConv2d] = _SYMMETRIC,
        attention: Callable[[int], nn.Module] | None = None,
        attention_last: bool = True,
        skip_gain: bool = True,
        pooled_shortcut: bool = True,
        drop: float = 0.0,
        rescale: bool = True,
    ):
        super().__init__()
        self.alpha = alpha
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = Shortcut(in_channels, out_channels, stride, pooled_shortcut, conv, 1 / beta)
        self.act1 = activation(False)
        self.conv1 = conv(in_channels, width, 1, input_scale=1 / beta)
        self.act2 = activation(True)
        self.conv2 = conv(width, width, 3, stride, groups=groups)
        self.act2b = activation(True) if second_conv else None
        self.conv2b = conv(width, width, 3, groups=groups) if second_conv else None
        self.attn = attention(width) if attention and not attention_last else None
        self.act3 = activation(True)
        self.conv3 = conv(width, out_channels, 1, gain=1.0 if skip_gain else 0.0)
        self.attn_last = attention(out_channels) if attention and attention_last else None
        self.drop_path = StochasticDepth(drop, rescale) if drop else nn.Identity()
        self.skipinit_gain = nn.Parameter(torch.tensor(0.0)) if skip_gain else None

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the shortcut, before stochastic depth, skip gain and alpha; x is activation(h)."""
        x = self.conv2(self.act2(self.conv1(x)))
        if self.conv2b is not None and self.act2b is not None:
            x = self.conv2b(self.act2b(x))
        if self.attn is not None:
            x = self.attn(x)
        x = self.conv3(self.act3(x))
        return x if self.attn_last is None else self.attn_last(x)

    def forward(self, h: Tensor) -> Tensor:
        x = self.act1(h)
        shortcut = h if self.downsample is None else self.downsample(x)
        x = self.drop_path(self.branch(x))
        if self.skipinit_gain is not None:
            x = x * self.skipinit_gain
        return torch.add(shortcut, x, alpha=self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"
