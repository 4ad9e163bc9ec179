"""Taking a change to a model back, exactly: values bit for bit, and the very same tensors and modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Snapshot:
    """What a model is made of and holds, to be put back with `restore`.

    Kept are every module's own dictionaries (so that a bias that was removed, a module that was replaced or a
    hook that was added is undone) and a copy of every parameter's and buffer's values. The tensors that come
    back are the same objects as before: optimizers that hold them stay right.

    >>> layer = nn.Linear(2, 2)
    >>> before = layer.weight.detach().clone()
    >>> kept = Snapshot(layer)
    >>> _ = nn.init.zeros_(layer.weight)
    >>> layer.bias = None
    >>> kept.restore()
    >>> torch.equal(layer.weight, before), layer.bias is not None
    (True, True)
    """

    def __init__(self, model: nn.Module):
        self._modules = [(m, _attributes(m)) for m in model.modules()]
        tensors: dict[int, Tensor] = {}
        for tensor in (*model.parameters(), *model.buffers()):
            tensors.setdefault(id(tensor), tensor)
        self._values = [
            (t, t.requires_grad, None if t.is_meta else t.detach().clone()) for t in tensors.values()
        ]

    @torch.no_grad()
    def restore(self) -> None:
        for module, attributes in self._modules:
            module.__dict__.clear()
            module.__dict__.update(_copied(attributes))
        for tensor, requires_grad, values in self._values:
            if values is not None:
                tensor.copy_(values)
            tensor.requires_grad_(requires_grad)


def _attributes(module: nn.Module) -> dict[str, Any]:
    return _copied(module.__dict__)


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """One level deep: the registries of a module are dictionaries of their own."""
    return {name: value.copy() if isinstance(value, dict) else value for name, value in attributes.items()}
