"""What signal propagation should be at initialization, from how the blocks are put together.

A residual sum of independent signals adds their variances. What a branch brings is known when it ends in

- batch normalization: variance g^2 (its mean squared gain), mean 0;
- a convolution or Linear with standardized weights on an input of variance 1 (normalizer-free networks): 1, mean 0;
- a convolution or Linear of relu(batch_norm(.)): N s^2 (1/2 - 1/(2 pi)), and N s^2 / (2 pi) as squared channel mean,
for
  fan-in N and mean squared weight s^2; a rectified normal variable has that variance and that squared mean.

A block without activation behind its sum then gives v <- v + alpha^2 b. At a transition, where the skip path has
weights of its own, v restarts at what that path brings: 1 + alpha^2 for normalizer-free nets, 2 for BatchNorm ones.
With a ReLU behind the sum (ResNet v1) the whole distribution is followed: x <- relu(x + alpha n), n normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .residual import Sum

Moments = tuple[float, float]  # average channel variance, average squared channel mean
_POINTS = 1024  # by which a distribution is followed


@dataclass
class Expected:
    """Moments at one block's end and at its branch's end, None where theory is silent."""

    block: Moments | None = None
    branch: Moments | None = None


def predict(sums: Sequence[Sum], stem: Mapping[str, float] | None) -> tuple[str, list[Expected]]:
    """(which law, one Expected per sum). The first block's input is as measured where no transition resets it."""
    rectified = [s for s in sums if s.after == "relu"]
    if not all(s.after in ("", "relu") for s in sums) or (rectified and len(rectified) < len(sums)):
        return "", [Expected() for _ in sums]
    start = _moments_of(stem)
    found = _with_relu(sums, start) if rectified else _without(sums, start)
    if not any(e.block is not None for e in found):
        return "", found
    law = "x <- relu(x + alpha n)" if rectified else "var <- var + alpha^2 var(branch)"
    return law + ", restarts at transitions", found


def _moments_of(stem: Mapping[str, float] | None) -> Moments | None:
    if stem is None or math.isnan(stem.get("channel_var", math.nan)):
        return None
    return stem["channel_var"], stem["sq_channel_mean"]


def _brought(made_by: str, power: float) -> Moments | None:
    """What a path brings that ends like this."""
    if made_by == "batch_norm":
        return power, 0.0
    if (
        made_by == "standardized"
    ):  # gamma is in the activation or in the weight: with it the output's variance is 1
        return float(power > 0), 0.0
    if made_by == "product of relu(batch_norm)":
        return power * (0.5 - 0.5 / math.pi), power * 0.5 / math.pi
    return None


def _without(sums: Sequence[Sum], start: Moments | None) -> list[Expected]:
    state, found = start, []
    for s in sums:
        branch = _brought(s.made_by, s.power)
        before = _brought(s.skip_made_by, s.skip_power) if s.transition else state
        if branch is None or before is None or s.alpha is None:
            state = None
        else:
            state = before[0] + s.alpha**2 * branch[0], before[1] + s.alpha**2 * branch[1]
        found.append(Expected(state, branch))
    return found


def _with_relu(sums: Sequence[Sum], start: Moments | None) -> list[Expected]:
    normal = _normal_points(201)
    state: np.ndarray | None = None
    if start is not None:
        state = np.maximum(start[1] ** 0.5 + start[0] ** 0.5 * _normal_points(_POINTS), 0)
    found = []
    for s in sums:
        branch = _brought(s.made_by, s.power)
        if s.transition:
            skip = _brought(s.skip_made_by, s.skip_power)
            state = None if skip is None else skip[0] ** 0.5 * _normal_points(_POINTS)
        if branch is None or s.alpha is None or s.made_by != "batch_norm":
            state = None
        if state is None or branch is None or s.alpha is None:
            found.append(Expected(None, branch))
            continue
        values = np.maximum(state[:, None] + s.alpha * branch[0] ** 0.5 * normal[None, :], 0).ravel()
        found.append(Expected((float(values.var()), float(values.mean() ** 2)), branch))
        values.sort()
        state = values[: len(values) // _POINTS * _POINTS].reshape(_POINTS, -1).mean(1)
    return found


def _normal_points(count: int) -> np.ndarray:
    """Points of equal probability that stand for N(0, 1), with its variance."""
    from statistics import NormalDist

    points = np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    return points / points.std()
