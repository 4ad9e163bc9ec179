"""What is left of a BatchNorm whose statistics are frozen: a scale and a shift per channel.

With frozen statistics BatchNorm computes, per channel, s x + t with s = weight / sqrt(var + eps) and
t = bias - s mean. Where a convolution stands before it, s can be applied to the convolution's weight instead
(`FrozenScale`): the same function and the same gradients as the frozen BatchNorm at the cost of a plain convolution.
Kept apart from the weight, because a step on the product s W is s^2 times the step that W itself would make, which is
what makes training on folded weights unstable. Source: "Efficient ConvBN blocks" (arXiv 2305.11624).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelAffine(nn.Module):
    """weight * inverse_std * x + bias, per channel: (N, C, *) in and out.

    channels     C
    weight, bias     (C,), trained
    inverse_std      (C,), a buffer: 1 / sqrt(var + eps) of the BatchNorm that it stands for, else ones

    >>> layer = ChannelAffine(3)
    >>> x = torch.randn(2, 3, 4, 4)
    >>> torch.equal(layer(x), x), sorted(layer.state_dict())
    (True, ['bias', 'inverse_std', 'weight'])
    """

    inverse_std: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("inverse_std", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # channels last: the number of axes, unknown while torch.fx traces, is not needed, and the memory format stays
        scale = (self.weight * self.inverse_std).to(x.dtype)
        return torch.addcmul(self.bias.to(x.dtype), x.movedim(1, -1), scale).movedim(-1, 1)

    def extra_repr(self) -> str:
        return f"{self.channels}"


class FrozenScale(nn.Module):
    """A parametrization: weight -> gain * inverse_std * weight, by output channel.

    channels     C, of the layer's output
    gain         (C,), trained: the BatchNorm's weight
    inverse_std  (C,), a buffer
    axis         of the output channels in the weight; a transposed convolution's is 1 ...
    groups       ... with this many groups of channels along axis 0

    >>> from torch.nn.utils import parametrize
    >>> layer = nn.Linear(4, 2)
    >>> _ = parametrize.register_parametrization(layer, "weight", FrozenScale(2))
    >>> with torch.no_grad(): _ = layer.parametrizations.weight[0].gain.fill_(3.0)
    >>> torch.equal(layer.weight, 3 * layer.parametrizations.weight.original)
    True
    """

    inverse_std: Tensor

    def __init__(self, channels: int, axis: int = 0, groups: int = 1):
        super().__init__()
        self.axis, self.groups = axis, groups
        self.gain = nn.Parameter(torch.ones(channels))
        self.register_buffer("inverse_std", torch.ones(channels))

    def forward(self, weight: Tensor) -> Tensor:
        return scaled_outputs(weight, self.gain * self.inverse_std, self.axis, self.groups)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A weight that is assigned is the one to be scaled."""
        return weight

    def extra_repr(self) -> str:
        return f"{len(self.gain)}"


def scaled_outputs(weight: Tensor, scale: Tensor, axis: int = 0, groups: int = 1) -> Tensor:
    """The weight with what feeds each output channel multiplied by its number.

    weight  (C, ...) with axis 0; a transposed convolution's is (in, C / groups, ...), with axis 1
    scale   (C,)

    >>> scaled_outputs(torch.ones(2, 3), torch.tensor([1.0, 2.0])).sum(1)
    tensor([3., 6.])
    """
    if axis == 0:
        return weight * scale.view(-1, *[1] * (weight.dim() - 1)).to(weight.dtype)
    parts = weight.unflatten(0, (groups, -1))  # (g, in / g, C / g, ...)
    factors = scale.view(groups, 1, -1, *[1] * (weight.dim() - 2)).to(weight.dtype)
    return (parts * factors).flatten(0, 1)


class BranchScale(nn.Module):
    """alpha * gain * x: the end of a residual branch without normalization; gain is one learnable number.

    alpha  constant: what a branch of variance 1 adds to the variance of the stream is alpha^2
    gain   where the learnable scalar starts

    >>> BranchScale(0.2)(torch.ones(2))
    tensor([0.2000, 0.2000], grad_fn=<MulBackward0>)

    Sources: Brock et al. 2021 (arXiv 2101.08692) for alpha; De and Smith 2020 (arXiv 2002.10444) for the scalar.
    """

    def __init__(self, alpha: float, gain: float = 1.0):
        super().__init__()
        self.alpha = alpha
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.alpha * self.gain).to(x.dtype)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"


class NormalizedRows(nn.Module):
    """A parametrization for depthwise kernels: weight -> gain * scale * weight / norm, by output channel.

    Scaled by their norm only: with its mean removed too, a depthwise kernel answers nothing to a constant input, and of
    natural images most of the signal is lost (a variance of 0.15 of what comes in for 3x3 kernels).

    scale  a 0-dim buffer, set from data; gain (C, 1, ...), trained

    >>> rows = NormalizedRows((4, 1, 3, 3))(torch.randn(4, 1, 3, 3)).detach()
    >>> rows.flatten(1).norm(dim=1).round(decimals=3)
    tensor([1., 1., 1., 1.])
    """

    scale: Tensor

    def __init__(self, shape: tuple[int, ...], gamma: float = 1.0, eps: float = 1e-4):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(shape[0], *[1] * (len(shape) - 1)))
        self.register_buffer("scale", torch.tensor(float(gamma)))

    def forward(self, weight: Tensor) -> Tensor:
        wide = weight if weight.dtype.itemsize >= 4 else weight.float()
        axes = tuple(range(1, weight.dim()))
        inverse = wide.square().sum(axes, keepdim=True).clamp_min(self.eps**2).rsqrt()
        return (wide * (inverse * (self.gain * self.scale))).to(weight.dtype)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A weight that is assigned is the one to be scaled."""
        return weight
