"""One layer repeated without end: what variance and correlation do, in the limit of wide layers.

A layer is x_next = W f(x) + b with weights N(0, sigma_w^2 / fan_in) and biases N(0, sigma_b^2); x are
pre-activations, q their variance, c the correlation of two inputs' pre-activations. With z, u standard normal:

    variance map     V(q) = sigma_w^2 E f(sqrt(q) z)^2 + sigma_b^2
    correlation map  C(c) = (sigma_w^2 E f(x1) f(x2) + sigma_b^2) / q,    x1, x2 of variance q and correlation c
    chi_1            = sigma_w^2 E f'(sqrt(q) z)^2 = C'(1): below 1 inputs become parallel and gradients vanish,
                     above 1 they separate and gradients explode; 1 is the edge of chaos
    depth scales     layers after which what was not at the fixed point has fallen to 1/e

Sources: Poole et al. 2016 (arXiv 1606.05340), Schoenholz et al. 2017 (1611.01232), Hayou et al. 2019 (1902.06853).
Deviation: where a map has no stable fixed point we say so, with the reason, in place of a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from .._base import InputError
from .elementwise import Activation, Elementwise, resolve
from .gains import check_scale, squared_slope
from .quadrature import Panels, expectation, pair_expectation, smooth_parts
from .roots import root

_TINY = 1e-12  # stands for a variance of zero, where the maps are limits
_LOWEST, _HIGHEST = 1e-8, 1e8  # variances searched for fixed points


@dataclass(frozen=True)
class FixedPoint:
    """A variance that the layer keeps; slope = V'(q). Stable: nearby variances come closer layer by layer."""

    variance: float
    slope: float

    @property
    def stability(self) -> Literal["stable", "unstable", "neutral"]:
        if abs(self.slope - 1) < 1e-6:
            return "neutral"
        return "stable" if abs(self.slope) < 1 else "unstable"


class FixedPoints(NamedTuple):
    """points: from small to large variance. every: the layer keeps every variance (ReLU with gain sqrt(2))."""

    points: tuple[FixedPoint, ...]
    every: bool


class CorrelationFixedPoint(NamedTuple):
    """The correlation that two inputs tend to, and C' there (chi_1 if it is 1)."""

    correlation: float
    slope: float


class DepthScale(NamedTuple):
    """Number of layers in which a deviation falls to 1/e: inf if it does not fall exponentially."""

    variance: float
    correlation: float


class EdgeOfChaos(NamedTuple):
    """sigma_w for which chi_1 = 1, and the variance at its fixed point (None: any variance)."""

    sigma_w: float
    variance: float | None


def variance_map(
    activation: Activation, variance: float, sigma_w: float = 1.0, sigma_b: float = 0.0
) -> float:
    """V(q) = sigma_w^2 E f(sqrt(q) z)^2 + sigma_b^2: the variance of the next pre-activations.

    >>> round(variance_map("relu", 3.0, sigma_w=2**0.5), 12)
    3.0
    """
    f = resolve(activation)
    for name, value in (("variance", variance), ("sigma_w", sigma_w), ("sigma_b", sigma_b)):
        check_scale(name, value)
    (square,) = expectation(lambda x, z: f(x)[None] ** 2, math.sqrt(variance))
    return float(sigma_w**2 * square + sigma_b**2)


def _variance_slope(f: Elementwise, variance: float, sigma_w: float) -> float:
    """V'(q), without a derivative of f: d/dq E g(sqrt(q) z) = E g(sqrt(q) z) (z^2 - 1) / (2 q)."""
    (value,) = expectation(lambda x, z: (f(x) ** 2 * (z * z - 1))[None], math.sqrt(variance))
    return float(sigma_w**2 * value / (2 * variance))


def _slope_at_zero(f: Elementwise, sigma_w: float) -> float:
    try:
        return variance_map(f, _TINY, sigma_w) / _TINY
    except InputError:  # for functions like x - tanh(x) nothing but rounding is left there
        return variance_map(f, _LOWEST, sigma_w) / _LOWEST


def fixed_points(activation: Activation, sigma_w: float = 1.0, sigma_b: float = 0.0) -> FixedPoints:
    """The variances that the layer keeps, between 1e-8 and 1e8, and 0 if the layer keeps that.

    They are where V(q)/q crosses 1; a variance that is only touched is not found. Note GELU or SiLU with their
    gain: variance 1 is kept but not stable, so a deep stack drifts away from it.

    >>> [round(p.variance, 4) for p in fixed_points("tanh", sigma_w=5 / 3).points]
    [0.0, 1.1785]
    >>> fixed_points("relu", sigma_w=2**0.5).every
    True
    >>> fixed_points("gelu", sigma_w=1.5335).points[-1].stability
    'unstable'
    """
    f = resolve(activation)
    grid = np.geomspace(_LOWEST, _HIGHEST, 64)  # even, so that no point is 1, where many a root lies exactly
    growth = [math.log(variance_map(f, q, sigma_w, sigma_b) / q + 1e-300) for q in grid]
    if max(map(abs, growth)) < 1e-9:
        return FixedPoints((), every=True)
    points: list[FixedPoint] = []
    if sigma_b == 0 and abs(f(np.zeros(1))[0]) < 1e-12:
        points.append(FixedPoint(0.0, _slope_at_zero(f, sigma_w)))

    def log_growth(log_q: float) -> float:
        q = math.exp(log_q)
        return math.log(variance_map(f, q, sigma_w, sigma_b) / q + 1e-300)

    for i in range(len(grid) - 1):
        # rounding makes signs of its own where V(q) = q, as for ReLU6 far below its bound
        if growth[i] * growth[i + 1] < 0 and min(abs(growth[i]), abs(growth[i + 1])) > 1e-11:
            q = math.exp(root(log_growth, math.log(grid[i]), math.log(grid[i + 1])))
            points.append(FixedPoint(q, _variance_slope(f, q, sigma_w)))
    return FixedPoints(tuple(points), every=False)


def _settled_variance(f: Elementwise, sigma_w: float, sigma_b: float) -> float:
    """Where the variance goes from 1: the nearest fixed point in the direction in which it moves."""
    found = fixed_points(f, sigma_w, sigma_b)
    if found.every:
        return 1.0
    start = variance_map(f, 1.0, sigma_w, sigma_b)
    above = [p.variance for p in found.points if p.variance >= 1]
    below = [p.variance for p in found.points if p.variance <= 1]
    if abs(start - 1) < 1e-9:
        return 1.0
    side = above if start > 1 else below[::-1]
    if not side:
        goes = "grows without bound" if start > 1 else "shrinks towards 0"
        raise InputError(
            f"activation {f.name}: with sigma_w {sigma_w:g} and sigma_b {sigma_b:g} the variance {goes}, so there is "
            "no fixed point; give a variance instead (variance=1.0), or another sigma_w"
        )
    return side[0]


def _variance(f: Elementwise, sigma_w: float, sigma_b: float, variance: float | None) -> float:
    if variance is None:
        variance = _settled_variance(f, sigma_w, sigma_b)
    check_scale("variance", variance)
    return max(variance, _TINY)


def chi(
    activation: Activation, sigma_w: float = 1.0, sigma_b: float = 0.0, variance: float | None = None
) -> float:
    """chi_1 = sigma_w^2 E f'(sqrt(q) z)^2: by how much a small difference, or the gradient's mean square, grows.

    variance: q; None takes the fixed point that a variance of 1 goes to (1 itself if every variance is kept).

    >>> round(chi("relu", sigma_w=2**0.5), 12), round(chi("tanh", sigma_w=1.0), 6)
    (1.0, 1.0)
    >>> chi("tanh", sigma_w=2.0) > 1 > chi("tanh", sigma_w=0.9)
    True
    """
    f = resolve(activation)
    return sigma_w**2 * squared_slope(f, math.sqrt(_variance(f, sigma_w, sigma_b, variance)))


class _Pairs:
    """C and C' of one layer at one variance; the activation's smooth parts are found once."""

    def __init__(self, f: Elementwise, sigma_w: float, sigma_b: float, variance: float):
        self.f, self.sigma_w, self.sigma_b, self.variance = f, sigma_w, sigma_b, variance
        self.std = math.sqrt(variance)
        self.parts: Panels = smooth_parts(f, self.std)
        if abs(variance_map(f, variance, sigma_w, sigma_b) / variance - 1) > 1e-6:
            self.next_variance = variance_map(f, variance, sigma_w, sigma_b)
        else:
            self.next_variance = variance

    def map(self, correlation: float) -> float:
        both = pair_expectation(self.f, self.parts, correlation, self.std)
        return (self.sigma_w**2 * both + self.sigma_b**2) / self.next_variance

    def slope(self, correlation: float) -> float:
        both = pair_expectation(self.f.derivative, self.parts, correlation, self.std)
        return self.sigma_w**2 * both * self.variance / self.next_variance


def correlation_map(
    activation: Activation,
    correlation: float,
    sigma_w: float = 1.0,
    sigma_b: float = 0.0,
    variance: float | None = None,
) -> float:
    """C(c): the correlation of two inputs' pre-activations after one more layer, given the one before it.

    variance: that of both inputs' pre-activations; None takes the fixed point, as in `chi`. If it is none,
    the result is divided by the next variance, so that it stays a correlation.

    >>> round(correlation_map("relu", 0.0, sigma_w=2**0.5), 9), round(1 / math.pi, 9)
    (0.318309886, 0.318309886)
    """
    f = resolve(activation)
    if not -1 <= correlation <= 1:
        raise InputError(f"correlation is {correlation}; it lies in -1..1")
    return _Pairs(f, sigma_w, sigma_b, _variance(f, sigma_w, sigma_b, variance)).map(correlation)


def correlation_fixed_point(
    activation: Activation, sigma_w: float = 1.0, sigma_b: float = 0.0, variance: float | None = None
) -> CorrelationFixedPoint:
    """The correlation in 0..1 that two different inputs tend to with depth: 1 if chi_1 is at most 1.

    >>> correlation_fixed_point("relu", sigma_w=2**0.5).correlation
    1.0
    """
    f = resolve(activation)
    q = _variance(f, sigma_w, sigma_b, variance)
    slope = chi(f, sigma_w, sigma_b, q)
    if slope <= 1 + 1e-9:
        return CorrelationFixedPoint(1.0, slope)
    pairs = _Pairs(f, sigma_w, sigma_b, q)
    if pairs.map(0.0) <= 1e-12:
        return CorrelationFixedPoint(0.0, pairs.slope(0.0))
    high = 1.0  # near 1, C(c) - c is (chi_1 - 1)(c - 1) < 0: find where it shows above rounding
    while high > 0.5 and pairs.map(high) - high > -1e-9:
        high = 1 - max(1e-5, 2 * (1 - high))
    if pairs.map(high) >= high:
        return CorrelationFixedPoint(1.0, slope)
    c = root(lambda c: pairs.map(c) - c, 0.0, high, tolerance=1e-11)
    return CorrelationFixedPoint(c, pairs.slope(c))


def depth_scale(activation: Activation, sigma_w: float = 1.0, sigma_b: float = 0.0) -> DepthScale:
    """-1/ln V'(q*) and -1/ln C'(c*): how many layers a difference of variance and of direction survives.

    A network much deeper than a few correlation depth scales cannot distinguish its inputs, or (c* < 1) makes
    all of them equally different, and does not train (Schoenholz et al.). At the edge of chaos the scale is infinite.

    >>> round(depth_scale("tanh", sigma_w=1.2, sigma_b=0.3).correlation, 1)
    7.2
    """
    f = resolve(activation)
    q = _variance(f, sigma_w, sigma_b, None)
    return DepthScale(
        _decay(_variance_slope(f, q, sigma_w)), _decay(correlation_fixed_point(f, sigma_w, sigma_b).slope)
    )


def _decay(slope: float) -> float:
    slope = abs(slope)
    if slope >= 1 - 1e-9:
        return math.inf
    return -1 / math.log(slope) if slope > 0 else 0.0


def edge_of_chaos(activation: Activation, sigma_b: float = 0.0) -> EdgeOfChaos:
    """The sigma_w at which chi_1 = 1 at the variance's own fixed point, for this sigma_b.

    Parametrized by q: sigma_w^2 = 1/E f'^2 gives chi_1 = 1, and q is a fixed point if
    sigma_b^2 = q - sigma_w^2 E f^2; the smallest q between 1e-8 and 1e8 with the wanted sigma_b is taken.
    Raises InputError if there is none (ReLU with any bias noise).

    >>> edge = edge_of_chaos("tanh", sigma_b=0.3)
    >>> round(edge.sigma_w, 4), round(chi("tanh", edge.sigma_w, 0.3), 6)
    (1.3956, 1.0)
    """
    f = resolve(activation)
    check_scale("sigma_b", sigma_b)

    def sigma_w2(q: float) -> float:
        slope = squared_slope(f, math.sqrt(q))
        return 1 / slope if slope > 0 else math.inf

    def miss(log_q: float) -> float:
        """How much larger than the wanted one sigma_b^2 is, relative to q."""
        q = math.exp(log_q)
        return 1 - (variance_map(f, q, math.sqrt(sigma_w2(q))) + sigma_b**2) / q

    grid = np.log(np.geomspace(_LOWEST, _HIGHEST, 65))
    misses = [miss(g) for g in grid]
    if max(map(abs, misses)) < 1e-9:
        return EdgeOfChaos(math.sqrt(sigma_w2(1.0)), None)
    if abs(misses[0]) < 1e-6 and sigma_b == 0:  # q = 0: f is practically linear there
        return EdgeOfChaos(math.sqrt(sigma_w2(_TINY)), 0.0)
    for i in range(len(grid) - 1):
        if misses[i] * misses[i + 1] < 0:
            q = math.exp(root(miss, grid[i], grid[i + 1]))
            return EdgeOfChaos(math.sqrt(sigma_w2(q)), q)
    raise InputError(
        f"activation {f.name}: no sigma_w puts it at the edge of chaos with sigma_b {sigma_b:g}; try sigma_b = 0"
    )
