"""Whether a loss broadcasts outputs and targets of different shapes, which compares all with all. For rule UG107."""

from __future__ import annotations

import torch
from torch import Tensor

from .._batch import LOSSES, Judged, Loss, broadcasts
from .._run import random_states


def broadcast_shape(done: Judged) -> tuple[int, ...] | None:
    """The shape of what is compared where the loss broadcasts; None where it does not, or the target is one number.

    A loss of the caller's own is asked: it compares all with all if it is the same for targets in another order, but
    not for targets in the outputs' shape. (One that sees to the shapes itself may not take the latter; to it the order
    matters.)
    """
    name, loss, outputs, target = done.name, done.function, done.compared, done.target
    if loss is None or name is None or not (isinstance(outputs, Tensor) and isinstance(target, Tensor)):
        return None
    if outputs.shape == target.shape or target.numel() == 1 or outputs.numel() == 1:
        return None
    try:
        shape = tuple(torch.broadcast_shapes(outputs.shape, target.shape))
    except RuntimeError:
        return None
    if broadcasts(name, loss):
        return shape
    if outputs.numel() != target.numel() or loss in LOSSES.values():
        return None
    values = [_value(loss, outputs, t) for t in (target, target.roll(1, 0), target.reshape(outputs.shape))]
    if any(value is None for value in values):
        return None
    given, rolled, fitting = torch.stack(values)  # type: ignore[arg-type]
    in_pairs = not torch.isclose(given, rolled, rtol=1e-4, equal_nan=True)
    same = torch.isclose(given, fitting, rtol=1e-4, equal_nan=True)
    return None if in_pairs or same else shape


def _value(loss: Loss, outputs: Tensor, target: Tensor) -> Tensor | None:
    """The loss of these, of which another call tells nothing: copies, and the same random numbers."""
    with torch.no_grad(), random_states.kept():
        try:
            value = loss(outputs.detach().clone(), target.clone())
        except Exception:  # the caller's own code, on a target that it may not take
            return None
    return value.reshape(()) if isinstance(value, Tensor) and value.numel() == 1 else None
