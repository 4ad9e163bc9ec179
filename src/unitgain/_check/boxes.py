"""Boxes that are given as centre and size to a loss that takes them for two corners. For rule UG106.

The overlap of a box with itself is one, whichever box it is: a perfect answer costs the same for all targets, and no
other answer costs less. Of a centre and a size taken for corners that is not so: where the width is less than the
centre's place, the box has a negative side. So the loss is called on answers that equal the targets and on others near
by, one target at a time, and once more with both brought to corners. Only where this makes all perfect answers cost the
same and less than the others are the boxes given in another form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .asking import Question

_MOST = 8  # boxes that are tried
_FEWEST = 4
_OTHERS, _STEP = 8, 0.2  # answers near by, and how far, in sizes of the box
_APART = 0.02  # by which perfect answers cost more than others
_SAME = 1e-4
_MORE = 0.25  # by which they cost more than they would as corners


def not_corners(ask: Question) -> bool | None:
    """None where the targets are no boxes: four numbers each, for each of which the model gives one."""
    target = ask.target
    if not target.is_floating_point() or target.dim() < 2 or target.shape[-1] != 4:
        return None
    if ask.logits.shape != target.shape or not bool(target.isfinite().all()):
        return None
    boxes = target.reshape(-1, 4)
    real = boxes[(boxes[:, 2:] > 0).all(1)]
    if len(real) < _FEWEST or len(real) < len(boxes) / 2:
        return None
    chosen = list(real[torch.linspace(0, len(real) - 1, min(_MOST, len(real))).long()])
    given = [_costs(ask, box) for box in chosen]
    for corners in (_of_centre, _of_place):
        right = [_costs(ask, corners(box), corners) for box in chosen]
        if _is_right(right) and (_is_wrong(given) or _cost_more(given, right)):
            return True
    return False


@dataclass(frozen=True)
class _Costs:
    """Of one target: what a perfect answer costs, and the cheapest of others."""

    perfect: float
    other: float


def _is_wrong(costs: list[_Costs]) -> bool:
    """Whether perfect answers cost different amounts, or others cost less, or the same."""
    perfect = [c.perfect for c in costs]
    if not all(map(math.isfinite, perfect)):
        return False
    beaten = sum(c.other < c.perfect - _APART or abs(c.other - c.perfect) <= _SAME for c in costs)
    return max(perfect) - min(perfect) > _APART or beaten >= len(costs) / 2


def _cost_more(given: list[_Costs], right: list[_Costs]) -> bool:
    """Whether perfect answers cost more as they are given than as corners."""
    return min(c.perfect for c in given) > max(c.perfect for c in right) + _MORE


def _is_right(costs: list[_Costs]) -> bool:
    perfect = [c.perfect for c in costs]
    if not all(map(math.isfinite, perfect)) or max(perfect) - min(perfect) > _SAME:
        return False
    return all(c.other > c.perfect + _SAME for c in costs)


def _costs(ask: Question, box: Tensor, corners: Callable[[Tensor], Tensor] = lambda box: box) -> _Costs:
    """box: as the loss is given it; others are steps away from it by a part of its size."""
    noise = torch.randn(_OTHERS, 4, generator=torch.Generator().manual_seed(5)).to(box)
    size = box[2:].abs().mean() if corners(box) is box else (box[2:] - box[:2]).abs().mean()
    others = [box + _STEP * size * step for step in noise]
    return _Costs(_cost(ask, box, box), min((_cost(ask, other, box) for other in others), key=_or_infinite))


def _or_infinite(cost: float) -> float:
    return cost if math.isfinite(cost) else math.inf


def _cost(ask: Question, answer: Tensor, box: Tensor) -> float:
    """What this answer costs, where all targets are the box."""
    return ask(answer.expand(ask.target.shape), box.expand(ask.target.shape))


def _of_centre(box: Tensor) -> Tensor:
    return torch.cat([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])


def _of_place(box: Tensor) -> Tensor:
    """Of the first corner and the size."""
    return torch.cat([box[:2], box[:2] + box[2:]])
