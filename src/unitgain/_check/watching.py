"""Two passes compared module by module: which is the first at whose output a part of interest differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..graph import outputs_of, walk

Part = Callable[[Tensor], Tensor | None]


class CannotTell(Exception):
    """The reason why nothing can be said."""


class Watch:
    """Hooks on modules that keep a part of each output, or find the first that differs from a reference.

    part       of a floating-point tensor what is compared; None where it holds none
    limit      relative, in float32
    reference  parts that an earlier watch has `seen`
    """

    def __init__(
        self, model: nn.Module, part: Part, limit: float, reference: dict[str, Tensor] | None = None
    ):
        self.model, self.part, self.limit, self.reference = model, part, limit, reference
        self.seen: dict[str, Tensor] = {}
        self.first: str | None = None
        self.first_module: str | None = None
        self.path = ""  # of that module
        self._calls: dict[str, int] = {}

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = []
        try:
            for path, module, _, _ in walk(self.model):
                if not isinstance(module, torch.jit.ScriptModule):
                    handles.append(module.register_forward_hook(self._hook(path)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, _args: Any, output: Any) -> None:
            if self.first is not None:
                return
            call = self._calls[path] = self._calls.get(path, 0) + 1
            for suffix, tensor in outputs_of(module, output):
                part = self.part(tensor) if tensor.is_floating_point() else None
                if part is None:
                    continue
                name = (path or "output") + (f"#{call}" if call > 1 else "") + suffix
                if self.reference is None:
                    self.seen[name] = part.clone()
                elif name in self.reference and beyond_rounding(self.reference[name], part, self.limit):
                    self.first, self.first_module, self.path = name, type(module).__name__, path
                    return

        return hook

    @property
    def is_batch_norm(self) -> bool:
        """Whether that module is a BatchNorm or part of one (some have their activation inside)."""
        names = self.path.split(".") if self.path else []
        above = [self.model.get_submodule(".".join(names[:i])) for i in range(1, len(names) + 1)]
        return any("BatchNorm" in type(module).__name__ for module in above)


def difference(a: Tensor, b: Tensor) -> float:
    """Largest difference, divided by the largest magnitude; values that are not finite count if only one is."""
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    a, b = a.double(), b.double()
    finite = torch.isfinite(a)
    if not torch.equal(finite, torch.isfinite(b)):
        return float("inf")
    a, b = torch.where(finite, a, 0.0), torch.where(finite, b, 0.0)
    scale = max(float(a.abs().max()), float(b.abs().max()))
    return float((a - b).abs().max()) / scale if scale else 0.0


def beyond_rounding(a: Tensor, b: Tensor, limit: float) -> bool:
    """limit is for float32; half precision rounds a hundred times as coarsely and more."""
    coarse = a.dtype in (torch.float16, torch.bfloat16)
    return difference(a, b) > limit * (100 if coarse else 1)
