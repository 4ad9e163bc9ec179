"""Pools: means over positions, which are linear, and maxima, which are drawn.

A mean over positions leaves of a channel's variance its mean autocorrelation over the pairs of these positions: a
quarter of white noise at 2x2, all of a constant. The maximum of correlated values has no formula. It is taken from
random maps: normal fields with the signal's autocorrelation (made by Fourier transform on a torus of twice the size),
brought to its marginal. Moments and autocorrelation of their maxima are what is kept; the generator's seed is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .pointwise import apply, nodes, pointwise
from .signal import Signal, at_points, mean_over_pairs, measure
from .weights import Kernel, along, through_weights

_VALUES = 400_000  # of the random maps


def mean_over_all(signal: Signal, *, keeps_axes: bool) -> Signal:
    """The mean over all positions."""
    assert signal.lags is not None
    own = mean_over_pairs(signal.lags, signal.size).clamp_min(0)  # (rows,)
    shared = signal.shared_lags()
    assert shared is not None
    together = float(mean_over_pairs(shared, signal.size).clamp_min(0))
    var = signal.var * own if signal.common is None else signal.common.diagonal().clamp_min(0)
    cov = signal.cov
    if cov is not None:
        cov = cov * together
        scale = (var / cov.diagonal().clamp_min(1e-30)).clamp_min(0).sqrt()
        cov = cov * scale[:, None] * scale[None, :]
        cov.diagonal().copy_(var)
    size = (1,) * len(signal.size) if keeps_axes else ()
    few = math.prod(signal.size) < 32
    return replace(
        signal, size=size, var=var, cov=cov, lags=torch.ones(1, *size, device=var.device),
        marginal=signal.marginal if few or together > 0.5 else None, magnitude=None, before=None,
        of_batch=signal.of_batch and (signal.lags_of_batch or together > 0.5), places=None, mixed=False,
        common=None,
    )  # fmt: skip


def mean_over_windows(
    signal: Signal, window: Sequence[int], kernel: Kernel, size: Sequence[int], divisor: float | None = None
) -> Signal:
    """Average pooling."""
    weight = signal.mean.new_full((signal.channels, 1, *window), 1 / (divisor or math.prod(window)))
    return through_weights(signal, weight, None, replace(kernel, groups=signal.channels), size)


def maximum(signal: Signal, pool: Callable[[Tensor], Tensor]) -> Signal:
    """pool: of maps (N, 1, *S); it must commute with scales, shifts and functions that rise, as max pooling does."""
    if signal.before is not None and _rises(signal.before[1], signal.mean.device):
        return pointwise(maximum(signal.before[0], pool), signal.before[1])
    pooled = pool(_fields(signal))
    drawn = measure(pooled)
    std = signal.var.sqrt()
    var = signal.var * drawn.var
    r = signal.correlation()
    cov = None if r is None else r * var.sqrt()[:, None] * var.sqrt()[None, :]
    return replace(
        signal, size=drawn.size, mean=signal.mean + std * drawn.mean, var=var, cov=cov,
        lags=_far_as_before(signal, drawn), marginal=at_points(pooled.flatten()), of_batch=False, magnitude=None,
        before=None, places=None, common=None,
    )  # fmt: skip


def chosen_by(signal: Signal, pool: Callable[[Tensor], Tensor]) -> tuple[Tensor, float]:
    """(how the largest values are distributed, on the grid of marginals; E m^2 / E m of m, how many windows a value is
    the largest of). pool as for `maximum`."""
    if signal.before is not None and _rises(signal.before[1], signal.mean.device):
        return chosen_by(signal.before[0], pool)
    with torch.enable_grad():
        maps = _fields(signal).requires_grad_()
        pooled = pool(maps)
        (times,) = torch.autograd.grad(pooled.sum(), maps)
    times = times.flatten()
    _, values, _ = nodes(signal.marginal, maps.device)
    middles = (values[1:] + values[:-1]) / 2
    at = torch.searchsorted(middles, pooled.detach().flatten().contiguous())
    counts = torch.bincount(at, minlength=len(values)).float()
    return counts / counts.sum(), float(times.square().sum() / times.sum().clamp_min(1e-30))


def _rises(function: Callable[[Tensor], Tensor], device: torch.device) -> bool:
    """Whether a function never falls; one that treats channels differently is not asked."""
    if any(True for _ in getattr(function, "parameters", lambda: ())()):
        return False
    x = torch.linspace(-8, 8, 4001, device=device)[:, None]
    y = apply(function, x)
    return bool((y.diff(dim=0) >= 0).all())


def _far_as_before(signal: Signal, drawn: Signal) -> Tensor:
    """(1, 2S-1): correlation of near maxima as drawn, of far ones that of the values where they are."""
    before, after = signal.shared_lags(), drawn.shared_lags()
    assert before is not None
    assert after is not None
    index, near = [], torch.ones((), dtype=torch.bool)
    for own, out in zip(signal.size, drawn.size):
        distance = torch.arange(1 - out, out)
        at = (distance * (own / max(out, 1))).round().long().clamp(1 - own, own - 1) + own - 1
        index.append(at)
        near = near[..., None] & (distance.abs() <= 2)
    grids = torch.meshgrid(*index, indexing="ij")
    far = before[0][tuple(g.to(before.device) for g in grids)]
    mask = near.to(after.device)
    return torch.where(mask, after[0], far)[None]


def _fields(signal: Signal) -> Tensor:
    """(n, 1, *S): random maps with mean 0, variance 1, the signal's marginal and autocorrelation."""
    lags = signal.shared_lags()
    assert lags is not None
    count = max(_VALUES // math.prod(signal.size), 4)
    maps = random_fields(lags, signal.size, count, torch.Generator().manual_seed(0))
    maps = (maps - maps.mean()) / maps.std()
    return along(signal.marginal, maps.to(lags.device))[:, None]


def random_fields(lags: Tensor, size: tuple[int, ...], count: int, generator: torch.Generator) -> Tensor:
    """(count, *S): normal maps with this autocorrelation (1, 2S-1), on the CPU, made on a torus of twice the size."""
    dims = list(range(1, len(size) + 1))
    torus = lags
    for axis, length in zip(
        dims, size
    ):  # far lags are known from few pairs: let them fade, so that power stays positive
        distance = torch.arange(1 - length, length, device=lags.device).abs()
        shape = [1] * torus.dim()
        shape[axis] = -1
        torus = torus * (1 - distance / length).view(shape)
    for axis, length in zip(dims, size):  # distances 0 .. S-1, nothing, -(S-1) .. -1
        gap = torus.new_zeros([1 if d == axis else n for d, n in enumerate(torus.shape)])
        torus = torch.cat(
            [torus.narrow(axis, length - 1, length), gap, torus.narrow(axis, 0, length - 1)], axis
        )
    power = torch.fft.fftn(torus.double().cpu(), dim=dims).real.clamp_min(0)
    power = power / power.mean()
    noise = torch.randn(count, *power.shape[1:], generator=generator)
    maps = torch.fft.ifftn(torch.fft.fftn(noise, dim=dims) * power.sqrt().float(), dim=dims).real
    return maps[(slice(None), *(slice(0, s) for s in size))].float()
