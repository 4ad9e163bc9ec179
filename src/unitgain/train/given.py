"""The optimizer that a person gives a Learner, in any of the forms that it takes."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from .._base import InputError


def make_optimizer(given: Any, model: nn.Module) -> Optimizer:
    """The optimizer, or what the function makes of the model's parameters. Raises InputError for anything else."""
    if isinstance(given, Optimizer):
        own = {id(p) for p in model.parameters()}
        if not any(id(p) in own for group in given.param_groups for p in group["params"]):
            raise InputError("Learner(optimizer=...): it holds none of the model's parameters")
        return given
    if not callable(given):
        raise InputError(
            "Learner(optimizer=...): give an optimizer over the model's parameters, or a function from them to one: "
            f"lambda p: torch.optim.AdamW(p, lr=1e-3); got {type(given).__name__}"
        )
    made = given(model.parameters())
    if not isinstance(made, Optimizer):
        raise InputError(f"Learner(optimizer=...): the function gave {type(made).__name__}, not an optimizer")
    return made
