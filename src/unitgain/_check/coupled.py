"""Which function couples the examples of a batch, over which axis, and on which line. For rule UG603.

Two passes of the same example with other mates make the same calls. The first call at whose output the example differs
couples it; where an argument of that call is a statistic that was taken over the examples (a mean, a norm), it is that.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .._batch import tensors_in
from .where import calling_line

Part = Callable[[Tensor], "Tensor | None"]
Differ = Callable[[Tensor, Tensor], bool]
_MOST = 20_000  # calls


@dataclass(frozen=True)
class Coupled:
    function: str
    axis: int | None
    where: str | None


class Calls(TorchFunctionMode):
    """Keeps the example's part of every call's output, or finds the first that differs from those of another pass.

    part    the example's part of a tensor; None where it has no axis of the examples
    """

    def __init__(self, part: Part, differ: Differ, reference: Calls | None = None):
        super().__init__()
        self.part, self.differ, self.reference = part, differ, reference
        self.kept: list[tuple[str, Tensor | None, Tensor | None]] = []
        self.found: Coupled | None = None
        self._statistics: dict[int, tuple[weakref.ref[Tensor], Coupled]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            if isinstance(out, (Tensor, tuple, list)) and self.found is None and len(self.kept) < _MOST:
                first = next((t for t in tensors_in(out) if t.is_floating_point()), None)
                if first is not None:
                    self._see(getattr(func, "__name__", "").strip("_"), args, kwargs, first)
        return out

    def _see(self, name: str, args: Any, kwargs: Any, out: Tensor) -> None:
        part = self.part(out)
        whole = out.detach().clone() if part is None else None
        number = len(self.kept)
        self.kept.append((name, None if part is None else part.detach().clone(), whole))
        if self.reference is None or number >= len(self.reference.kept):
            return
        before, part_before, whole_before = self.reference.kept[number]
        if before != name:
            self.found = Coupled("", None, None)  # other calls: nothing can be said
            return
        inputs = list(tensors_in((args, kwargs)))
        if part is not None and part_before is not None and self.differ(part_before, part):
            blamed = next((c for t in inputs if (c := self._statistic(t)) is not None), None)
            self.found = blamed or Coupled(name, _axis_of(args, kwargs), calling_line())
        elif whole is not None and whole_before is not None and self.differ(whole_before, whole):
            from_them = next((c for t in inputs if (c := self._statistic(t)) is not None), None)
            blamed = from_them or Coupled(name, _axis_of(args, kwargs), calling_line())
            if from_them is not None or any(self.part(t) is not None for t in inputs):
                self._statistics[id(out)] = weakref.ref(out), blamed

    def _statistic(self, tensor: Tensor) -> Coupled | None:
        entry = self._statistics.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None


def _axis_of(args: Any, kwargs: Any) -> int | None:
    """The axis that a call was given: dim=, or the whole number that follows the tensor."""
    axis = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    if isinstance(axis, (tuple, list)) and len(axis) == 1:
        axis = axis[0]
    return axis if isinstance(axis, int) and not isinstance(axis, bool) else None
