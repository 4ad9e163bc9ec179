"""Signal: what theory keeps of a tensor, and how it is measured where theory has to begin.

letters: N examples, C channels, S positions of an example (none, length, height x width, ...)

mean     (C,)            of each channel, over examples and positions
var      (C,)            of each channel, biased
cov      (C, C)          of two channels at the same place; None: channels are taken for uncorrelated
common   (C, C)          the same of the means over positions of an example, where it is known: what tokens share may
                         lie in other channels than what they do not, behind attention above all. None: cov times the
                         mean of the lags
lags     (1 or C, 2S-1)  autocorrelation: of two places of an example at every distance, 1 at distance 0. One row stands
                         for all channels. None: it is not known
marginal (P,)            g: a channel's values, brought to mean 0 and variance 1, are distributed as g(z), z standard
                         normal; given at P values of z (`GRID`). None: they are normal

A covariance between channel i here and channel j there is taken for cov[i, j] times the lag: exact where channels share
one autocorrelation. Examples are taken for independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

MOST_CHANNELS = 4096  # with more, channels are taken for uncorrelated
_MOST_LAGS = 4_000_000  # values of all channels' autocorrelations together; with more, channels share one
_MIXED = 0.2
_MOST_WORK = 2e9  # multiplications for a measured covariance
_REACH, POINTS = 5.0, 202  # of marginals: z from -5 to 5, and none at 0, where functions have kinks
GRID = torch.linspace(-_REACH, _REACH, POINTS)
GRID_WEIGHTS = torch.exp(-GRID.double().square() / 2)
GRID_WEIGHTS = (GRID_WEIGHTS / GRID_WEIGHTS.sum()).float()
_CUMULATIVE = torch.special.ndtr(GRID.double())


@dataclass(frozen=True)
class Signal:
    """The moments of one tensor; see the head of this file.

    examples, size  N, and the positions along each axis: () where there are none
    of_batch        the moments are those of this very batch: measured, or by linear maps from what was. Otherwise they
                    are expectations, from which those of a batch differ by chance
    lags_of_batch   and so are the autocorrelations, each channel's own
    magnitude       mean magnitude over the standard deviation, channels averaged by variance; None: the marginal's
    uneven          the share of the variance that is a mean that differs between border and middle
    mixed           places differ in power, as a class token does: squared coefficient of variation above 0.2, or a mean
                    of 1 / power 1.2 times one over the mean
    places          (*S,) power of each place over that of an average one; None: all the same, or, where `mixed`, not
                    known
    before          (x, f) where this is f(x), elementwise
    pads            zeros around it, (before, after) for each axis: what `F.pad` added, for the convolution behind it
    """

    examples: int
    size: tuple[int, ...]
    mean: Tensor
    var: Tensor
    cov: Tensor | None
    lags: Tensor | None
    marginal: Tensor | None = None
    pads: tuple[tuple[int, int], ...] = ()
    of_batch: bool = True
    lags_of_batch: bool = True
    magnitude: float | None = None
    uneven: float = 0.0
    mixed: bool = False
    places: Tensor | None = None
    common: Tensor | None = None
    before: tuple[Signal, Callable[[Tensor], Tensor]] | None = None

    @property
    def channels(self) -> int:
        return self.mean.numel()

    @property
    def moments(self) -> tuple[float, float]:
        """(average channel variance, average squared channel mean)."""
        return float(self.var.double().mean()), float(self.mean.double().square().mean())

    def correlation(self) -> Tensor | None:
        """(C, C): of channels; 0 where a channel does not vary."""
        if self.cov is None:
            return None
        scale = self.var.clamp_min(1e-30).rsqrt() * (self.var > 0)
        return (self.cov * scale[:, None] * scale[None, :]).clamp(-1, 1)

    def shared_lags(self) -> Tensor | None:
        """(1, 2S-1): the autocorrelation of all channels together."""
        if self.lags is None or self.lags.shape[0] == 1:
            return self.lags
        total = self.var.sum()
        if float(total) <= 0:
            return self.lags.mean(0, keepdim=True)
        return torch.einsum("c,c...->...", self.var / total, self.lags)[None]

    def with_lags(self, lags: Tensor | None) -> Signal:
        """The same with these autocorrelations, of which channels share one if they would be too many."""
        changed = replace(self, lags=lags)
        if lags is not None and lags.numel() > _MOST_LAGS:
            changed = replace(self, lags=changed.shared_lags())
        return changed

    def repeats(self) -> float:
        """The mean squared correlation of two values of a channel, over all pairs: one over the number of values, if
        they are independent. What a mean over the batch leaves of an expectation."""
        positions = math.prod(self.size)
        lags = self.shared_lags()
        if lags is None:
            return 1 / (self.examples * positions)
        return float(mean_over_pairs(lags.square(), self.size)) / self.examples

    def chance(self) -> float:
        """How far the average channel variance of a batch is from its expectation by chance, relative, one standard
        deviation: sqrt(2 / (independent values times independent channels))."""
        channels = float(self.channels)
        if self.cov is not None:
            channels = float(self.var.sum().square() / self.cov.square().sum().clamp_min(1e-30))
        return math.sqrt(2 * self.repeats() / max(channels, 1.0))


def mean_over_pairs(lags: Tensor, size: tuple[int, ...]) -> Tensor:
    """(rows,): the mean autocorrelation of all pairs of positions of an example: what a mean over them leaves of the
    variance."""
    for length in reversed(size):
        distance = torch.arange(1 - length, length, device=lags.device).abs()
        lags = lags @ ((length - distance) / length**2).to(lags)
    return lags


def layout(tensor: Tensor, axis: int) -> Tensor:
    """(N, C, *S) float32, channels from this axis, examples from the first one that is left."""
    return tensor.detach().movedim(axis, 1 if tensor.dim() > 1 and axis else 0).float()


def measure(x: Tensor, *, shape: bool = True) -> Signal:
    """The Signal of a tensor (N, C, *S). shape: with its marginal, for which values are sorted."""
    examples, _, *size = x.shape
    dims = [0, *range(2, x.dim())]
    mean = x.mean(dims)
    centred = x - mean.view(1, -1, *[1] * len(size))
    var = centred.square().mean(dims)
    power = x.square().mean(1)  # of each place
    mixed = False
    if power.numel() > 1:
        weak = (
            power.clamp_min(1e-30).reciprocal().mean() * power.mean()
        )  # one token of small power among others
        mixed = bool(power.var() > _MIXED * power.mean().square()) or bool(weak > 1 + _MIXED)
    common = _common(centred) if size and var.numel() <= MOST_CHANNELS else None
    return Signal(
        examples, tuple(size), mean, var, _covariance(centred, var), _autocorrelation(centred, var),
        marginal(centred, var) if shape else None, common=common, mixed=mixed,
        places=_places(power) if mixed and size else None,
    )  # fmt: skip


def _common(centred: Tensor) -> Tensor:
    of_examples = centred.flatten(2).mean(2)  # (N, C)
    return of_examples.T @ of_examples / len(of_examples)


def _places(power: Tensor) -> Tensor:
    return power.mean(0) / power.mean().clamp_min(1e-30)


def _covariance(centred: Tensor, var: Tensor) -> Tensor | None:
    """(C, C), of as many places as the work allows, brought to the variances that all places have."""
    channels = var.numel()
    if channels > MOST_CHANNELS:
        return None
    rows = centred.movedim(1, -1).reshape(-1, channels)
    most = max(int(_MOST_WORK / channels**2), 512)
    if len(rows) > most:
        generator = torch.Generator().manual_seed(0)
        rows = rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]
    cov = rows.T @ rows / len(rows)
    found = cov.diagonal().clamp_min(1e-30)
    scale = (var / found).sqrt()
    return cov * scale[:, None] * scale[None, :]


def _autocorrelation(centred: Tensor, var: Tensor) -> Tensor:
    """(1 or C, 2S-1)."""
    size = centred.shape[2:]
    if not size:
        return torch.ones(1, device=centred.device)
    examples, channels = centred.shape[:2]
    padded = [2 * s for s in size]
    work = math.prod(padded)
    most = max(int(16e6 / work), 8)  # maps that are transformed
    examples = max(min(examples, most // channels), 1)
    each = centred[:examples]
    if channels > most:
        step = -(-channels // most)
        each, var = each[:, ::step], var[::step]
    dims = list(range(2, centred.dim()))
    power = torch.fft.rfftn(each, s=padded, dim=dims).abs().square().mean(0)
    full = torch.fft.irfftn(power, s=padded, dim=[d - 1 for d in dims])  # (C, 2S), distance 0 first
    for axis, length in enumerate(size, start=1):
        full = full.roll(length - 1, axis).narrow(axis, 0, 2 * length - 1)
        distance = torch.arange(1 - length, length, device=full.device).abs()
        shape = [1] * full.dim()
        shape[axis] = -1
        full = full / (length - distance).view(shape)
    centre = (slice(None), *(length - 1 for length in size))
    at_zero = full[centre].clamp_min(1e-30)
    lags = (full / at_zero.view(-1, *[1] * len(size))).clamp(-1, 1)
    lags[centre] = 1
    if channels > most or lags.numel() > _MOST_LAGS:
        lags = torch.einsum("c,c...->...", var / var.sum().clamp_min(1e-30), lags)[None]
    return lags


def marginal(centred: Tensor, var: Tensor) -> Tensor | None:
    """(P,): the distribution of values, each channel brought to variance 1; None if nothing varies."""
    live = var > 1e-12 * var.max().clamp_min(1e-30)
    if not bool(live.any()):
        return None
    scaled = centred * (var.clamp_min(1e-30).rsqrt() * live).view(1, -1, *[1] * (centred.dim() - 2))
    values = scaled[:, live].flatten()
    if values.numel() > 200_000:
        generator = torch.Generator().manual_seed(0)
        values = values[torch.randint(values.numel(), (200_000,), generator=generator).to(values.device)]
    return at_points(values)


def at_points(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """(P,): g on the grid, of values (n,) that each stand for one share of the probability, or for these weights."""
    order = values.argsort()
    values = values[order].double()
    weights = torch.ones_like(values) if weights is None else weights[order].double()
    middle = (weights.cumsum(0) - weights / 2) / weights.sum()
    at = _CUMULATIVE.to(values.device)
    above = torch.searchsorted(middle, at).clamp(1, len(values) - 1)
    low, high = middle[above - 1], middle[above]
    share = ((at - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)
    found = values[above - 1] + share * (values[above] - values[above - 1])
    grid = GRID_WEIGHTS.to(values.device).double()
    found = found - grid @ found
    return (found / (grid @ found.square()).sqrt().clamp_min(1e-30)).float()
