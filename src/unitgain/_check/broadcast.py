"""Whether a loss broadcasts outputs and targets of different shapes, which compares all with all. For rule UG107."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from .._batch import LOSSES, Judged, Loss, broadcasts, map_tensors, tensors_in
from .._run import random_states

_MOST_OUTPUTS = 8  # that are tried


@dataclass(frozen=True)
class Stretched:
    """The shapes of outputs and targets, and the one over which the loss compares them."""

    outputs: tuple[int, ...]
    target: tuple[int, ...]
    over: tuple[int, ...]


def broadcast_shape(done: Judged) -> Stretched | None:
    """What is compared where the loss broadcasts; None where it does not, or the target is one number. Of several
    outputs, the first that is broadcast.

    A loss of the caller's own is asked: it compares all with all if it is the same for targets in another order, but
    not for targets in the outputs' shape. (One that sees to the shapes itself may not take the latter; to it the order
    matters.)
    """
    name, loss, target = done.name, done.function, done.target
    if loss is None or name is None or not isinstance(target, Tensor) or target.numel() == 1:
        return None
    tensors = islice((t for t in tensors_in(done.compared) if t.is_floating_point()), _MOST_OUTPUTS)
    asked: set[torch.Size] = set()
    for tensor in tensors:
        if tensor.shape in asked or tensor.shape == target.shape or tensor.numel() == 1:
            continue
        asked.add(tensor.shape)
        shape = _over(name, loss, done.compared, tensor, target)
        if shape is not None:
            return Stretched(tuple(tensor.shape), tuple(target.shape), shape)
    return None


def _over(name: str, loss: Loss, outputs: Any, tensor: Tensor, target: Tensor) -> tuple[int, ...] | None:
    """tensor: the outputs, or one of them"""
    try:
        shape = tuple(torch.broadcast_shapes(tensor.shape, target.shape))
    except RuntimeError:
        return None
    if broadcasts(name, loss):
        return shape
    if tensor.numel() != target.numel() or loss in LOSSES.values():
        return None
    values = [_value(loss, outputs, t) for t in (target, target.roll(1, 0), target.reshape(tensor.shape))]
    if any(value is None for value in values):
        return None
    given, rolled, fitting = torch.stack(values)  # type: ignore[arg-type]
    in_pairs = not torch.isclose(given, rolled, rtol=1e-4, equal_nan=True)
    same = torch.isclose(given, fitting, rtol=1e-4, equal_nan=True)
    return None if in_pairs or same else shape


def _value(loss: Loss, outputs: Any, target: Tensor) -> Tensor | None:
    """The loss of these, of which another call tells nothing: copies, and the same random numbers."""
    with torch.no_grad(), random_states.kept():
        try:
            value = loss(map_tensors(outputs, lambda t: t.detach().clone()), target.clone())
        except Exception:  # the caller's own code, on a target that it may not take
            return None
    return value.reshape(()) if isinstance(value, Tensor) and value.numel() == 1 else None
