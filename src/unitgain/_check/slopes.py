"""What the slopes of a loss say of targets that are class numbers: a class that it does not look at, and one's own
class pushed down with the others. For rules UG106 and UG120.

The loss is differentiated at made-up outputs (N, C), one row for each of N labels. A row without any slope, in each of
several draws, is one that the loss leaves out: its class weighs nothing, or is masked away. Where the output of each
row's own class makes the loss larger, as those of the others do, right answers are punished like wrong ones. (A
distance to one's own class makes it larger, too, but those to the others smaller.)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from .._run import random_states
from .asking import Question, put_in

_DRAWS = (1.0, -1.0, 4.0, -4.0)  # a hinge is flat on one side
_LABELS = 4  # of a class at least: that all of fewer are silent may be chance
_MOST_CLASSES = 1000
_MOSTLY = 0.75  # of the rows: the square of a similarity below zero falls as that rises


@dataclass(frozen=True)
class ClassSlopes:
    """silent: the class whose rows have no slope (NaN: none); repels: whether the loss rises with the output of each
    row's own class, and with those of the others."""

    silent: float = math.nan
    repels: bool | None = None


def class_slopes(ask: Question) -> ClassSlopes:
    """Nothing where the targets are no class numbers, one for each row of outputs."""
    target, outputs = ask.target, ask.logits
    if target.is_floating_point() or target.dtype == torch.bool or target.dim() != 1 or outputs.dim() != 2:
        return ClassSlopes()
    known = (target >= 0) & (target < outputs.shape[1])
    if len(target) != len(outputs) or not bool(known.any()) or outputs.shape[1] < 2:
        return ClassSlopes()
    values, counts = target[known].unique(return_counts=True)
    if not 1 < len(values) <= _MOST_CLASSES:
        return ClassSlopes()
    slopes = _slopes(ask)
    if slopes is None:
        return ClassSlopes()
    heard = torch.stack([(slope != 0).any(1) for slope in slopes]).any(0)
    silent = [
        float(v)
        for v, n in zip(values, counts)
        if int(n) >= _LABELS and not bool(heard[(target == v) & known].any())
    ]
    others = [v for v in values if float(v) not in silent]
    whole = all(bool(heard[(target == v) & known].any()) for v in others)
    return ClassSlopes(
        silent[0] if len(silent) == 1 and others and whole else math.nan,
        _repels(slopes, target, known & heard),
    )


def _repels(slopes: list[Tensor], target: Tensor, rows: Tensor) -> bool:
    if int(rows.sum()) < _LABELS:
        return False
    pushed = False
    for slope in slopes:
        own = slope.gather(1, target.clamp(0, slope.shape[1] - 1)[:, None].long())[:, 0][rows]
        others = slope.sum(1)[rows] - own
        if not bool((own > 0).all()) or float((others >= 0).float().mean()) < _MOSTLY:
            return False
        pushed |= bool((others > 0).any())
    return pushed


def _slopes(ask: Question) -> list[Tensor] | None:
    """Gradients of the loss at several draws of outputs, and at such as cosines and as probabilities can be; None where
    it does not give them."""
    made = torch.randn(ask.logits.shape, generator=torch.Generator().manual_seed(4)).to(ask.logits)
    found = [_slope(ask, factor * made) for factor in _DRAWS]
    found.append(_slope(ask, made.tanh()))
    if any(slope is None for slope in found):
        found = [_slope(ask, (factor * made).softmax(1)) for factor in _DRAWS]
    kept = [slope for slope in found if slope is not None]
    return kept if len(kept) == len(found) else None


def _slope(ask: Question, made: Tensor) -> Tensor | None:
    outputs = made.clone().requires_grad_()
    held = outputs if ask.outputs is ask.logits else put_in(ask.outputs, ask.logits, outputs)
    try:
        with torch.enable_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss = ask.loss(held, ask.target.clone())
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                return None
            (slope,) = torch.autograd.grad(loss.sum(), outputs, allow_unused=True)
    except Exception:  # the caller's own code, on outputs that it may not take
        return None
    return slope if slope is not None and bool(slope.isfinite().all()) else None
