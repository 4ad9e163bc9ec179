"""Parameters, their gradients and what the optimizer really did to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .. import stats
from . import modules

UPDATE_SAMPLE = 16_384  # values of a parameter that are compared before and after a step


@dataclass
class Parameter:
    """A parameter with the names and the owner that the report speaks of."""

    name: str
    tensor: Tensor
    path: str
    owner: nn.Module
    aliases: list[str] = field(default_factory=list)

    @property
    def role(self) -> str:
        """weight, bias, gain (a norm's scale), embedding or other."""
        last = self.name.rpartition(".")[2]
        kind = modules.role(self.owner)
        if "bias" in last:
            return "bias"
        if kind == "embedding":
            return "embedding"
        if kind == "norm":
            return "gain"
        if self.tensor.dim() >= 2:
            return "weight"
        return "gain" if "gain" in last or "gamma" in last or last == "weight" else "other"

    @property
    def fan_in(self) -> int | None:
        """Inputs that one output value sums over; None for parameters that are no weights of a layer."""
        if self.role != "weight":
            return None
        shape = self.tensor.shape
        if type(self.owner).__name__ == "Conv1D" or getattr(self.owner, "transposed", False):
            return int(shape[0] * shape[2:].numel())
        return int(shape[1:].numel())


def list_parameters(model: nn.Module) -> list[Parameter]:
    """Every parameter once, in registration order; a tied one under its first name with the others as aliases."""
    found: dict[int, Parameter] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            full = f"{path}.{name}" if path else name
            known = found.get(id(tensor))
            if known is None:
                found[id(tensor)] = Parameter(full, tensor, path, module)
            elif full not in known.aliases and full != known.name:
                known.aliases.append(full)
    return list(found.values())


class Updates:
    """Takes a sample of each parameter before the optimizer's step and measures the change after it."""

    def __init__(self) -> None:
        self._before: dict[str, Tensor] = {}

    def take(self, parameters: list[Parameter]) -> None:
        self._before = {
            p.name: stats.take_sample(p.tensor, UPDATE_SAMPLE)
            for p in parameters
            if p.tensor.grad is not None
        }

    def measure(
        self, parameters: list[Parameter], sample: int, add: Callable[[str, stats.Partial], None]
    ) -> None:
        for p in parameters:
            before = self._before.pop(p.name, None)
            if before is not None:
                change = stats.take_sample(p.tensor, UPDATE_SAMPLE).sub_(before)
                add(p.name, stats.summarize(change, sample=sample))
        self._before.clear()


def unscaled(gradient: Tensor, optimizer: torch.optim.Optimizer | None) -> Tensor:
    """A fused optimizer under a GradScaler divides by the scale inside its step: do the same to look at it."""
    scale = getattr(optimizer, "grad_scale", None)
    return gradient if scale is None else gradient / scale
