"""Whether the loss is that of a critic, whose outputs have no bounds. For rule UG105."""

from __future__ import annotations

import torch

from .asking import Question

_LINEAR = 1e-3  # of the loss's change: rounding
_EVEN = 0.5  # relative: how far the slopes at the two targets may differ, whose examples may not be as many


def is_that_of_a_critic(ask: Question) -> bool | None:
    """Whether the loss is linear in the outputs, falling by those of one of two targets and rising by those of the
    other, about as fast. None where there are not two targets, one for each output."""
    target, shape = ask.target, ask.logits.shape
    kinds = target.unique() if target.numel() == ask.logits.numel() else target.new_zeros(0)
    if len(kinds) != 2 or float(kinds[0]) not in (-1, 0) or float(kinds[1]) != 1:
        return None
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.rand(shape, generator=generator).to(ask.logits) for _ in range(2))
    none, first, second, both, most = (ask(x) for x in (0 * one, one, two, one + two, 3 * one + 2 * two))
    rises = ask((target.reshape(shape) <= 0).to(one)) - none
    falls = none - ask((target.reshape(shape) > 0).to(one))
    span = max(abs(first - none), abs(second - none), 1e-6)
    off = max(abs(first + second - both - none), abs(3 * first + 2 * second - most - 4 * none))
    return off <= _LINEAR * span and min(rises, falls) > 0 and abs(rises - falls) <= _EVEN * max(rises, falls)
