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

from .entry import Entry
from .view import Measured, View


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
    >>> fit([1.0, 1.0, 0.001, 0.001]).change  # one layer is off
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


def severity(trend: Trend, direction: int, entry: Entry, *, default_weights: bool = False) -> str | None:
    """ "error", "warning", "info" or None for a trend in one direction, by an entry's limits.

    A drift of less than "gentle" per layer adds up to a warning in any network that is deep enough, and is
    harmless: it must reach the error's limit, and is a warning then. With the weights that torch gives by
    default a warning is for information only up to the limit "default".
    """
    change, rate = direction * trend.change, direction * trend.slope
    if direction * trend.tau < entry.limit("steadiness") or change <= math.log10(entry.limit("warning")):
        return None
    far = change > math.log10(entry.limit("error"))
    steep = rate > math.log10(entry.limit("gentle"))
    level = ("error" if steep else "warning") if far else ("warning" if steep else None)
    if level == "warning" and default_weights and change <= math.log10(entry.limit("default")):
        return "info"
    return level


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


def has_default_weights(view: View, sites: Sequence[Measured]) -> bool:
    """Whether these layers' weights have the scale that nn.Linear and the convolutions draw by default: uniform
    within 1/sqrt(fan_in), which is a standard deviation of 1/sqrt(3 fan_in)."""
    scales = []
    for site in sites:
        for p in view.own_parameters(site):
            if p.site.attributes.get("role") == "weight" and len(p.site.shape) >= 2:
                scales.append(p["std"] * math.sqrt(3 * math.prod(p.site.shape[1:])))
    return bool(scales) and all(0.9 < scale < 1.1 for scale in scales)


def residual_blocks(view: View) -> list[Block]:
    """The blocks of a residual network, in execution order: repeated modules in which something is added to the
    stream. Empty if there are none."""
    ends = [m for m in view.activations if m.site.attributes.get("block") == "branch" and not m.broken]
    blocks = []
    for stream in view.activations:
        path = _path_of_block(stream)
        inside = [m for m in ends if path and _path(m).startswith(f"{path}.")]
        if inside and not stream.broken and 0 < stream["rms"] < math.inf:
            blocks.append(Block(path, stream, tuple(inside)))
    return [b for b in blocks if not any(other.path.startswith(f"{b.path}.") for other in blocks)]


def _path(measured: Measured) -> str:
    return str(measured.site.attributes.get("path", ""))


def _path_of_block(measured: Measured) -> str:
    """The block whose output this is, "" if it is none: its own site, or that of the last module inside it."""
    if measured.role == "block":
        return _path(measured)
    return _path(measured).rpartition(".")[0] if measured.site.attributes.get("block") == "block" else ""


@dataclass(frozen=True)
class Block:
    """A residual block: its output, and the ends of the branches that are added inside it."""

    path: str
    stream: Measured
    branches: tuple[Measured, ...]

    @property
    def added(self) -> float:
        """rms of all that its branches add, were they independent; NaN if that went through arithmetic unseen."""
        if any(m.site.attributes.get("scaled") for m in self.branches):
            return math.nan
        return math.sqrt(sum(m["rms"] ** 2 for m in self.branches if math.isfinite(m["rms"])))
