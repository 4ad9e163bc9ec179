"""Taking a remedy back, exactly."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Snapshot:
    """A model's structure and values as they were: modules, parameters, buffers, attributes, flags and hooks.

    restore() puts all of it back, bit for bit: values into the very same tensors (so that optimizers and tied
    weights still hold them), removed or replaced modules and parameters into their places; hooks and
    parametrizations that a remedy added are taken away. Gradients are not part of it. It may be called more than
    once.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    >>> before, weight = Snapshot(model), model[0].weight.detach().clone()
    >>> _ = nn.init.zeros_(model[0].weight)
    >>> model[0].bias = None
    >>> before.restore()
    >>> torch.equal(model[0].weight, weight), model[0].bias is not None
    (True, True)
    """

    def __init__(self, model: nn.Module):
        self._modules = [(m, type(m), dict(vars(m))) for m in model.modules()]
        # registries and hooks are dictionaries that others hold too (a hook's handle does): the same ones come back
        registries = {
            id(v): v for *_, attributes in self._modules for v in attributes.values() if isinstance(v, dict)
        }
        self._registries = [(registry, dict(registry)) for registry in registries.values()]
        tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
        self._values: list[tuple[Tensor, Tensor, bool]] = [
            (t, t.detach().clone(), t.requires_grad) for t in tensors.values()
        ]

    @torch.no_grad()
    def restore(self) -> None:
        for module, kind, attributes in self._modules:
            module.__class__ = kind  # a parametrization makes a class of its own
            vars(module).clear()
            vars(module).update(attributes)
        for registry, entries in self._registries:
            registry.clear()
            registry.update(entries)
        for tensor, value, requires_grad in self._values:
            tensor.copy_(value)
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
