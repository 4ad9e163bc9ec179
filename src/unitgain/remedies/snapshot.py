"""Taking a remedy back, exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Snapshot:
    """A model's structure and values as they were: modules, parameters, buffers, their requires_grad, training flags.

    restore() puts all of it back, bit for bit: values into the very same tensors (so that optimizers and tied
    weights still hold them), removed or replaced modules and parameters into their places, hooks that a
    remedy added taken away. Gradients are not part of it. It may be called more than once.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    >>> before, weight = Snapshot(model), model[0].weight.detach().clone()
    >>> _ = nn.init.zeros_(model[0].weight)
    >>> before.restore()
    >>> torch.equal(model[0].weight, weight)
    True
    """

    def __init__(self, model: nn.Module):
        self._modules = list(model.modules())
        self._places = [
            (dict(m._parameters), dict(m._buffers), dict(m._modules), _plain(m)) for m in self._modules
        ]
        self._values: list[tuple[Tensor, Tensor, bool]] = []
        seen: set[int] = set()
        for tensor in (*model.parameters(), *model.buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                self._values.append((tensor, tensor.detach().clone(), tensor.requires_grad))

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, value, requires_grad in self._values:
            tensor.copy_(value)
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
        for module, (parameters, buffers, modules, plain) in zip(self._modules, self._places):
            for there, before in (
                (module._parameters, parameters),
                (module._buffers, buffers),
                (module._modules, modules),
            ):
                there.clear()  # type: ignore[attr-defined]
                there.update(before)  # type: ignore[arg-type]
            for name in [n for n in vars(module) if n not in plain and n not in _CONTENTS]:
                del vars(module)[name]
            for name, value in plain.items():
                if name in _HOOKS:
                    hooks = vars(module)[name]
                    hooks.clear()
                    hooks.update(value)
                else:
                    vars(module)[name] = value


_CONTENTS = ("_parameters", "_buffers", "_modules")
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
)


def _plain(module: nn.Module) -> dict[str, Any]:
    """What else a module has: flags, sizes and hooks, by reference (the hooks' dictionaries copied)."""
    return {
        name: dict(value) if name in _HOOKS else value
        for name, value in vars(module).items()
        if name not in _CONTENTS
    }
