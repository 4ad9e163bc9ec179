"""A gradient as theory keeps it, and as it is measured where theory begins.

Gradients are taken for independent of the activations and for uncorrelated between channels. Between positions they are
not: behind a global pool the gradient is one number for a whole map. So a gradient is kept as

power     (C,)  mean square of each channel, over examples and positions
profile   (*S,) how it is spread over positions, with mean 1: convolutions with zero padding take less to the border
coherent        the share of it that is the same at all positions of an example
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

_SPOTTY = 0.3  # (mean over positions)^2 / mean of squares of the power
_PLACES = 32  # of an example, looked at for the dependence of channels


@dataclass(frozen=True)
class Gradient:
    """See the head of this file.

    spotty  it is at few positions: of a class token, say
    tied    it depends on the values, as it comes through an activation of a sum with what was rectified before
    chosen  (P,): how the values at which a maximum lets it through are distributed, on the grid of marginals; None: it
            is at all values
    profile (*S,); None: even
    near    how far neighbouring positions agree beyond what is coherent: their correlation, as measured
    independent   the number of channels that do not depend on each other, as measured; at most
    slopes  how much it depends on the magnitude of the values that it comes through, through an activation: relative
            standard deviation of f'(x)^2 + f'(-x)^2, which is 0 for ReLU
    shares  (N,) power of each example over the mean: one whose values are large gets steep slopes in every layer; None:
            not known
    least   the chance of what it was made from, where channels that depend on each other are rearranged
    sample  values that stand in for it, of the tensor's own shape, where it comes through calls without a law
    bent    the same of the values that it comes to, through a depthwise layer: a channel's magnitude goes on there
    """

    power: Tensor
    coherent: float = 0.0
    spotty: bool = False
    tied: bool = False
    chosen: Tensor | None = None
    profile: Tensor | None = None
    near: float = 0.0
    independent: float = math.inf
    slopes: float = 0.0
    bent: float = 0.0
    sample: Tensor | None = None
    least: float = 0.0
    shares: Tensor | None = None

    @property
    def mean_square(self) -> float:
        return float(self.power.double().mean())

    def chance(self, examples: int, positions: int) -> float:
        """How far the mean square over a batch is from its expectation by chance, relative, one standard deviation:
        as `Signal.chance`."""
        held = self.coherent
        if self.profile is not None:  # few positions that count
            positions = max(round(positions / float(self.profile.square().mean().clamp_min(1.0))), 1)
        repeats = (held**2 + (1 - held**2) / positions) / examples
        power = self.power.double()
        if not bool(power.any()):  # nothing flows: that is certain
            return 0.0
        channels = float(power.sum().square() / power.square().sum().clamp_min(1e-300))
        channels = min(channels, self.independent)
        return math.sqrt(2 * repeats / max(channels, 1.0))


def measured_gradient(x: Tensor) -> Gradient:
    """Of a gradient (N, C, *S)."""
    dims = [0, *range(2, x.dim())]
    power = x.square().mean(dims)
    whole, spotty, near, profile = power.mean(), False, 0.0, None
    if x.dim() > 2:
        whole = x.mean(list(range(2, x.dim()))).square().mean()
        each = x.square().mean((0, 1))  # of each position
        spotty = bool(each.sum().square() < _SPOTTY * each.numel() * each.square().sum())
        profile = each / each.mean().clamp_min(1e-38)
    coherent = float((whole / power.mean().clamp_min(1e-38)).clamp(0, 1))
    if x.dim() > 2:
        pairs = [
            float((x.narrow(i, 1, n - 1) * x.narrow(i, 0, n - 1)).mean() / power.mean().clamp_min(1e-38))
            for i, n in enumerate(x.shape)
            if i > 1 and n > 1
        ]
        near = max([0.0, *pairs]) - coherent
    independent = _independent(x, coherent)
    shares = x.flatten(1).square().mean(1)
    shares = shares / shares.mean().clamp_min(1e-38)
    return Gradient(
        power, coherent, spotty, profile=profile, near=near, independent=independent, shares=shares
    )


def _independent(x: Tensor, coherent: float) -> float:
    """The number of channels that do not depend on each other: (trace of their covariance)^2 over its squared norm,
    less what few rows add to that."""
    flat = x.flatten(2) if x.dim() > 2 else x[:, :, None]
    rows = flat.transpose(1, 2)[:, :: max(flat.shape[2] // _PLACES, 1)]  # (N, places, C)
    examples, places = rows.shape[:2]
    rows = rows.reshape(-1, rows.shape[-1]).double()
    square = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    share = float(square.square().sum() / square.trace().square().clamp_min(1e-300))
    each = x.flatten(2).square().mean((0, 1)).double() if x.dim() > 2 else x.new_ones(1).double()
    places = max(min(places, float(each.sum().square() / each.square().sum().clamp_min(1e-300))), 1.0)
    share -= (coherent**2 + (1 - coherent**2) / places) / examples
    return 1 / max(share, 1e-9)
