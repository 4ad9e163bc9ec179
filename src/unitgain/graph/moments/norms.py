"""Norms: what is subtracted, and what is divided by.

Batch normalization fixes every channel's mean and variance, exactly. Layer and group normalization divide by a power
that differs between places: the second moment that they leave is 1 on average, exactly; how it splits into squared mean
and variance is that of an average place.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .signal import Signal, mean_over_pairs


def affine(signal: Signal, scale: Tensor | float, shift: Tensor | float = 0.0) -> Signal:
    """scale * x + shift, each one number or (C,)."""
    given = torch.as_tensor(scale, device=signal.mean.device).detach().float().expand(signal.channels)
    cov = None if signal.cov is None else signal.cov * given[:, None] * given[None, :]
    shape = signal.marginal
    if shape is not None and bool((given < 0).any()):
        shape = -shape.flip(0) if bool((given <= 0).all()) else None
    moved = torch.as_tensor(shift, device=signal.mean.device).detach().float()
    return replace(
        signal,
        mean=signal.mean * given + moved,
        var=signal.var * given.square(),
        cov=cov,
        common=None if signal.common is None else signal.common * given[:, None] * given[None, :],
        marginal=shape,
        before=None,
    )


def over_batch(signal: Signal, gain: Tensor | None, bias: Tensor | None, eps: float) -> Signal:
    """Batch normalization by the batch's statistics: each channel over examples and positions."""
    scale = (signal.var + eps).rsqrt()
    found = affine(signal, scale, -signal.mean * scale)
    return affine(found, 1.0 if gain is None else gain, 0.0 if bias is None else bias)


def over_groups(
    signal: Signal, groups: int, gain: Tensor | None, bias: Tensor | None, eps: float, *, per_place: bool
) -> Signal:
    """Layer (groups=1, per_place), group (per example) and instance normalization (groups=C).

    With G the mean over a group (and, per example, over positions) and F what that mean leaves of the variance of one
    channel, the covariance of x - G is C_ij - F (a_i + a_j) + F b, a_i that of channel i with its group's mean, b the
    variance of that mean.
    """
    cov = torch.diag(signal.var) if signal.cov is None else signal.cov
    share, lags = 1.0, signal.lags
    if not per_place:
        shared = signal.shared_lags()
        assert shared is not None
        share = float(mean_over_pairs(shared, signal.size).clamp(0, 1))
    each = signal.channels // groups
    average = torch.kron(
        torch.eye(groups, device=cov.device), torch.full((each, each), 1 / each, device=cov.device)
    )
    with_group = cov @ average  # (C, C): channel i with the mean of channel j's group
    groups_cov = average @ with_group
    centred = cov - share * (with_group + with_group.T - groups_cov)
    mean = signal.mean - average @ signal.mean
    var = centred.diagonal().clamp_min(0)
    power = average @ (var + mean.square())  # of each channel's group
    varies = spread(centred, mean, groups) if per_place else 0.0
    scale = (power + eps).rsqrt()
    # a place's own power varies: E q^-1/2 is above (E q)^-1/2, while the second moment stays 1
    mean = mean * scale * min(1 + 0.375 * varies, 1.2)
    left = (power * scale.square() - average @ mean.square()).clamp_min(0) / (
        average @ (var * scale.square())
    ).clamp_min(1e-30)
    scale = scale * left.sqrt()
    if lags is not None and not per_place and share > 0:
        live = signal.var.clamp_min(1e-30)
        lags = lags.expand(signal.channels, *lags.shape[1:]) if groups > 1 else lags
        lost = share * (2 * with_group.diagonal() - groups_cov.diagonal()) / live
        lost = lost.clamp(0, 0.999).view(-1, *[1] * len(signal.size))
        lost = lost if groups > 1 else lost.mean(0, keepdim=True)
        lags = ((lags - lost) / (1 - lost)).clamp(-1, 1)
    common = signal.common if per_place else None
    if common is not None:
        apart = torch.eye(signal.channels, device=cov.device) - average
        common = (apart @ common @ apart) * scale[:, None] * scale[None, :]
    found = replace(
        signal, mean=mean, var=var * scale.square(), cov=centred * scale[:, None] * scale[None, :], common=common,
        of_batch=False, before=None, mixed=signal.mixed and not per_place,
        places=None if per_place else signal.places,
    ).with_lags(lags)  # fmt: skip
    return affine(found, 1.0 if gain is None else gain, 0.0 if bias is None else bias)


def by_root_mean_square(signal: Signal, gain: Tensor | None, eps: float) -> Signal:
    """RMSNorm over channels, at each place."""
    power = (signal.var + signal.mean.square()).mean()
    cov = torch.diag(signal.var) if signal.cov is None else signal.cov
    varies = spread(cov, signal.mean, 1)
    scale = (power + eps).rsqrt()
    mean = signal.mean * scale * min(1 + 0.375 * varies, 1.2)
    left = (power * scale.square() - mean.square().mean()).clamp_min(0) / (
        signal.var * scale.square()
    ).mean().clamp_min(1e-30)
    found = replace(affine(signal, scale * left.sqrt()), mean=mean, of_batch=False, mixed=False, places=None)
    return affine(found, 1.0 if gain is None else gain)


def spread(cov: Tensor, mean: Tensor, groups: int) -> float:
    """Squared coefficient of variation of a place's power, for normal values."""
    each = len(mean) // groups
    found = 0.0
    for g in range(groups):
        at = slice(g * each, (g + 1) * each)
        block, m = cov[at, at], mean[at]
        total = (block.diagonal().sum() + m.square().sum()).clamp_min(1e-30)
        found += float((2 * block.square().sum() + 4 * m @ block @ m) / total.square())
    return found / groups
