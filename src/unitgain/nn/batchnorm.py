"""BatchNorm, written as its formula."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .._base import InputError
from .norms import _Norm, check_arguments, check_channels, per_channel, standardize, wide


class BatchNorm(_Norm, _BatchNorm):
    """Normalizes every channel over the batch and all positions: (N, C, *) in and out.

        training:  y = (x - mean) / sqrt(var + eps) * weight + bias     mean and biased var of this batch, per channel
                   running_mean <- lerp(running_mean, mean, momentum)
                   running_var  <- lerp(running_var, unbiased var, momentum)
        eval:      the same with running_mean and running_var

    num_features         C
    eps                  added to the variance, inside the root
    momentum             weight of the newest batch in the running averages; None: plain averages of all batches so far
    affine               False: no gain `weight` and no `bias`
    track_running_stats  False: no buffers, and batch statistics in eval mode too. Set to False later, the buffers stay
                         as they are, and eval mode goes on using them

    Raises InputError in training mode if a channel has a single value: its variance is 0.
    `calibrate_` replaces the running averages by the exact statistics of a data set. torch's own tools find this class
    by torch's base class: `swa_utils.update_bn`, `SyncBatchNorm.convert_sync_batchnorm`,
    `torch.func.replace_all_batch_norm_modules_`.
    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167); output, gradients, buffers and state-dict keys as torch's.

    >>> norm = BatchNorm(4)
    >>> y = norm(10 + 3 * torch.randn(64, 4, generator=torch.manual_seed(0)))
    >>> y.mean(0).abs().max().item() < 1e-5, norm.running_mean.round(decimals=1)
    (True, tensor([1., 1., 1., 1.]))
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        check_arguments("BatchNorm", eps, num_features=num_features)
        if momentum is not None and not 0 <= momentum <= 1:
            raise InputError(
                f"BatchNorm: momentum is {momentum}; it is the newest batch's weight, from 0 to 1, or None"
            )
        _BatchNorm.__init__(self, num_features, eps, momentum, affine, track_running_stats)

    @property
    def subtracts_mean(self) -> str | None:
        """None in eval mode with running statistics: then a constant is subtracted, and a bias before the layer has
        an effect."""
        return "channel" if self.training or self.running_mean is None else None

    def forward(self, x: Tensor) -> Tensor:
        check_channels("BatchNorm", x, self.num_features)
        if not self.training and self.running_mean is not None and self.running_var is not None:
            scale = (per_channel(self.running_var, x) + self.eps).rsqrt()
            return self._scaled((wide(x) - per_channel(self.running_mean, x)) * scale, x.dtype, channels=True)
        values = x.numel() // self.num_features
        if self.training and values < 2:
            raise InputError(
                f"BatchNorm: the input has shape {tuple(x.shape)}, {values} value per channel, too few for a variance; "
                "use a larger batch, or .eval()"
            )
        y, mean, variance = standardize(wide(x), [0, *range(2, x.dim())], self.eps)  # over N and positions
        if self.training and self.track_running_stats:
            self._average(mean.detach().flatten(), variance.detach().flatten() * (values / (values - 1)))
        return self._scaled(y, x.dtype, channels=True)

    @torch.no_grad()
    def _average(self, mean: Tensor, unbiased: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        for running, of_batch in ((self.running_mean, mean), (self.running_var, unbiased)):
            weight: Any = self.momentum
            if weight is None:  # computed on the device of the counter, so that nothing waits
                wide_enough = torch.promote_types(running.dtype, torch.float32)
                weight = self.num_batches_tracked.to(wide_enough).reciprocal().to(running.dtype)
            running.lerp_(of_batch.to(running.dtype), weight)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.weight is not None}, track_running_stats={self.track_running_stats}"
        )
