"""Whether the optimizer that a tool was hooked to is the one that changes the weights.

Wrappers such as SAM (Foret et al. 2021, arXiv 2010.01412) step their inner optimizer, or change the weights themselves;
a hook on a step that nobody calls does nothing, and nothing says so.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

_CHANGES = 10  # of the weights, without any step: no training loop does that by accident


def inner_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer | None:
    """The optimizer that a wrapper of SAM's kind (attribute `base_optimizer`) steps for the same parameters."""
    inner = getattr(optimizer, "base_optimizer", None)
    if not isinstance(inner, torch.optim.Optimizer) or inner is optimizer:
        return None
    ours = {id(p) for group in optimizer.param_groups for p in group["params"]}
    theirs = {id(p) for group in inner.param_groups for p in group["params"]}
    return inner if ours & theirs else None


class UnusedWatch:
    """Warns once if weights change `_CHANGES` times and `stop` has not been called; costs nothing afterwards.

    It looks at one parameter, whenever that gets a gradient: has its value been changed since the last time?
    """

    def __init__(self, optimizer: torch.optim.Optimizer, what: str):
        self._what, self._name = what, type(optimizer).__name__
        self._handle: Any = None
        self._changes = 0
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            plain = type(parameter) in (torch.nn.Parameter, Tensor)
            if plain and parameter.requires_grad and parameter.is_leaf:
                self._version = parameter._version
                self._handle = parameter.register_post_accumulate_grad_hook(self._look)
                return

    def _look(self, parameter: Tensor) -> None:
        if parameter._version == self._version:
            return
        self._version = parameter._version
        self._changes += 1
        if self._changes >= _CHANGES:
            self.stop()
            warnings.warn(
                f"{self._what}: the weights have changed {self._changes} times and {self._name}.step was not called "
                f"once, so that {self._what} does nothing; give the optimizer whose step changes the weights, or call "
                "clip() before each change",
                stacklevel=2,
            )

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
