"""Whether the loss has the wrong sign, although it has a lowest value. For rule UG120.

The loss is called on right answers and on others: a similarity without its minus is highest where the outputs equal
the targets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .asking import Question, right_answers

_SIZES = (0.3, 1.0, 3.0)  # of the steps away from the targets, in units of their rms
_STEEP = 1e-3  # of the loss's range: the targets are a peak, not a plateau
_FAR, _FARTHER = 8.0, 30.0  # logits of certain answers
_BOUNDED = 0.05  # of the range: a similarity ends, a loss that punishes what is certain does not
_FEWEST = 8  # targets: of fewer a peak may be chance
_UNIT = 1e-3  # what a length may be off from one, by rounding


def costs_most(ask: Question) -> bool | None:
    """Whether right answers cost more than all others; None where no answer is known to be right."""
    target, shape = ask.target, ask.logits.shape
    if not target.is_floating_point():
        found = [_costs_more(ask, outputs) for outputs, of in right_answers(ask) if of.shape == target.shape]
        return any(found) if found else None
    if target.numel() != ask.logits.numel() or target.numel() < _FEWEST or not bool(target.isfinite().all()):
        return None
    right = target.detach().to(ask.logits.dtype).reshape(shape)
    if bool(((right == 0) | (right == 1)).all()):
        return _costs_more(ask, right)
    return _is_peak(ask, right)


def _costs_more(ask: Question, right: Tensor) -> bool:
    """right: 0 and 1. Whether certain right answers cost more than certain wrong ones and than undecided ones, and that
    not because the loss prefers 0, or 1, whatever the target is."""
    sign = 2 * right - 1
    good, none, bad = (ask(size * sign) for size in (_FAR, 0.0, -_FAR))
    farther, yes, no = ask(_FARTHER * sign), ask(_FAR + 0 * sign), ask(0 * sign - _FAR)
    span = good - bad
    if not all(abs(v) < float("inf") for v in (good, none, bad, farther, yes, no)) or span <= 0:
        return False
    ends = abs(farther - good) <= _BOUNDED * span
    return ends and good - none > _BOUNDED * span and none > bad and good - max(yes, no) > _BOUNDED * span


def _is_peak(ask: Question, right: Tensor) -> bool:
    """Whether steps of any size and direction away from the targets lower the loss."""
    unit = right.dim() > 1 and right.shape[1] > 1 and _is_unit(ask.logits.detach())
    size = right.square().mean().sqrt()
    generator = torch.Generator().manual_seed(0)

    def at(made: Tensor) -> float:
        return ask(F.normalize(made, dim=1) if unit else made)

    noise = [torch.randn(right.shape, generator=generator).to(right) * size for _ in _SIZES]
    steps = [sign * scale * step for scale, step in zip(_SIZES, noise) for sign in (1, -1)]
    top = at(right)
    away = [*(at(right + step) for step in steps), at(-right), at(noise[0])]
    scaled = [at(0.5 * right), at(2 * right)]
    if not all(abs(v) < float("inf") for v in (top, *away, *scaled)):
        return False
    span = top - min(away)
    return span > 0 and top - max(away) > _STEEP * span and max(scaled) <= top + _STEEP * span


def _is_unit(outputs: Tensor) -> bool:
    return bool(((outputs.norm(dim=1) - 1).abs() < _UNIT).all())
