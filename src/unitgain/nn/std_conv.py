"""Plain weight standardization, to go with GroupNorm."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from .._base import InputError
from .padding import Padding, padded, set_padding


def _standardized(weight: Tensor, eps: float) -> Tensor:
    rows = weight.flatten(1)
    rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    centred = rows - rows.mean(1, keepdim=True)
    std = torch.linalg.vector_norm(centred, dim=1, keepdim=True) * rows.shape[1] ** -0.5
    return (centred / (std + eps)).to(weight.dtype).view_as(weight)


torch.fx.wrap("_standardized")  # one step of a traced graph: it asks for the weight's type


class StdConv2d(nn.Conv2d):
    """A convolution with weight (W - mean) / (std + eps) per output channel: (B, C, H, W) -> (B, O, H', W').

    Mean and biased std over C/groups x kernel weights, in float32 for half-precision weights. No gain and no
    division by sqrt(fan_in): a GroupNorm or BatchNorm has to follow. padding as in ScaledStdConv2d, others
    as torch.nn.Conv2d; no bias by default.

    eps is outside the root, as in the paper (timm adds 1e-6 to the variance). The gradient is finite for constant
    rows, unlike that of the root of a variance.

    Source: Qiao et al. 2019 (arXiv 1903.10520).

    >>> layer = StdConv2d(8, 4, 3, padding="same")
    >>> w = layer.standardized_weight()
    >>> w.std((1, 2, 3), correction=0).round(decimals=3)
    tensor([1., 1., 1., 1.], grad_fn=<RoundBackward1>)
    """

    same: bool

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Padding = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        eps: float = 1e-5,
        **options: Any,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias, **options)
        if self.weight[0].numel() < 2:
            raise InputError(
                "StdConv2d: each output depends on a single weight, and one number minus its mean is 0"
            )
        if not eps >= 0:
            raise InputError(f"StdConv2d: eps is {eps}; expected a number of at least 0")
        self.eps = eps
        set_padding(self, padding)

    def standardized_weight(self) -> Tensor:
        """The weight that the layer works with."""
        return _standardized(self.weight, self.eps)

    def forward(self, input: Tensor) -> Tensor:
        if self.same:
            input = padded(self, input)
        return self._conv_forward(input, self.standardized_weight(), self.bias)
