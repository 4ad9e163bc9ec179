"""Parameters, their gradients and what the optimizer really did to them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .. import stats
from .._base import plain_name
from ..graph import role_of
from ..record import ModelFacts, ParameterCount
from .sharded import is_sharded, piece


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
        kind = role_of(self.owner)
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
            groups = getattr(
                self.owner, "groups", 1
            )  # (in, out / groups, kernel): a group has in / groups inputs
            return int(shape[0] // groups * shape[2:].numel())
        return int(shape[1:].numel())


def list_parameters(model: nn.Module) -> list[Parameter]:
    """Every parameter once, in registration order; a tied one under its first name with the others as aliases."""
    found: dict[int, Parameter] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        path = plain_name(path)
        for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            full = f"{path}.{name}" if path else name
            known = found.get(id(tensor))
            if known is None:
                found[id(tensor)] = Parameter(full, tensor, path, module)
            elif full not in known.aliases and full != known.name:
                known.aliases.append(full)
    return list(found.values())


def parts_of(model: nn.Module) -> tuple[list[int], list[int]]:
    """Numbers (`id`) of its modules and of its parameters: others, where some have been added or replaced. At each
    measured step, so not by `model.modules()`, which takes three times as long."""
    modules: dict[int, None] = {}
    parameters: dict[int, None] = {}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if module is None or id(module) in modules:
            continue
        modules[id(module)] = None
        parameters.update((id(p), None) for p in module._parameters.values() if p is not None)
        waiting += module._modules.values()  # type: ignore[arg-type]
    return list(modules), list(parameters)


def forget_empty_hooks(model: nn.Module) -> None:
    """Leaves the parameters as they were before their first hook. torch keeps the dictionary of a tensor's hooks when
    the last one is removed, and calls Python for it in every later backward pass: 1 to 2 microseconds a parameter.

    Not while a backward pass runs, in whatever thread: it reads what this deletes.
    """
    for module in model.modules():
        for p in module._parameters.values():
            if type(p) is not nn.Parameter:
                continue
            if p._backward_hooks is not None and not p._backward_hooks:
                p._backward_hooks = None
            if p._post_accumulate_grad_hooks is not None and not p._post_accumulate_grad_hooks:
                p._post_accumulate_grad_hooks = None  # pyright: ignore[reportAttributeAccessIssue]


class Updates:
    """Takes (a sample of) each parameter before the optimizer's step and measures the change after it.

    size  values taken of each parameter
    """

    def __init__(self, size: int):
        self.size = size
        self._before: dict[str, Tensor] = {}

    def take(self, parameters: list[Parameter]) -> dict[str, Tensor]:
        """{name: values before the step}."""
        taken = {p.name: self.values(p) for p in parameters}
        self._before.update(taken)
        return taken

    def forget(self) -> None:
        """The step was not made."""
        self._before.clear()

    def changes(self, parameters: list[Parameter]) -> dict[str, tuple[Tensor, Tensor]]:
        """{name: (after minus before, before)} of the parameters that had a gradient."""
        before = {p.name: self._before.pop(p.name) for p in parameters if p.name in self._before}
        return {
            p.name: (self.values(p).sub_(before[p.name]), before[p.name])
            for p in parameters
            if p.name in before and p.tensor.grad is not None
        }

    def values(self, p: Parameter) -> Tensor:
        """Of a parameter that is cut up over ranks, this rank's share."""
        return piece(p.tensor, self.size) if is_sharded(p.tensor) else stats.take_sample(p.tensor, self.size)


def cosine(change: Tensor, before: Tensor) -> Tensor:
    """Cosine of the angle between an update and the weights before it, NaN where one of them is zero; 0-dim."""
    a, b = (v.detach().flatten().float() for v in (change, before))
    a, b = (v / v.abs().amax() for v in (a, b))  # 0 / 0 is the NaN
    return torch.dot(a, b) / (a.norm() * b.norm())


def gradient_norms(named: dict[str, Tensor]) -> dict[str, tuple[Tensor, int]]:
    """{name: (norm of the whole gradient, number of its values)}, norms 0-dim and on the gradients' devices.

    The norm decides the gradient:data ratio, and it is not finite if one value anywhere is not. On a CPU also if
    the float32 squares overflow, but there a caller can look again without waiting. Elsewhere squares are summed in
    float64 (where the device has it), in which they do not.
    """
    whole = {n: torch.view_as_real(g.resolve_conj()) if g.is_complex() else g for n, g in named.items()}
    if all(g.device.type == "cpu" and g.dtype is torch.float32 and g.is_contiguous() for g in whole.values()):
        flat = {n: g.view(-1) for n, g in whole.items()}
        return {n: (torch.dot(g, g).sqrt_(), g.numel()) for n, g in flat.items()}  # a third of a norm's time
    wide = {n: g for n, g in whole.items() if g.device.type != "mps"}
    narrow = {n: g for n, g in whole.items() if g.device.type == "mps"}
    found: dict[str, tuple[Tensor, int]] = {}
    for some, dtype in ((wide, torch.float64), (narrow, torch.float32)):
        if some:
            norms = torch._foreach_norm(list(some.values()), 2, dtype=dtype)
            found.update({n: (norm, g.numel()) for (n, g), norm in zip(some.items(), norms)})
    return found


def unscaled(gradient: Tensor, optimizer: torch.optim.Optimizer | None) -> Tensor:
    """A fused optimizer under a GradScaler divides by the scale inside its step: do the same to look at it."""
    scale = getattr(optimizer, "grad_scale", None)
    return gradient if scale is None else gradient / scale


def model_facts(model: nn.Module) -> ModelFacts:
    parameters = list(model.parameters())
    return ModelFacts(
        type(model).__name__,
        ParameterCount(
            trainable=sum(p.numel() for p in parameters if p.requires_grad),
            all=sum(p.numel() for p in parameters),
        ),
        modules=sum(1 for _ in model.modules()),
    )
