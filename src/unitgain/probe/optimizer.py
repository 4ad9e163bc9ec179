"""What a record keeps of an optimizer: its groups, which of the model's parameters are in them, and their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..record import UNKNOWN, GroupFacts, OptimizerFacts
from .parameters import list_parameters

# keys under which optimizers keep the running square of the gradient, that eps is added to the root of
_SQUARES = re.compile(r"sq|sum|inf|var|second|nu$|^v$")
# names of optimizers that will keep it: before the first step there is no state to look at
_WILL_KEEP_SQUARES = re.compile(r"ada|rms|lamb|yogi|novograd", re.I)


def optimizer_facts(
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    model: nn.Module | None = None,
    foreign: int | None = None,
) -> OptimizerFacts:
    """The numbers of all groups, of several optimizers one after another, are those of now. model: gives the
    parameters' names."""
    optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else list(optimizer)
    names = {} if model is None else {id(p.tensor): p.name for p in list_parameters(model)}
    groups = tuple(_group(o, group, names) for o in optimizers for group in o.param_groups)
    rates = tuple(_number(group["lr"]) for o in optimizers for group in o.param_groups if "lr" in group)
    return OptimizerFacts(" and ".join(type(o).__name__ for o in optimizers), rates, groups, foreign)


def held_by(optimizers: Iterable[torch.optim.Optimizer]) -> set[int]:
    """Numbers (`id`) of the tensors in their groups."""
    return {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}


def holds_any(optimizer: torch.optim.Optimizer, model: nn.Module) -> bool:
    """Whether one of the model's parameters is in the optimizer; True for a model that has none."""
    owned = {id(p) for p in model.parameters()}
    return not owned or any(id(p) in owned for group in optimizer.param_groups for p in group["params"])


def without_optimizer(optimizers: Iterable[torch.optim.Optimizer], model: nn.Module) -> tuple[str, ...]:
    """Names of trainable parameters with a gradient other than zero that are in no group of the optimizers."""
    held = held_by(optimizers)
    return tuple(
        p.name
        for p in list_parameters(model)
        if id(p.tensor) not in held and p.tensor.requires_grad and _is_nonzero(p.tensor.grad)
    )


def count_foreign(optimizers: Iterable[torch.optim.Optimizer], model: nn.Module) -> int:
    """How many of the optimizers' tensors are not the model's and have no gradient now."""
    owned = {id(p) for p in model.parameters()}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return sum(id(p) not in owned and p.grad is None for group in groups for p in group["params"])


def _is_nonzero(gradient: Tensor | None) -> bool:
    if gradient is None or gradient.is_nested:
        return False
    values = gradient.coalesce().values() if gradient.layout is torch.sparse_coo else gradient
    return bool(values.numel()) and bool((values != 0).any())


def _group(optimizer: torch.optim.Optimizer, group: dict[str, Any], names: dict[int, str]) -> GroupFacts:
    decay, name = _number(group.get("weight_decay"), 0.0), type(optimizer).__name__
    return GroupFacts(
        lr=_number(group.get("lr")),
        weight_decay=decay,
        decoupled=bool(group.get("decoupled_weight_decay")) or name.lower().endswith("w") or name == "Lion",
        momentum=_number(group.get("momentum"), 0.0),
        eps=_number(group.get("eps")),
        eps_zero_in=_type_without_eps(optimizer, group),
        parameters=tuple(names[id(p)] for p in group["params"] if id(p) in names),
    )


def _number(value: Any, default: float = UNKNOWN) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.detach().float().cpu().item()
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def _type_without_eps(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> str | None:
    """The type of the squares' state in which the group's eps is zero. Fused kernels add eps in float32."""
    eps = group.get("eps")
    if not isinstance(eps, float) or not eps > 0 or group.get("fused"):
        return None
    for p in group["params"]:
        if not p.is_floating_point():
            continue
        kept = {key: value for key, value in optimizer.state.get(p, {}).items() if isinstance(value, Tensor)}
        squares = [v for key, v in kept.items() if _SQUARES.search(key) and v.is_floating_point() and v.dim()]
        types = {v.dtype for v in squares}
        if not optimizer.state.get(p) and _WILL_KEEP_SQUARES.search(type(optimizer).__name__):
            types = {p.dtype}
        for dtype in types:
            if torch.tensor(eps, dtype=dtype).item() == 0:
                return str(dtype).removeprefix("torch.")
    return None
