"""Whether a loss of targets goes on falling, however far one of its outputs moves along the loss's slope. For rule
UG119.

The loss is called on the batch's outputs, each tensor of them moved on its own against its gradient, a hundred and ten
thousand times as far as the largest output or target. A loss with a minimum stops to fall, or rises again; one without
falls as the slope promises.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from .._batch import Judged, find_logits, tensors_in
from .._run import random_states
from ..record import ReachFacts
from ..stats import is_plain
from .asking import put_in

_FAR = (1e2, 1e4)  # times the size of the outputs
_KEPT = 0.01  # of the fall that the slope promises, between the two: terms with a minimum have ended by then
_MOST_VALUES = 1_000_000


def falls_for_ever(done: Judged, reach: ReachFacts) -> bool | None:
    """None where the loss is not one of targets, or cannot be asked."""
    target, logits = done.target, find_logits(done.compared)
    if done.function is None or not isinstance(target, Tensor) or not is_plain(target):
        return None
    if not target.dim() or len(target) < 2:
        return None
    if target.dtype != torch.bool and set(target.detach().unique().tolist()[:3]) == {-1, 1}:
        return None  # the two sides of a critic, or of a hinge
    limited = math.isfinite(reach.low) or math.isfinite(reach.high)
    tensors = [
        t for t in tensors_in(done.compared) if t.is_floating_point() and 0 < t.numel() <= _MOST_VALUES
    ]
    if not tensors or not all(map(is_plain, tensors)):
        return None

    def loss(whole: Any, answer: Tensor = target) -> Tensor | None:
        with random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = done.function(whole, answer.clone())  # type: ignore[misc]
            except Exception:  # the caller's own code, on outputs and targets that it may not take
                return None
        return value if isinstance(value, Tensor) and value.numel() == 1 else None

    with torch.no_grad():
        first, other = loss(done.compared), loss(done.compared, target.roll(1, 0))
    if first is None or other is None or not math.isfinite(float(first)) or float(first) == float(other):
        return None  # a loss of outputs alone: a density, a critic
    size = max(1.0, *(float(t.detach().double().nan_to_num().abs().max()) for t in (*tensors, target)))
    asked = [t for t in tensors if (not limited if t is logits else _is_output(t))]
    falls = any(_falls(loss, done.compared, t, size) for t in asked)
    if falls and bool((target.detach() < 0).any()):
        # advantages of a policy gradient: what goes below any bound are the terms with a sign, by right
        falls = any(_falls(lambda whole: loss(whole, target.abs()), done.compared, t, size) for t in asked)
        return True if falls else None
    return falls


def _is_output(tensor: Tensor) -> bool:
    """Whether it is no term of the loss that the model computes itself (one number, or one for each example), and of no
    one sign by construction."""
    return tensor.dim() > 1 and bool((tensor < 0).any()) and bool((tensor > 0).any())


def _falls(loss: Any, outputs: Any, tensor: Tensor, size: float) -> bool:
    at = tensor.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = loss(put_in(outputs, tensor, at) if outputs is not tensor else at)
        if value is None or not value.requires_grad:
            return False
        (slope,) = torch.autograd.grad(value, at, allow_unused=True)
    if slope is None or not bool(slope.isfinite().all()) or not bool(slope.any()):
        return False
    way = -slope * (size / float(slope.abs().max()))
    promised, first = float((slope.double() * way.double()).sum()), float(value.detach())
    with torch.no_grad():
        moved = [loss(put_in(outputs, tensor, tensor.detach() + factor * way)) for factor in _FAR]
    far = [math.nan if value is None else float(value) for value in moved]
    least = _KEPT * (_FAR[1] - _FAR[0]) * promised
    return all(map(math.isfinite, far)) and far[0] < first and far[1] - far[0] < least
