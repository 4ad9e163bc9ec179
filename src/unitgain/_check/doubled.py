"""Sums of an activation and itself, where the input of a block was meant to be added to its output. For rule UG808.

Two names for one tensor are legal where a way is an identity: what a module or function hands on as it is (nn.Identity,
an empty Sequential, dropout of nothing) is left alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ..record import DoubledFacts
from .where import calling_line

_SUMS = {"add", "iadd", "radd"}
_MOST = 20  # sums that are kept


class _Held:
    """Tensors that are still alive."""

    def __init__(self) -> None:
        self._held: dict[int, weakref.ref[Tensor]] = {}

    def add(self, tensor: Tensor) -> None:
        self._held[id(tensor)] = weakref.ref(tensor)

    def __contains__(self, tensor: Tensor) -> bool:
        known = self._held.get(id(tensor))
        return known is not None and known() is tensor


class Doubled:
    """weights: ids of the model's parameters."""

    def __init__(self, weights: set[int]):
        self.found: list[DoubledFacts] = []
        self._weights = weights
        self._learnt, self._handed_on = _Held(), _Held()
        self._versions: list[tuple[Any, int] | None] = []

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """While it lasts, modules that return what they are given are seen."""
        handles = [register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        self._versions.append(None if first is None or first.is_inference() else (first, first._version))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        before = self._versions.pop() if self._versions else None
        if before is not None and output is before[0] and output._version == before[1]:
            self._handed_on.add(output)

    def see(self, name: str, before: tuple[Tensor, int] | None, args: Any, out: Any) -> None:
        """One call; before: its first argument, and the version that this had."""
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return
        if before is not None and out is before[0] and out._version == before[1]:
            self._handed_on.add(out)
            return
        given = [a for a in args if isinstance(a, Tensor)]
        if name in _SUMS and len(given) == 2 and given[0] is given[1] and out.dim() > 1:
            x = given[0]
            if x in self._learnt and x not in self._handed_on and len(self.found) < _MOST:
                self.found.append(DoubledFacts(calling_line(), tuple(map(int, out.shape))))
        if any(a in self._learnt for a in given) or (
            len({id(a) in self._weights for a in given}) == 2  # a parameter and something else
        ):
            self._learnt.add(out)
