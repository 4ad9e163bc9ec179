"""Inputs that were reshaped where they should have been transposed, before the batch was made. For rule UG204.

Neighbouring pixels and steps are alike. Values that a reshape has scrambled are alike again once it is undone: pictures
(N, C, H, W) that are smoother as (N, H, W, C), and windows of a series (N, T, F) whose values run on from example to
example, in jumps that lie exactly T apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PICTURE = (2, 4)  # channels that pictures have, least and most
_LEAST = 8  # height, width, steps and examples: fewer show no smoothness
_SMOOTHER = 1.5  # times: of noise either order is as rough, and of pictures in order the other one is rougher
_JUMPS = 2.0  # times as far at the ends of windows as inside of them
_MOST_VALUES = 4_000_000


def scrambled_from(x: Tensor) -> tuple[tuple[int, ...], float] | None:
    """(the shape in which the values are in order, how many times smoother they are there); None where they are as they
    should be, or that cannot be told."""
    if x.numel() > _MOST_VALUES or len(x) < 2:
        return None
    if x.dim() == 4 and _PICTURE[0] <= x.shape[1] <= _PICTURE[1] and min(x.shape[2:]) >= _LEAST:
        n, channels, height, width = x.shape
        undone = x.reshape(n, height, width, channels).permute(0, 3, 1, 2)
        times = _ratio(_roughness(x), _roughness(undone))
        return ((n, height, width, channels), times) if times > _SMOOTHER else None
    if x.dim() == 3 and min(x.shape[:2]) >= _LEAST and x.shape[0] != x.shape[1]:
        n, steps, features = x.shape
        flat = x.transpose(0, 1).reshape(n * steps, features)
        jumps = flat.diff(dim=0).abs().double().mean(1)  # from each value to the next one of the memory
        ends = torch.zeros_like(jumps, dtype=torch.bool)
        ends[steps - 1 :: steps] = True
        inside, along = float(jumps[~ends].mean()), float(x.diff(dim=1).abs().double().mean())
        times = _ratio(along, inside)
        if times > _SMOOTHER and _ratio(float(jumps[ends].mean()), inside) > _JUMPS:
            return (steps, n, features), times
    return None


def _roughness(pictures: Tensor) -> float:
    """Mean distance between neighbours, along rows and columns."""
    return sum(float(pictures.diff(dim=axis).abs().double().mean()) for axis in (2, 3))


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 1.0
