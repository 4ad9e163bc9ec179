"""Classes that a loss takes from one-hot targets along another axis than theirs. For rule UG807.

Targets (example, anchor, class) have their classes along the last axis: there is a single one along it, and not along
the others. An argmax over the anchors gives no classes, and where it goes into a cross entropy or picks outputs, it is
taken for classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..record import AxisFacts
from .axes import axis_of
from .kept import Kept
from .where import calling_line

_MOSTLY = 0.5  # of the rows have a one; the others may be ignored
_SAME = {"float", "long", "int", "double", "half", "to", "clone", "contiguous", "type", "detach"}
_TAKES_CLASSES = {"cross_entropy": 1, "nll_loss": 1, "one_hot": 0, "gather": 2, "take_along_dim": 1}


class OneHot:
    """targets: as the loss gets them."""

    def __init__(self, targets: Iterable[Tensor]):
        self.found: list[AxisFacts] = []
        self._classes: Kept[int] = Kept()  # of one-hot targets: the axis
        self._taken: Kept[AxisFacts] = Kept()  # classes from another axis
        for target in targets:
            if (axis := _axis_of_classes(target)) is not None:
                self._classes[target] = axis + 1  # 0 is no axis's number, then

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        x = args[0] if args else kwargs.get("input")
        if name in _TAKES_CLASSES:
            place = _TAKES_CLASSES[name]
            given = args[place] if len(args) > place else kwargs.get("target", kwargs.get("index"))
            if (
                isinstance(given, Tensor)
                and (wrong := self._taken[given]) is not None
                and wrong not in self.found
            ):
                self.found.append(wrong)
        if not isinstance(x, Tensor):
            return
        classes, wrong = self._classes[x], self._taken[x]
        if name in ("argmax", "max") and classes:
            self._see_maximum(name, x, classes - 1, args, kwargs, out)
        elif name in _SAME and classes and isinstance(out, Tensor) and out.shape == x.shape:
            self._classes[out] = classes
        elif wrong is not None and isinstance(out, Tensor) and not out.is_floating_point():
            self._taken[out] = wrong

    def _see_maximum(self, name: str, x: Tensor, classes: int, args: Any, kwargs: Any, out: Any) -> None:
        if len(args) < 2 and not isinstance(kwargs.get("dim"), int):
            return
        axis = axis_of(args, kwargs, x)
        result = out if name == "argmax" else out[1]
        if axis != classes and x.shape[axis] > 1 and isinstance(result, Tensor):
            shape = tuple(map(int, x.shape))
            self._taken[result] = AxisFacts(name, calling_line(), "classes", shape, axis, classes)


def _axis_of_classes(target: Tensor) -> int | None:
    """The only axis along which ones are single; None where there is none, or several."""
    if target.dim() < 3 or target.dtype == torch.bool or not bool(((target == 0) | (target == 1)).all()):
        return None
    sums = {axis: target.sum(axis) for axis in range(target.dim()) if target.shape[axis] > 1}
    single = [a for a, s in sums.items() if bool((s <= 1).all()) and float((s == 1).float().mean()) > _MOSTLY]
    return single[0] if len(single) == 1 and single[0] > 0 else None
