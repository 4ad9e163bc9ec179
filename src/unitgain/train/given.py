"""The optimizer that a user gives a Learner, in any of the forms that it takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from .._base import InputError


def make_optimizer(given: Any, model: nn.Module) -> Optimizer:
    """The optimizer, or the one that the function makes. Raises InputError for anything else."""
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


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """The highest learning rate of all groups becomes this one; the others keep their proportion to it.

    Raises InputError for what is no rate.
    """
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
        raise InputError(f"fit(lr={rate!r}): a learning rate is a number above 0, like 0.01")
    highest = max(float(group["lr"]) for group in optimizer.param_groups)
    for group in optimizer.param_groups:
        new = rate * (float(group["lr"]) / highest if highest > 0 else 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(new)  # of a captured or compiled step
        else:
            group["lr"] = new
