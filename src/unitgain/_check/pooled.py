"""Heads that pool a sequence by weights that sum to one over the heads. For rule UG807.

A linear layer gives each step a score for each head, (example, step, head). Their softmax weighs the steps, whose
features a view has cut into heads, (example, step, head, width), and these are summed over the steps. If it runs over
the heads, the sum grows with the number of steps, and steps do not compete. (Assignments to clusters look alike, but
what they weigh is not cut into parts.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .axis_moves import EACH_VALUE, axes_of_sum, moved
from .kept import Kept
from .where import calling_line

Report = Callable[[str, str, tuple[int, ...], int, str | None], None]


@dataclass(frozen=True)
class _Weights:
    """head, step: the axes; shape: of what the softmax was taken of; axis: along which it ran; where: the line."""

    head: int
    step: int
    shape: tuple[int, ...]
    axis: int
    where: str | None


class Pooled:
    """report: takes function, kind, shape, axis and line of the caller's code of what is found."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._scores: Kept[tuple[int, int]] = Kept()  # axes of the heads and of the steps
        self._cut: Kept[int] = Kept()  # the axis of the heads that features were cut into
        self._weights: Kept[_Weights] = Kept()
        self._products: Kept[_Weights] = Kept()

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        given = [a for a in args if isinstance(a, Tensor)]
        if name == "einsum":
            self._look_at_einsum(args)
            return
        if not given or not isinstance(out, Tensor):
            return
        first = given[0]
        if name == "linear" and out.dim() == 3 and min(out.shape[1:]) > 1:
            self._scores[out] = (2, 1)
        elif name == "softmax":
            self._look_at_softmax(first, args, kwargs, out)
        elif name in ("view", "reshape", "unflatten") and first.dim() == 3 and out.dim() == 4:
            if out.shape[:2] == first.shape[:2] and min(out.shape[2:]) > 1:
                self._cut[out] = 2
        elif name in ("mul", "rmul") and len(given) == 2:
            self._look_at_product(given, out)
        elif name == "sum":
            self._look_at_sum(first, args, kwargs)
        self._hand_on(name, args, kwargs, given, out)

    def _look_at_softmax(self, x: Tensor, args: Any, kwargs: Any, out: Tensor) -> None:
        axis, axes = kwargs.get("dim", args[1] if len(args) > 1 else None), self._scores[x]
        if type(axis) is int and axes is not None and axis % x.dim() == axes[0]:
            shape = tuple(map(int, x.shape))
            self._weights[out] = _Weights(*axes, shape, axis % x.dim(), calling_line())

    def _look_at_product(self, given: list[Tensor], out: Tensor) -> None:
        for weights, values in (given, given[::-1]):
            known, head = self._weights[weights], self._cut[values]
            if known is None or head is None or weights.dim() != values.dim() or weights.shape[-1] != 1:
                continue
            if head == known.head and out.shape == values.shape:
                self._products[out] = known

    def _look_at_sum(self, x: Tensor, args: Any, kwargs: Any) -> None:
        known, axes = self._products[x], axes_of_sum(args, kwargs, x.dim())
        if known is not None and known.step in axes and known.head not in axes:
            self._report("softmax", "pool", known.shape, known.axis, known.where)

    def _look_at_einsum(self, args: Any) -> None:
        rest = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else args[1:]
        operands = [a for a in rest if isinstance(a, Tensor)]
        if not args or not isinstance(args[0], str) or len(operands) != 2 or "." in args[0]:
            return
        left, arrow, result = args[0].replace(" ", "").partition("->")
        letters = left.split(",")
        if not arrow or len(letters) != 2:
            return
        for mine, weights, theirs, values in zip(letters, operands, letters[::-1], operands[::-1]):
            known, head = self._weights[weights], self._cut[values]
            if known is None or head is None or theirs[head] != mine[known.head]:
                continue
            if mine[known.step] not in result and mine[known.head] in result and mine[known.step] in theirs:
                self._report("softmax", "pool", known.shape, known.axis, known.where)

    def _hand_on(self, name: str, args: Any, kwargs: Any, given: list[Tensor], out: Tensor) -> None:
        first = next((t for t in given if t.shape == out.shape and self._knows(t)), given[0])
        if name == "mul" and self._products[out] is not None:
            return
        if name in EACH_VALUE and first.shape != out.shape:
            return
        if (axes := self._scores[first]) is not None and self._scores[out] is None:
            head, step = (moved(name, args, kwargs, first, out, axis) for axis in axes)
            if head is not None and step is not None:
                self._scores[out] = head, step
        if (cut := self._cut[first]) is not None and self._cut[out] is None:
            axis = moved(name, args, kwargs, first, out, cut)
            if axis is not None:
                self._cut[out] = axis
        for kept in (self._weights, self._products):
            known = kept[first]
            if known is not None and kept[out] is None:
                head, step = (
                    moved(name, args, kwargs, first, out, axis) for axis in (known.head, known.step)
                )
                if head is not None and step is not None:
                    kept[out] = replace(known, head=head, step=step)

    def _knows(self, tensor: Tensor) -> bool:
        return any(k[tensor] is not None for k in (self._scores, self._cut, self._weights, self._products))
