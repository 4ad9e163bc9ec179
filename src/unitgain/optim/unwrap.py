"""The torch optimizer inside a wrapper (accelerate's, DeepSpeed's, Lightning's, wrappers in wrappers), and the module
inside data-parallel and compiled ones."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from .._base import InputError, original

_DEEPEST = 8


def unwrapped_model(model: nn.Module, argument: str) -> nn.Module:
    """The module inside a data-parallel wrapper, or Opacus' of per-example gradients, or that a compiled one was made
    from. Raises InputError for FSDP1."""
    if any(type(m).__name__ == "FullyShardedDataParallel" for m in model.modules()):
        raise InputError(
            f"{argument}: FullyShardedDataParallel (FSDP1) makes flat parameters of all of a module's, whose layers "
            "and units cannot be told apart; use fully_shard (FSDP2), which keeps them"
        )
    model = original(model)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = original(cast("nn.Module", model.module))
    if any(base.__name__ == "AbstractGradSampleModule" for base in type(model).__mro__):
        model = original(cast("nn.Module", model._module))
    return model


def unwrapped(optimizer: Any, argument: str) -> torch.optim.Optimizer:
    """The optimizer whose step makes the step: the given one, or what its attribute `optimizer`, or Opacus'
    `original_optimizer`, holds.

    A wrapper that only inherits from torch's Optimizer, without calling its constructor, has hooks that nothing calls.
    argument: the name of the argument in messages. Raises InputError for an object that is no optimizer and wraps none.

    >>> unwrapped(torch.optim.SGD([torch.zeros(1)]), "Probe(optimizer=...)").__class__.__name__
    'SGD'
    """
    found: Any = optimizer
    for _ in range(_DEEPEST):
        if _calls_hooks(found):
            return found
        if isinstance(found, LRScheduler):
            break
        found = getattr(found, "optimizer", None) or getattr(found, "original_optimizer", None)
    name = type(optimizer).__name__
    if isinstance(optimizer, LRScheduler):
        raise InputError(f"{argument}: {name} is a schedule of learning rates; give its optimizer")
    if isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"{argument}: {name} is a wrapper whose steps cannot be observed: it does not call torch's "
            "Optimizer.__init__ and has no optimizer at its attribute `optimizer`; give the optimizer inside it"
        )
    way_out = (
        "; without one, put `with probe.step():` around each step" if argument.startswith("Probe") else ""
    )
    raise InputError(f"{argument}: expected a torch optimizer, got {name}{way_out}")


def _calls_hooks(optimizer: Any) -> TypeGuard[torch.optim.Optimizer]:
    """Whether the hooks registered with it are called: torch wraps `step` when the constructor runs."""
    return (
        isinstance(optimizer, torch.optim.Optimizer)
        and hasattr(optimizer, "_optimizer_step_pre_hooks")
        and getattr(type(optimizer).step, "hooked", False) is True
    )
