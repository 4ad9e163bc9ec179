"""Whether an output beside the one that is compared with the targets is kept from where the loss is lowest by its last
function. For rule UG108.

The loss exponentiates the logarithm of a variance, say, and a softplus at the end keeps that logarithm above zero: the
variance is never below one. The loss is asked: with one value for all of that output, above zero and below it, while
outputs with the targets' shape are nearly right. What the loss does not take below zero (a variance itself) gives
numbers that are not finite, or a kink at zero.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._batch import Judged, tensors_in
from .._run import random_states
from ..record import FurtherFacts
from ..stats import is_plain

FUNCTIONS = {"softplus", "relu", "exp", "square"}  # whose results begin at zero and have no end
_NEARLY = 0.3  # of the targets' standard deviation: how far the other outputs are off
_ABOVE = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_BELOW = (-0.05, -0.25, -0.5, -1.0, -2.0, -4.0, -8.0, -16.0)
_SMOOTH = 0.2  # of the slope at zero: how much it may change there
_LOWER = 0.05  # of the lowest loss above zero, or of its change


def out_of_reach(done: Judged, further: tuple[FurtherFacts, ...]) -> tuple[FurtherFacts, ...]:
    """The same outputs, each with whether the loss is lower below zero."""
    tensors = list(tensors_in(done.compared))
    if done.function is None or not all(map(is_plain, tensors)):
        return further
    return tuple(
        replace(f, beyond=_is_lower_below(done, tensors, tensors[f.place])) if f.place < len(tensors) else f
        for f in further
    )


def _is_lower_below(done: Judged, tensors: list[Tensor], output: Tensor) -> bool:
    near: dict[int, Tensor] = {}
    target = done.target
    if isinstance(target, Tensor) and target.is_floating_point():
        generator = torch.Generator().manual_seed(0)
        off = _NEARLY * target.std() * torch.randn(target.shape, generator=generator).to(target)
        near = {
            id(t): (target + off).to(t.dtype) for t in tensors if t.shape == target.shape and t is not output
        }

    def loss(value: float) -> float:
        made = near | {id(output): torch.full_like(output, value, requires_grad=False)}
        with torch.no_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found: Any = done.function(_with(done.compared, made), _copied(target))  # type: ignore[misc]
            except Exception:  # the caller's own code, on outputs that it may not take
                return math.nan
        return float(found) if isinstance(found, Tensor) and found.numel() == 1 else math.nan

    above, below = [loss(v) for v in _ABOVE], [loss(v) for v in _BELOW]
    if not all(map(math.isfinite, (*above, *below))):
        return False
    slope, bend = above[1] - below[0], above[1] - 2 * above[0] + below[0]
    margin = _LOWER * max(abs(min(above)), max(above) - min(above))
    has_an_end = below[-1] > min(below)
    return abs(bend) < _SMOOTH * abs(slope) and min(below) < min(above) - margin and has_an_end


def _copied(target: Any) -> Any:
    return target.clone() if isinstance(target, Tensor) else target


def _with(outputs: Any, made: dict[int, Tensor]) -> Any:
    """The outputs with other tensors in the place of some."""
    if isinstance(outputs, Tensor):
        return made[id(outputs)].clone() if id(outputs) in made else outputs.detach().clone()
    if isinstance(outputs, dict):
        return type(outputs)({key: _with(part, made) for key, part in outputs.items()})
    if type(outputs) in (list, tuple):
        return type(outputs)(_with(part, made) for part in outputs)
    return outputs
