"""Attention among the heads of one step, where that of each head among the steps was meant. For rule UG807.

The features of a linear layer, (example, step, feature), are cut into heads by a view, (example, step, head,
feature). Unless steps and heads change places, a product of queries and keys compares the heads of one step, and no
step learns of another one. Variables or patches with an axis of their own from the beginning are not cut out of
features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .axis_moves import EACH_VALUE, moved
from .kept import Kept
from .where import calling_line

_CUTS = {"view", "reshape", "unflatten"}
_PRODUCTS = {"matmul", "bmm"}

Report = Callable[[str, str, tuple[int, ...], int, str | None], None]


class Heads:
    """report: takes function, kind, shape, axis and line of the caller's code of what is found."""

    def __init__(self, report: Report):
        self._report = report
        self._features: Kept[bool] = Kept()  # (example, step, feature) of a linear layer
        self._heads: Kept[tuple[int, int]] = Kept()  # the axes of steps and of heads
        self._within: Kept[bool] = Kept()  # scores of the heads of each step

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        given = [a for a in args if isinstance(a, Tensor)]
        outs = [t for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, Tensor)]
        if not outs or not given:
            return
        if name == "linear" and outs[0].dim() == 3:
            self._features[outs[0]] = True
        elif name == "scaled_dot_product_attention":
            q, k = args[0], args[1] if len(args) > 1 else kwargs.get("key")
            if self._heads[q] == self._heads[k] == (1, 2) and isinstance(q, Tensor) and min(q.shape[1:3]) > 1:
                self._report(name, "heads", tuple(map(int, q.shape)), 2, calling_line())
        elif name in _PRODUCTS and len(given) > 1:
            if self._heads[given[0]] == (1, 2) and self._heads[given[1]] == (1, 3):
                self._within[outs[0]] = min(given[0].shape[1:3]) > 1
        elif name == "softmax" and self._within[given[0]]:
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if isinstance(axis, int) and axis % 4 == 3:
                self._report(name, "heads", tuple(map(int, given[0].shape)), 3, calling_line())
        else:
            self._hand_on(name, args, kwargs, given[0], outs)

    def _hand_on(self, name: str, args: Any, kwargs: Any, first: Tensor, outs: list[Tensor]) -> None:
        if self._within[first] and name in EACH_VALUE and outs[0].shape == first.shape:
            self._within[outs[0]] = True
        if self._features[first]:
            for out in outs:
                if name in _CUTS:
                    self._cut(first, out)
                elif name in EACH_VALUE | {"chunk", "split", "getitem"} and out.shape[:2] == first.shape[:2]:
                    self._features[out] = out.dim() == 3
        known = self._heads[first]
        if known is not None:
            for out in outs:
                steps, heads = (moved(name, args, kwargs, first, out, axis) for axis in known)
                if steps is not None and heads is not None:
                    self._heads[out] = steps, heads

    def _cut(self, before: Tensor, out: Tensor) -> None:
        if out.shape[:2] != before.shape[:2]:
            return
        if out.dim() == 4:
            self._heads[out] = 1, 2
        elif out.dim() == 5 and 3 in out.shape[2:4]:  # queries, keys and values of one layer
            self._heads[out] = 1, 3 if out.shape[2] == 3 else 2
