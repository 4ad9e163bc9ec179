"""Parameters that no optimizer holds: taken into the group that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from .._base import InputError, did_you_mean, names_given, opens_compiled
from .report import Change, RemedyReport, rms


@opens_compiled
@torch.no_grad()
def hold_parameters_(
    model: nn.Module, optimizers: Optimizer | Sequence[Optimizer], *, only: Iterable[str] | None = None
) -> RemedyReport:
    """Adds the trainable parameters that no optimizer holds to the groups that hold their like.

    optimizers  one, or several
    only        names of parameters; without it all that are missing

    Each goes into the group that holds most of the model's parameters with as many axes (biases to biases, matrices to
    matrices), and is appended there, so that it has that group's rate and schedule. What an optimizer holds beside the
    model stays. Raises InputError if there is no group to add them to.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    >>> print(*(change.name for change in hold_parameters_(model, optimizer).changes))
    0.weight 0.bias
    """
    several = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
    groups = [group for optimizer in several for group in optimizer.param_groups]
    if not groups:
        raise InputError("hold_parameters_: optimizers: there is none, or none with a group of parameters")
    held = {id(p) for group in groups for p in group["params"]}
    own = {id(p) for p in model.parameters()}
    wanted = None if only is None else set(names_given("hold_parameters_(only=...)", only))
    for name in sorted((wanted or set()) - {name for name, _ in model.named_parameters()}):
        near = did_you_mean(name, [n for n, _ in model.named_parameters()])
        raise InputError(f"hold_parameters_(only=...): no parameter is called {name!r}{near}")
    report = RemedyReport("hold_parameters_")
    for name, parameter in model.named_parameters():
        missing = parameter.requires_grad and id(parameter) not in held
        if not missing or (wanted is not None and name not in wanted):
            continue
        group = max(groups, key=lambda g: _likeness(g, parameter, own))
        group["params"].append(parameter)
        held.add(id(parameter))
        rate = f", learning rate {float(group['lr']):.3g}" if "lr" in group else ""
        size = rms(parameter)
        report.changes.append(Change(name, size, size, f"now in the optimizer{rate}"))
    return report


def _likeness(group: dict[str, Any], parameter: nn.Parameter, own: set[int]) -> tuple[int, int, int]:
    """How many of the model's parameters it holds: with as many axes, in all; then how many tensors."""
    of_model = [p for p in group["params"] if id(p) in own]
    return sum(p.dim() == parameter.dim() for p in of_model), len(of_model), len(group["params"])
