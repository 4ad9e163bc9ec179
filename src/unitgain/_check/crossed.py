"""Products and sums that broadcasting makes of all with all, where each was meant to meet its own. For rule UG107.

(N,) times (N, 1) is (N, N). Where that is summed or averaged as a whole, it is the product of two sums:
sum_ij l_i w_j = (sum l) (sum w), whatever weight belongs to which example. No program wants this on purpose: what
compares all with all takes something else than a sum of it, a distance, a ranking, a kernel. So a crossed tensor is
followed through what keeps it separable, numbers and what does not cross included, up to its mean; whatever else is
done to it is left alone. A squared or absolute error of torch is known to compare what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..record import CrossedFacts
from .kept import Kept
from .where import calling_line

_CROSSING = {
    "mul", "rmul", "multiply", "div", "truediv", "divide", "true_divide", "rdiv", "rtruediv", "add", "radd", "sub",
    "subtract", "rsub",
}  # fmt: skip
_SUMS = {"add", "radd", "sub", "subtract", "rsub", "iadd", "isub"}
_EITHER = {"minimum", "maximum", "min", "max"}  # of two crossed ones: a clipped ratio and one that is not
_SAME = {"neg", "float", "double", "half", "bfloat16", "to", "contiguous", "clone"}
_TOTALS = {"mean", "sum", "nanmean", "nansum"}
_ERRORS = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
_MOST = 20  # that are kept
_FEWEST = 4  # of two or three, alike sizes are chance

Pair = tuple[int, int]  # the axes along which one operand, and only one, is laid out


class Crossed:
    """weights: ids of the model's parameters."""

    def __init__(self, weights: set[int]) -> None:
        self.found: list[CrossedFacts] = []
        self._weights = weights
        self._crossed: Kept[tuple[CrossedFacts, Pair]] = Kept()
        self._summed: Kept[CrossedFacts] = Kept()  # over one of the two axes

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        if not isinstance(out, Tensor) or not out.is_floating_point() or not args:
            return
        first = args[0]
        tensors = [a for a in (*args[:2], kwargs.get("other"), kwargs.get("target")) if isinstance(a, Tensor)]
        if name in _ERRORS and len(tensors) == 2:
            pair = self._crosses(*tensors)
            if pair is not None:
                self._keep(self._facts(name, tensors, pair))
        elif name in _TOTALS and isinstance(first, Tensor):
            self._look_at_total(first, args, kwargs, out)
        elif name in _CROSSING and len(tensors) == 2:
            pair = self._crosses(*tensors)
            if pair is not None:
                self._crossed[out] = self._facts(name, tensors, pair), pair
        if self._crossed[out] is None:
            self._hand_on(name, tensors, out)

    def _hand_on(self, name: str, tensors: list[Tensor], out: Tensor) -> None:
        """What is still a sum of products of what crosses."""
        known = [(t, entry) for t in tensors if (entry := self._crossed[t]) is not None]
        if not known:
            return
        tensor, (facts, pair) = known[0]
        others = [t for t in tensors if t is not tensor]
        if tensor.shape != out.shape:
            return
        scaled = name in _CROSSING and all(t.numel() == 1 for t in others)
        beside = name in _SUMS and all(
            self._crossed[t] is not None or not _spans(t, out, pair) for t in others
        )
        both = name in _EITHER and len(known) == len(tensors) == 2
        if scaled or beside or both or name in _SAME:
            self._crossed[out] = facts, pair

    def _look_at_total(self, x: Tensor, args: Any, kwargs: Any, out: Tensor) -> None:
        if (half := self._summed[x]) is not None and not out.dim():
            self._keep(half)
        entry = self._crossed[x]
        if entry is None:
            return
        facts, pair = entry
        axes = _axes(args, kwargs, x.dim())
        if set(pair) <= axes:
            self._keep(facts)
        elif axes & set(pair):
            self._summed[out] = facts

    def _crosses(self, one: Tensor, two: Tensor) -> Pair | None:
        """Two axes of equal size along each of which only one of the two is laid out."""
        if {id(one), id(two)} & self._weights or one.dim() == two.dim():
            return None  # of one rank, both have an axis of one by a hand that knows
        rank = max(one.dim(), two.dim())
        a, b = ((1,) * (rank - t.dim()) + tuple(t.shape) for t in (one, two))
        of_one = [d for d in range(rank) if a[d] > 1 and b[d] == 1]
        of_two = [d for d in range(rank) if b[d] > 1 and a[d] == 1]
        if len(of_one) != 1 or len(of_two) != 1 or a[of_one[0]] != b[of_two[0]] or a[of_one[0]] < _FEWEST:
            return None
        if any(bool((t == t.reshape(-1)[:1]).all()) for t in (one, two)):
            return None  # one number for all: it does not matter which belongs to which
        return of_one[0], of_two[0]

    def _facts(self, name: str, tensors: Sequence[Tensor], pair: Pair) -> CrossedFacts:
        one, two = (tuple(map(int, t.shape)) for t in tensors)
        return CrossedFacts(name, calling_line(), one, two)

    def _keep(self, facts: CrossedFacts) -> None:
        if facts not in self.found and len(self.found) < _MOST:
            self.found.append(facts)


def _spans(tensor: Tensor, out: Tensor, pair: Pair) -> bool:
    """Whether it is laid out along both axes."""
    shape = (1,) * (out.dim() - tensor.dim()) + tuple(tensor.shape)
    return all(shape[axis] > 1 for axis in pair)


def _axes(args: Any, kwargs: Any, rank: int) -> set[int]:
    """Over which a sum runs."""
    dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    if isinstance(dim, int):
        return {dim % rank}
    if isinstance(dim, Sequence) and dim:
        return {d % rank for d in dim if isinstance(d, int)}
    if len(args) > 1 and all(isinstance(d, int) for d in args[1:]):
        return {d % rank for d in args[1:]}
    return set(range(rank))
