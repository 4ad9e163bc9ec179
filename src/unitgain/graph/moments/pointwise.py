"""Elementwise functions: moments of f(x), and how much correlation f leaves.

With x = m + s g(z), z standard normal and g the marginal, f(x) has the Hermite coefficients a_n = E f(x) h_n(z). Two
values with correlation r have the covariance sum over n >= 1 of a_n(i) a_n(j) r^n; what is left of the variance after
the last n goes with the next power. The moments themselves are integrals, not sums of the series.

Over a batch of few independent values the mean of f is not its expectation: of every term but the first, which the
batch's own mean and variance hold fixed, the share `Signal.repeats` is lost to the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from .signal import GRID, GRID_WEIGHTS, Signal, at_points

_ORDER = 8


def nodes(marginal: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(z, g(z), weights), each (P,)."""
    z, weights = GRID.to(device), GRID_WEIGHTS.to(device)
    return z, z if marginal is None else marginal, weights


def mean_magnitude(signal: Signal) -> float:
    """Mean of |x - mean| / std over a batch: 0.798 of a normal variable, less of one with heavy tails, more where the
    mean and the standard deviation are those of few values."""
    found = signal.magnitude
    if found is None:
        _, values, weights = nodes(signal.marginal, signal.mean.device)
        found = float((weights * values.abs()).sum())
    n = max(1 / signal.repeats(), 2.0)
    return found * math.sqrt((n - 1) / 2) * math.exp(math.lgamma((n - 1) / 2) - math.lgamma(n / 2))


def hermite(z: Tensor, order: int) -> Tensor:
    """(order + 1, Q): Hermite polynomials, orthonormal under the standard normal."""
    found = [torch.ones_like(z), z]
    for n in range(1, order):
        found.append((z * found[n] - math.sqrt(n) * found[n - 1]) / math.sqrt(n + 1))
    return torch.stack(found)


def apply(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) in float32, of a module without its hooks."""
    return (function.forward if isinstance(function, nn.Module) else function)(x.clone()).float()


def pointwise(signal: Signal, function: Callable[[Tensor], Tensor]) -> Signal:
    """The Signal of function(x). The function may treat channels differently; it is called on (Q, C)."""
    z, values, weights = nodes(signal.marginal, signal.mean.device)
    std = signal.var.sqrt()
    x = signal.mean + std * values[:, None]  # (Q, C)
    y = apply(function, x)
    mean = weights @ y
    centred = y - mean
    var = weights @ centred.square()
    terms = (hermite(z, _ORDER)[1:] * weights) @ centred  # (order, C)
    rest = (var - terms.square().sum(0)).clamp_min(0)
    lost = signal.repeats()
    kept = torch.full((_ORDER + 1,), 1 - lost, device=z.device)
    kept[0] = 1
    powers = torch.cat([terms, rest.sqrt()[None]])  # of r^1 ... r^(order + 1)
    out_var = (powers.square() * kept[:, None]).sum(0)
    gone = (powers.square() * (1 - kept)[:, None]).sum(0)  # what the variance loses, the squared mean gains
    mean = torch.where(mean < 0, -1.0, 1.0) * (mean.square() + gone).sqrt()
    share = (out_var / out_var.sum().clamp_min(1e-30)).clamp_min(0)
    magnitude = (weights @ centred.abs()) / var.sqrt().clamp_min(1e-30)
    found = replace(
        signal, mean=mean, var=out_var, cov=_covariance(signal, powers, kept, out_var),
        marginal=_marginal(centred, var, weights), of_batch=False, magnitude=float(share @ magnitude),
        before=(signal, function), common=None,
    )  # fmt: skip
    if found.cov is not None:
        found = replace(found, common=_common(signal, powers, found.cov))
    return found.with_lags(_lags(signal, powers, lost))


def _covariance(signal: Signal, powers: Tensor, kept: Tensor, var: Tensor) -> Tensor | None:
    r = signal.correlation()
    if r is None:
        return None
    total = _in_powers(r, powers, kept)
    total.diagonal().copy_(var)
    return total


def _common(signal: Signal, powers: Tensor, cov: Tensor) -> Tensor | None:
    """The covariance of means over T positions: 1/T of what two channels have at one place, the rest of what they have
    at two."""
    places = math.prod(signal.size)
    if signal.common is None or signal.cov is None or places < 2:
        return None
    scale = signal.var.clamp_min(1e-30).rsqrt() * (signal.var > 0)
    apart = (places * signal.common - signal.cov) / (places - 1) * scale[:, None] * scale[None, :]
    kept = torch.ones(len(powers), device=apart.device)
    return cov / places + (1 - 1 / places) * _in_powers(apart.clamp(-1, 1), powers, kept)


def _in_powers(r: Tensor, powers: Tensor, kept: Tensor) -> Tensor:
    """The series of the head of this file, for correlations r (C, C)."""
    total, power = torch.zeros_like(r), torch.ones_like(r)
    for term, share in zip(powers, kept):
        power = power * r
        total += (share * term)[:, None] * term[None, :] * power
    return total


def _lags(signal: Signal, powers: Tensor, lost: float) -> Tensor | None:
    lags = signal.lags
    if lags is None or not signal.size:
        return lags
    share = powers.square()
    if lags.shape[0] == 1:
        share = share.sum(1, keepdim=True)
    share = share / share.sum(0).clamp_min(1e-30)  # (terms, rows)
    total, power = torch.zeros_like(lags), torch.ones_like(lags)
    for n, term in enumerate(share):
        power = power * lags
        taken = lost if n else 0.0  # the batch's mean is taken off, of every pair
        total += term.view(-1, *[1] * len(signal.size)) * (power - taken) / (1 - taken)
    return total


def _marginal(centred: Tensor, var: Tensor, weights: Tensor) -> Tensor | None:
    """Of all channels together, each brought to variance 1."""
    live = var > 1e-12 * var.max().clamp_min(1e-30)
    if not bool(live.any()):
        return None
    scaled = centred[:, live] * var[live].rsqrt()
    step = -(-scaled.shape[1] // 256)
    scaled = scaled[:, ::step]
    return at_points(scaled.flatten(), weights[:, None].expand_as(scaled).flatten())
