"""A steady trend over depth, by estimators that a few odd layers cannot move.

The slope is Theil and Sen's: the median of the slopes between all pairs of layers. Steadiness is Kendall's
tau: the share of pairs that rise minus the share that falls. A network whose scale alternates inside its
blocks (every transformer), or jumps once (an embedding before a LayerNorm), has no trend in this sense.

The change that is judged is the smaller of the fit's and the one between the two ends, so that what a message
says agrees with the numbers it names. And it must not be one jump: in up to six layers a single jump in the middle
lies between most pairs, so that the change is also held below what the steps without the largest of them give,
extended to all layers (of three layers, twice the smaller step).

Sources: Theil, "A rank-invariant method of linear and polynomial regression analysis", 1950; Sen, "Estimates
of the regression coefficient based on Kendall's tau", 1968.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._flow import gates
from ._rule import Threshold
from ._view import Measured, View

STEADINESS = Threshold(
    0.6,
    "Kendall's tau: four pairs of layers change in the trend's direction for each that does not; networks with "
    "normalization stay within 0.3 of zero",
)
GENTLE = Threshold(
    1.1,
    "fold per layer: slower drift is harmless (deep BatchNorm networks, pooled noise) until it reaches the error's "
    "limit, and a warning then",
)
SITES = Threshold(3, "fewer make no trend; and without its largest step it must still be one")
DEFAULT_SCALE = Threshold(
    0.1, "of the scale of torch's default draw, by which the weights of one layer may miss it"
)


@dataclass(frozen=True)
class Trend:
    """slope: log10 per layer, the smaller of the fit's and that without the largest step; change: log10 over all
    layers by that slope or between the ends, whichever is smaller (0 where the signs disagree); ends: log10 of last
    over first; tau: -1 to 1, steadiness."""

    slope: float
    change: float
    ends: float
    tau: float


def fit(values: Sequence[float]) -> Trend:
    """The trend of positive values over their index.

    >>> trend = fit([1.0, 0.1, 0.01, 0.001])
    >>> round(trend.slope, 6), round(trend.change, 6), trend.tau
    (-1.0, -3.0, -1.0)
    >>> fit([1.0, 1.0, 0.001, 0.001]).change  # one step makes all of the change
    0.0
    """
    y = np.log10(np.asarray(values, dtype=np.float64))
    first, second = np.triu_indices(len(y), k=1)
    difference = y[second] - y[first]
    slope, ends, steps = float(np.median(difference / (second - first))), float(y[-1] - y[0]), np.diff(y)
    if len(y) > 2:
        slope = _smaller(slope, (ends - steps[np.argmax(np.abs(steps))]) / (len(y) - 2))
    return Trend(slope, _smaller(slope * (len(y) - 1), ends), ends, float(np.mean(np.sign(difference))))


def _smaller(a: float, b: float) -> float:
    """The one nearer to zero, zero if the signs differ."""
    return float(min(a, b, key=abs)) if a * b > 0 else 0.0


@dataclass(frozen=True)
class Steep:
    """What a trend of few layers must exceed, all three, and never turn.

    per_layer  fold per layer
    change     fold over the whole depth
    sites      layers at least
    """

    per_layer: float
    change: float
    sites: float


@dataclass(frozen=True)
class Limits:
    """What a trend is judged by.

    warning, error  fold over the whole depth
    steadiness      least Kendall's tau
    gentle          fold per layer that is harmless up to the error's limit
    sites           how many make a trend
    default         fold over the whole depth, up to which a warning is for information only where the weights are as
                    torch draws them by default
    steep           what is a warning below the warning's limit, in a trend that ends above `large` (rms)
    """

    warning: float
    error: float
    steadiness: float
    gentle: float
    sites: float
    default: float = 0.0
    steep: Steep | None = None
    large: float = 0.0


def severity(
    trend: Trend, direction: int, limits: Limits, *, default_weights: bool = False, sites: int = 0
) -> str | None:
    """ "error", "warning", "info" or None for a trend in one direction, 1 or -1.

    A drift of less than `gentle` per layer adds up to a warning in any network that is deep enough, and is harmless: it
    must reach the error's limit, and is a warning then.
    """
    change, rate = direction * trend.change, direction * trend.slope
    least = limits.steep
    steep_enough = least is not None and (
        sites >= least.sites
        and trend.tau == direction
        and rate > math.log10(least.per_layer)
        and change > math.log10(least.change)
    )
    if direction * trend.tau < limits.steadiness or (
        change <= math.log10(limits.warning) and not steep_enough
    ):
        return None
    far = change > math.log10(limits.error)
    steep = rate > math.log10(limits.gentle)
    level = ("error" if steep else "warning") if far else ("warning" if steep else None)
    if level == "warning" and default_weights and change <= math.log10(limits.default):
        return "info"
    return level


def comparable(rows: Sequence[Measured], least: float) -> list[Measured]:
    """The sites whose scale may be compared over depth, in execution order.

    Outputs of linear and convolution layers; of activation functions if there are fewer than `least` of those. Left
    out: the model's output, or where that is no layer the last layer (a head is often scaled down on purpose), what
    is exactly zero (a zero-initialized end of a residual branch), what is not finite (another rule's business), and
    gates, whose scale says how much the pooling before them averaged away and nothing about the depth.
    """
    for role in ("linear", "activation"):
        chosen = [m for m in rows if m.role == role and not m.broken]
        outputs = [m for m in chosen if m.is_output] or (chosen[-1:] if role == "linear" else [])
        chosen = [m for m in chosen if m not in outputs]
        chosen = [m for m in chosen if m["rms"] > 0 and math.isfinite(m["rms"])]
        left_out = {m.name for m in gates(rows)}
        chosen = [m for m in chosen if m.name not in left_out]
        if len(chosen) >= least:
            return chosen
    return []


def has_default_weights(view: View, sites: Sequence[Measured]) -> bool:
    """Whether these layers' weights have the scale that nn.Linear and the convolutions draw by default: uniform
    within 1/sqrt(fan_in), which is a standard deviation of 1/sqrt(3 fan_in)."""
    scales = [
        p["std"] * math.sqrt(3 * math.prod(p.site.shape[1:]))
        for site in sites
        for p in view.own_parameters(site, "weight")
        if len(p.site.shape) >= 2
    ]
    return bool(scales) and all(abs(scale - 1) < DEFAULT_SCALE for scale in scales)
