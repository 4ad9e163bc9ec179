"""LayerNorm, InstanceNorm, GroupNorm and the whole-layer norm, written as their formulas.

All do the same thing to different sets of values: subtract the set's mean, divide by sqrt(variance + eps) with
the biased variance, then apply a gain and a bias.

    letters: N examples, C channels, * any positions (none, length, height x width, ...)

    BatchNorm       (N, C, *)   one set per channel: over N and *        (batchnorm.py)
    InstanceNorm    (N, C, *)   one set per example and channel: over *
    GroupNorm       (N, C, *)   one set per example and group of channels
    LayerNorm       (*, shape)  one set per position: over the last dimensions
    WholeLayerNorm  (N, *)      one set per example: over everything else

Outputs, gradients, buffers and state-dict keys equal torch.nn's. Deviation: one class serves any number of
positions where torch has 1d, 2d and 3d. `subtracts_mean` says whose mean is removed: "channel", "group" or "layer".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._base import InputError


def wide(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32: a mean over many values needs the precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def standardize(x: Tensor, dims: Sequence[int], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps), mean and biased variance over dims, which they keep with size 1."""
    dims = tuple(dims)
    mean = x.mean(dims, keepdim=True)
    centered = x - mean
    variance = centered.square().mean(dims, keepdim=True)
    return centered * (variance + eps).rsqrt(), mean, variance


def per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), to go with x of shape (N, C, *)."""
    return parameter.view(1, -1, *[1] * (x.dim() - 2))


def check_channels(norm: str, x: Tensor, channels: int) -> None:
    if x.dim() < 2 or x.shape[1] != channels:
        raise InputError(
            f"{norm}: the input has shape {tuple(x.shape)}; expected (N, {channels}, *) with channels on axis 1"
        )


def check_arguments(norm: str, eps: float, **sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise InputError(f"{norm}: {name} is {size!r}; expected a whole number of at least 1")
    if not eps >= 0:
        raise InputError(f"{norm}: eps is {eps}; expected a number of at least 0")


class _Norm(nn.Module):
    """Gain `weight` (from 1) and bias `bias` (from 0) of some shape, or None for both or the second."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def _parameters_of(self, shape: Sequence[int], affine: bool, bias: bool = True) -> None:
        self.register_parameter("weight", nn.Parameter(torch.ones(tuple(shape))) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(tuple(shape))) if affine and bias else None)

    def _running_statistics(self, channels: int, kept: bool) -> None:
        """The buffers of torch's norms, which InstanceNorm's has too, though it never counts batches."""
        starts = {"running_mean": torch.zeros(channels), "running_var": torch.ones(channels)}
        for name, start in {**starts, "num_batches_tracked": torch.tensor(0)}.items():
            self.register_buffer(name, start if kept else None)

    def reset_parameters(self) -> None:
        """Gain 1 and bias 0."""
        for parameter, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if parameter is not None:
                nn.init.constant_(parameter, value)

    def _scaled(self, standardized: Tensor, dtype: torch.dtype, channels: bool) -> Tensor:
        if self.weight is not None:
            standardized = standardized * (
                per_channel(self.weight, standardized) if channels else self.weight
            )
        if self.bias is not None:
            standardized = standardized + (per_channel(self.bias, standardized) if channels else self.bias)
        return standardized.to(dtype)


class LayerNorm(_Norm):
    """Normalizes the last dimensions of every position: (*, normalized_shape) in and out.

    normalized_shape    their sizes (a number for one); gain and bias have this shape
    eps                 added to the variance, inside the root
    elementwise_affine  False: no gain and no bias; bias=False: only a gain

    >>> y = LayerNorm(3, elementwise_affine=False)(torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    >>> y.round(decimals=3)
    tensor([[-1.2250,  0.0000,  1.2250],
            [-1.2250,  0.0000,  1.2250]])

    Source: Ba, Kiros and Hinton 2016 (arXiv 1607.06450).
    """

    subtracts_mean = "layer"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        if not shape:
            raise InputError("LayerNorm: normalized_shape is empty; give at least one size")
        check_arguments("LayerNorm", eps, **{f"normalized_shape[{i}]": n for i, n in enumerate(shape)})
        self.normalized_shape, self.eps = shape, eps
        self._parameters_of(shape, elementwise_affine, bias)

    def forward(self, x: Tensor) -> Tensor:
        k = len(self.normalized_shape)
        if tuple(x.shape[-k:]) != self.normalized_shape:
            raise InputError(
                f"LayerNorm: the input has shape {tuple(x.shape)}; its last sizes should be {self.normalized_shape}"
            )
        y, _, _ = standardize(wide(x), range(-k, 0), self.eps)
        return self._scaled(y, x.dtype, channels=False)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, affine={self.weight is not None}"


class WholeLayerNorm(_Norm):
    """Normalizes every example as a whole, (N, *), with one gain and one bias for the layer.

    Source: J. Howard, "Practical Deep Learning for Coders" part 2, lesson 17 (fast.ai), whose convolutional
    network uses it as its LayerNorm. Deviation: the biased variance, as in every norm here.

    >>> y = WholeLayerNorm()(torch.randn(2, 8, 4, 4))
    >>> sum(p.numel() for p in WholeLayerNorm().parameters()), y.mean((1, 2, 3)).abs().max().item() < 1e-6
    (2, True)
    """

    subtracts_mean = "layer"

    def __init__(self, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        check_arguments("WholeLayerNorm", eps)
        self.eps = eps
        self._parameters_of((), affine)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise InputError(f"WholeLayerNorm: the input has shape {tuple(x.shape)}; expected (N, *)")
        y, _, _ = standardize(wide(x), range(1, x.dim()), self.eps)
        return self._scaled(y, x.dtype, channels=False)

    def extra_repr(self) -> str:
        return f"eps={self.eps}, affine={self.weight is not None}"


class GroupNorm(_Norm):
    """Normalizes groups of channels of every example: (N, C, *) in and out.

    num_groups    groups that the channels are split into, in order; 1 is a layer norm, C an instance norm
    num_channels  C; gain and bias have one number per channel
    eps, affine   as in LayerNorm

    Source: Wu and He 2018 (arXiv 1803.08494).

    >>> GroupNorm(2, 6)(torch.randn(4, 6, 5, 5)).shape
    torch.Size([4, 6, 5, 5])
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        check_arguments("GroupNorm", eps, num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise InputError(
                f"GroupNorm: {num_channels} channels do not split into {num_groups} equal groups; "
                f"take a divisor such as {math.gcd(num_groups, num_channels)}"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self._parameters_of((num_channels,), affine)

    @property
    def subtracts_mean(self) -> str:
        return "channel" if self.num_groups == self.num_channels else "group"

    def forward(self, x: Tensor) -> Tensor:
        check_channels("GroupNorm", x, self.num_channels)
        grouped = wide(x).reshape(len(x), self.num_groups, self.num_channels // self.num_groups, *x.shape[2:])
        if grouped[:1, :1].numel() == 1:
            raise InputError(
                f"GroupNorm: the input has shape {tuple(x.shape)}, one value per group, whose variance is 0; expected "
                "more positions or fewer groups"
            )
        y, _, _ = standardize(grouped, range(2, grouped.dim()), self.eps)  # over C/G and positions
        return self._scaled(y.reshape(x.shape), x.dtype, channels=True)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


class InstanceNorm(_Norm):
    """Normalizes every channel of every example over its positions: (N, C, *) in and out.

    num_features         C
    eps, affine          as in LayerNorm, but without gain and bias by default, like torch's
    track_running_stats  keep averages of mean and unbiased variance (over the batch's examples), with which
                         eval mode normalizes; momentum is the weight of the newest

    A single position has no variance: in training mode InputError is raised.
    Source: Ulyanov, Vedaldi and Lempitsky 2016 (arXiv 1607.08022).

    >>> InstanceNorm(3)(torch.randn(2, 3, 16)).std(2, correction=0).round(decimals=3)
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ):
        super().__init__()
        check_arguments("InstanceNorm", eps, num_features=num_features)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.track_running_stats = track_running_stats
        self._parameters_of((num_features,), affine)
        self._running_statistics(num_features, track_running_stats)

    @property
    def subtracts_mean(self) -> str | None:
        """None in eval mode with running statistics: then a constant is subtracted."""
        return "channel" if self.training or not self.track_running_stats else None

    def forward(self, x: Tensor) -> Tensor:
        check_channels("InstanceNorm", x, self.num_features)
        positions = x[0, 0].numel() if len(x) else 0
        if not self.training and self.running_mean is not None and self.running_var is not None:
            y = wide(x) - per_channel(self.running_mean, x)
            y = y * (per_channel(self.running_var, x) + self.eps).rsqrt()
            return self._scaled(y, x.dtype, channels=True)
        if x.dim() < 3 or (self.training and positions == 1):
            raise InputError(
                f"InstanceNorm: the input has shape {tuple(x.shape)}, one position per channel, whose variance is 0; "
                "expected more than one"
            )
        y, mean, variance = standardize(wide(x), range(2, x.dim()), self.eps)
        if self.training and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                unbiased = variance.reshape(x.shape[:2]).mean(0) * (positions / (positions - 1))
                self.running_mean.lerp_(
                    mean.reshape(x.shape[:2]).mean(0).to(self.running_mean.dtype), self.momentum
                )
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        return self._scaled(y, x.dtype, channels=True)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"
        )
