"""The optimizers that a rehearsal steps with: the caller's own, or what is made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from .._base import InputError

OptimizerLike = (
    Optimizer | Sequence[Optimizer] | Callable[[Iterable[torch.Tensor]], Optimizer | Sequence[Optimizer]]
)


def optimizers_for(model: nn.Module, given: OptimizerLike | None) -> tuple[Optimizer, ...]:
    """The given ones, what a given function makes of the trainable parameters, or SGD with learning rate 0.01.

    Raises InputError for a function that makes none, and a model with nothing to train. An optimizer of another model
    is taken as it is: UG701 says what is not in it.
    """
    if isinstance(given, Optimizer):
        return (given,)
    if isinstance(given, Sequence):
        return tuple(given)
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise InputError("steps: the model has no trainable parameter, so no optimizer step can be rehearsed")
    if given is None:
        return (torch.optim.SGD(trainable, lr=0.01),)
    assert callable(given)
    made = given(trainable)
    several = tuple(made) if isinstance(made, (list, tuple)) else (made,)
    wrong = [type(one).__name__ for one in several if not isinstance(one, Optimizer)]
    if wrong or not several:
        raise InputError(
            "optimizer: expected a torch optimizer, several, or a function from parameters to them, got "
            f"{wrong[0] if wrong else 'none'}"
        )
    return several  # type: ignore[return-value]
