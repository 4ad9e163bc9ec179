"""Where a rehearsal on one batch has led, compared with its beginning on the same random numbers. For rules UG110 and
UG114.

Dropout, drawn noise and shuffled targets make losses of different steps hard to compare; with the random numbers of
the first pass they are the same. Where the loss did not fall, a short step against the gradient from the start shows
whether the gradient is that of the loss: it must lower the loss by its squared norm times the step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._run import random_states
from ..record import UNKNOWN, EndFacts
from ..rules import CATALOGUE
from .asking import loss_of_mean_output
from .facts import spread_of
from .passes import Passes

_SHARE = 1e-3  # of the loss, by which the short step is to lower it


def end_facts(passes: Passes, random: Any) -> EndFacts:
    """Right after the last step. random: the random states before the first pass. One forward pass, unmeasured."""
    try:
        with torch.no_grad(), random_states.kept():
            random_states.put(random)
            done = passes.run(backward=False)
    except InputError:  # with the weights that the steps led to the model raises
        return EndFacts()
    if done.loss is None:
        return EndFacts()
    spread = deviation = UNKNOWN
    if done.logits is not None and done.logits.dim() and len(done.logits) > 1:
        outputs = done.logits.detach().double().nan_to_num()
        spread = spread_of(outputs)
        deviation = spread * float(outputs.square().mean().sqrt())
    return EndFacts(float(done.loss), spread, deviation, loss_of_mean_output(done))


def descent(passes: Passes, model: nn.Module, first: float, end: EndFacts, random: Any) -> float:
    """What a short step against the gradient lowers the loss by, over what the gradient says; UNKNOWN where the
    rehearsal lowered the loss, or this cannot be measured. Rewinds; one pass with backward and one without."""
    if (
        not math.isfinite(first)
        or first <= 0
        or first - end.loss >= CATALOGUE["UG110"].limit("progress") * first
    ):
        return UNKNOWN
    passes.rewind()
    try:
        random_states.put(random)
        before = passes.run()
        gradients = [(p, p.grad) for p in model.parameters() if p.grad is not None and _is_dense(p.grad)]
        square = sum(float(g.double().square().sum()) for _, g in gradients)
        if before.loss is None or not square or not math.isfinite(square):
            return UNKNOWN
        length = _SHARE * float(before.loss.detach()) / square
        with torch.no_grad():
            for p, g in gradients:
                p.sub_(length * g)
            random_states.put(random)
            after = passes.run(backward=False)
        assert after.loss is not None
        return (float(before.loss.detach()) - float(after.loss.detach())) / (length * square)
    except InputError:
        return UNKNOWN
    finally:
        passes.rewind()


def _is_dense(gradient: Tensor) -> bool:
    return gradient.layout is torch.strided
