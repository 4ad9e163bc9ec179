"""The optimizer that a rehearsal steps with: the caller's own, or one made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from .._base import InputError

OptimizerLike = torch.optim.Optimizer | Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]


def optimizer_for(model: nn.Module, given: OptimizerLike | None) -> torch.optim.Optimizer:
    """The given one, what a given function makes of the trainable parameters, or SGD with learning rate 0.01.

    Raises InputError for a function that makes none, and a model with nothing to train. An optimizer of another model
    is taken as it is: UG701 says what is not in it.
    """
    if isinstance(given, torch.optim.Optimizer):
        return given
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise InputError("steps: the model has no trainable parameter, so no optimizer step can be rehearsed")
    if given is None:
        return torch.optim.SGD(trainable, lr=0.01)
    assert callable(given)
    made = given(trainable)
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(
            f"optimizer: expected a torch optimizer or a function from parameters to one, got {type(made).__name__}"
        )
    return made
