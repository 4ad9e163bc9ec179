"""Weights that sum to one along another axis than the one over which what they weigh is summed, where that is written
with products and sums. For rule UG807.

Scores of pairs, a product or sum of (..., n, 1, d) and (..., 1, m, d) whose features are summed or given to a linear
layer, are those of attention: their weights are summed over the keys. A gate, a linear layer's outputs (example, step,
expert), weighs experts: its weights are summed over the experts. If a softmax runs over the other of the two axes, the
sum is no average of anything. For a gate that is so unless what it makes is summed over the steps in the end, as where
several heads pool a sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .axis_moves import EACH_VALUE, axes_of_sum, moved
from .kept import Kept
from .where import calling_line

_PRODUCTS, _SUMS = {"mul", "rmul"}, {"add", "radd", "iadd"}
_TOTALS = {"sum", "mean"}
_NOT_LINEAR = {
    "relu",
    "gelu",
    "silu",
    "elu",
    "leaky_relu",
    "tanh",
    "sigmoid",
    "clamp",
    "where",
    "masked_fill",
}

Report = Callable[[str, str, tuple[int, ...], int, str | None], None]


@dataclass(frozen=True)
class _Weights:
    """one: the axis along which they sum to one; other: the other one of the pair, None where one place of it was
    chosen; gate: the number of the softmax, of a gate's."""

    one: int
    other: int | None
    gate: int | None = None


@dataclass
class _Pending:
    """A gate whose weights were summed over the experts: reported unless they are summed over the steps as well."""

    shape: tuple[int, ...]
    axis: int
    where: str | None
    resolved: bool = True  # until it is summed over the experts


class Weighed:
    """report: takes function, kind, shape, axis and line of the caller's code of what is found; activation: whether a
    tensor is one, and no parameter; scores: told of a tensor of scores of pairs, its last two axes."""

    def __init__(
        self, report: Report, activation: Callable[[Tensor], bool], scores: Callable[[Tensor], None]
    ):
        self._report, self._activation, self._tell_scores = report, activation, scores
        self._crossed: Kept[tuple[int, int]] = Kept()  # before their features are summed
        self._pairs: Kept[tuple[int, int]] = Kept()
        self._gates: Kept[bool] = Kept()
        self._weights: Kept[_Weights] = Kept()
        self._products: Kept[_Weights] = Kept()
        self._sums: Kept[tuple[int, int]] = Kept()  # number in `_pending`, and the axis of the steps
        self._pending: list[_Pending] = []

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        given = [a for a in args if isinstance(a, Tensor)]
        outs = [t for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, Tensor)]
        if name == "einsum":
            self._look_at_einsum(args, out)
        if not given or not outs or name == "einsum":
            return
        first, made = given[0], outs[0]
        if name == "linear":
            self._gates[made] = made.dim() == 3 and made.shape[2] > 1 and made.shape[1] > 1
            self._features_gone(first, made, squeezed=False)
        elif name == "softmax":
            self._look_at_softmax(first, args, kwargs, made)
        elif name in _TOTALS:
            self._look_at_sum(first, args, kwargs, made)
        elif name in _PRODUCTS | _SUMS and len(given) == 2:
            self._look_at_two(name, first, given[1], made)
        for tensor in outs:
            self._hand_on(name, args, kwargs, first, given, tensor)

    def finish(self) -> None:
        """Reports the gates that were not summed over the steps."""
        for pending in self._pending:
            if not pending.resolved:
                self._report("softmax", "gate", pending.shape, pending.axis, pending.where)
        self._pending.clear()

    # ---- scores and gates ------------------------------------------------------------------------------------

    def _features_gone(self, before: Tensor, out: Tensor, *, squeezed: bool) -> None:
        """Scores of pairs: their features were summed, or went into a linear layer."""
        pair = self._crossed[before]
        if pair is None or before.dim() - 1 in pair:
            return
        if squeezed or out.shape[-1] == 1:
            self._pairs[out] = pair
            if squeezed and pair == (out.dim() - 2, out.dim() - 1):
                self._tell_scores(out)
        else:
            self._crossed[out] = pair  # a hidden layer

    def _look_at_softmax(self, x: Tensor, args: Any, kwargs: Any, out: Tensor) -> None:
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if type(axis) is not int:
            return
        axis %= x.dim()
        pair = self._pairs[x]
        if pair is not None and axis in pair:
            self._weights[out] = _Weights(axis, pair[1 - pair.index(axis)])
        elif self._gates[x] and axis == 1:
            self._pending.append(_Pending(tuple(map(int, out.shape)), axis, calling_line()))
            self._weights[out] = _Weights(1, 2, len(self._pending) - 1)

    # ---- products and sums -----------------------------------------------------------------------------------

    def _look_at_two(self, name: str, one: Tensor, two: Tensor, out: Tensor) -> None:
        pair = self._crossing(one, two, out)
        if pair is not None:
            self._crossed[out] = pair
        known = [(w, t, v) for t, v in ((one, two), (two, one)) if (w := self._weights[t]) is not None]
        if name in _PRODUCTS and len(known) == 1:
            weights, tensor, values = known[0]
            more, behind = out.dim() - tensor.dim(), out.dim() - values.dim()
            other = None if weights.other is None else weights.other + more
            at = weights.one + more
            alone = at < behind or values.shape[at - behind] == 1  # values laid along the other axis alone
            if weights.gate is not None or alone:
                self._products[out] = _Weights(at, other, weights.gate)
        if name in _SUMS and out.shape in (one.shape, two.shape):
            products = [p for t in (one, two) if (p := self._products[t]) is not None and p.other is None]
            if len(products) == 2 and products[0] == products[1]:
                self._summed(products[0], out, products[0].one)
            elif products:
                self._products[out] = products[0]

    def _crossing(self, one: Tensor, two: Tensor, out: Tensor) -> tuple[int, int] | None:
        """Two axes, none of them the first or the last, along each of which only one of the two is laid out."""
        if not (one.dim() == two.dim() == out.dim() >= 4 and self._activation(one) and self._activation(two)):
            return None
        of_one = [d for d in range(out.dim()) if one.shape[d] > 1 and two.shape[d] == 1]
        of_two = [d for d in range(out.dim()) if two.shape[d] > 1 and one.shape[d] == 1]
        if len(of_one) != 1 or len(of_two) != 1 or min(of_one[0], of_two[0]) == 0:
            return None
        first, second = sorted((of_one[0], of_two[0]))
        return (first, second) if second < out.dim() - 1 else None

    def _look_at_sum(self, x: Tensor, args: Any, kwargs: Any, out: Tensor) -> None:
        axes, last = axes_of_sum(args, kwargs, x.dim()), x.dim() - 1
        if axes == {last} and out.dim() == last:
            self._features_gone(x, out, squeezed=True)
        if (summed := self._sums[x]) is not None and summed[1] in axes:
            self._pending[summed[0]].resolved = True
        product = self._products[x]
        if product is None or product.one in axes or product.other not in axes:
            if product is not None and product.one in axes and product.gate is not None:
                self._pending[product.gate].resolved = True
            return
        if product.gate is None:
            self._report("softmax", "sum", tuple(map(int, x.shape)), product.one, calling_line())
        else:
            gone = sum(axis < product.one for axis in axes) if out.dim() < x.dim() else 0
            self._summed(product, out, product.one - gone)

    def _summed(self, product: _Weights, out: Tensor, axis: int) -> None:
        """A gate's weights were summed over the experts."""
        if product.gate is not None:
            pending = self._pending[product.gate]
            if self._sums[out] is None:
                pending.resolved = False
            self._sums[out] = product.gate, axis

    def _look_at_einsum(self, args: Any, out: Any) -> None:
        rest = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else args[1:]
        operands = [a for a in rest if isinstance(a, Tensor)]
        if not args or not isinstance(args[0], str) or len(operands) != 2 or not isinstance(out, Tensor):
            return
        left, arrow, result = args[0].replace(" ", "").partition("->")
        letters = left.split(",")
        if not arrow or "." in left or len(letters) != 2:
            return
        for mine, operand in zip(letters, operands):
            weights = self._weights[operand]
            if weights is None or weights.gate is None or weights.other is None:
                continue
            if mine[weights.other] not in result and mine[weights.one] in result:
                self._summed(weights, out, result.index(mine[weights.one]))

    # ---- what is handed on -----------------------------------------------------------------------------------

    def _hand_on(
        self, name: str, args: Any, kwargs: Any, first: Tensor, given: list[Tensor], out: Tensor
    ) -> None:
        if name in EACH_VALUE:
            first = next((t for t in given if t.shape == out.shape and self._knows(t)), first)
            if (gate := self._gates[first]) and out.shape == first.shape:
                self._gates[out] = gate
        for kept in (self._crossed, self._pairs):
            pair = kept[first]
            axes = [] if pair is None else [moved(name, args, kwargs, first, out, axis) for axis in pair]
            if axes and kept[out] is None and axes[0] is not None and axes[1] is not None:
                kept[out] = axes[0], axes[1]
                if kept is self._pairs and axes == [out.dim() - 2, out.dim() - 1]:
                    self._tell_scores(out)
        weights = self._weights[first]
        if weights is not None and name not in _PRODUCTS | _SUMS and self._weights[out] is None:
            one = moved(name, args, kwargs, first, out, weights.one)
            other = None if weights.other is None else moved(name, args, kwargs, first, out, weights.other)
            if one is not None:
                chosen = other is None or (weights.gate is not None and out.shape[other] == 1)
                if not chosen or weights.gate is not None:
                    self._weights[out] = replace(weights, one=one, other=None if chosen else other)
        summed = self._sums[first]
        if summed is not None and self._sums[out] is None and name not in _NOT_LINEAR:
            axis = moved(name, args, kwargs, first, out, summed[1])
            if axis is not None:
                self._sums[out] = summed[0], axis

    def _knows(self, tensor: Tensor) -> bool:
        kept = (self._gates, self._crossed, self._pairs, self._weights, self._sums)
        return any(k[tensor] is not None for k in kept)
