"""The optimizer and the loss that a user gives a Learner, in any of the forms that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from .._base import InputError
from .._batch.losses import check_shapes, resolve


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


def loss_function(loss: str | Callable[[Any, Any], Tensor] | None) -> Callable[[Any, Any], Tensor] | None:
    """The function that a loss's name stands for, or the one given; None for none."""
    if not isinstance(loss, str):
        return loss

    def by_name(outputs: Any, target: Any) -> Tensor:
        found = resolve(loss, target)
        assert found is not None
        name, function = found
        check_shapes(
            name, outputs, target
        )  # refused: nobody means to train on all outputs against all targets
        return function(outputs, target)

    by_name.__name__ = loss
    return by_name


def own_loss(outputs: Any, loss: Callable[[Any, Any], Tensor] | None, kwargs: Mapping[str, Any]) -> Tensor:
    """The loss of a batch without target: what the output carries, or the output itself if it is a scalar."""
    own = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if isinstance(own, Tensor):
        return own
    if isinstance(outputs, Tensor) and outputs.dim() == 0:
        return outputs
    raise InputError(
        "data: the batch has no target and the model's output carries no loss; give (inputs, target) pairs, or a "
        f"model that returns its loss (batch keys: {', '.join(kwargs) or 'none'})"
    )
