"""A steady trend over depth, by estimators that a few odd layers cannot move.

The slope is Theil and Sen's: the median of the slopes between all pairs of layers. Steadiness is Kendall's
tau: the share of pairs that rise minus the share that falls. A network whose scale alternates inside its
blocks (every transformer), or jumps once (an embedding before a LayerNorm), has no trend in this sense.

Sources: Theil, "A rank-invariant method of linear and polynomial regression analysis", 1950; Sen, "Estimates
of the regression coefficient based on Kendall's tau", 1968.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .entry import Entry
from .view import Measured


@dataclass(frozen=True)
class Trend:
    """slope: log10 per layer; change: log10 over all layers by the fit; tau: -1 to 1, steadiness."""

    slope: float
    change: float
    tau: float


def fit(values: Sequence[float]) -> Trend:
    """The trend of positive values over their index.

    >>> trend = fit([1.0, 0.1, 0.01, 0.001])
    >>> round(trend.slope, 6), round(trend.change, 6), trend.tau
    (-1.0, -3.0, -1.0)
    """
    y = np.log10(np.asarray(values, dtype=np.float64))
    first, second = np.triu_indices(len(y), k=1)
    difference = y[second] - y[first]
    slope = float(np.median(difference / (second - first)))
    return Trend(slope, slope * (len(y) - 1), float(np.mean(np.sign(difference))))


def severity(trend: Trend, direction: int, entry: Entry) -> str | None:
    """ "error", "warning" or None for a trend in one direction, by an entry's limits.

    A drift of less than "gentle" per layer adds up to a warning in any network that is deep enough, and is
    harmless: it must reach the error's limit, and is a warning then.
    """
    change, rate = direction * trend.change, direction * trend.slope
    if direction * trend.tau < entry.limit("steadiness") or change <= math.log10(entry.limit("warning")):
        return None
    far = change > math.log10(entry.limit("error"))
    steep = rate > math.log10(entry.limit("gentle"))
    return ("error" if steep else "warning") if far else ("warning" if steep else None)


def comparable(rows: Sequence[Measured], least: int) -> list[Measured]:
    """The sites whose scale may be compared over depth, in execution order.

    Outputs of linear and convolution layers; of activation functions if there are fewer than `least` of
    those. Left out: the model's output, or where that is no layer the last layer (a head is often
    scaled down on purpose), what is exactly zero (a
    zero-initialized end of a residual branch), what is not finite (another rule's business), and gates:
    vectors computed from pooled features in the middle of a convolutional network, whose scale says how much
    the pooling averaged away and nothing about the depth.
    """
    for role in ("linear", "activation"):
        chosen = [m for m in rows if m.role == role and not m.broken]
        outputs = [m for m in chosen if m.is_output] or (chosen[-1:] if role == "linear" else [])
        chosen = [m for m in chosen if m not in outputs]
        chosen = [m for m in chosen if m["rms"] > 0 and math.isfinite(m["rms"])]
        last_map = max((i for i, m in enumerate(chosen) if m.positions > 1), default=-1)
        chosen = [m for i, m in enumerate(chosen) if m.positions > 1 or i > last_map]
        if len(chosen) >= least:
            return chosen
    return []
