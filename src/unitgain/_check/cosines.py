"""Vectors of length one, and products of two of them: cosines, between -1 and 1 whatever the weights are.

Known are F.normalize and a division by a norm that is written out, in any of torch's ways to write a product.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor

_LENGTHS = {"norm", "linalg_norm", "linalg_vector_norm"}
# a little more, against a division by zero
_KEEP_LENGTHS = {"add", "radd", "clamp", "clamp_min", "clip", "maximum"}
_DIVISIONS = {"div", "truediv", "true_divide", "divide"}
_PRODUCTS = {"matmul", "rmatmul", "mm", "bmm", "linear", "einsum"}
_KEEP_VECTORS = {
    "transpose", "permute", "t", "get", "swapaxes", "movedim", "squeeze", "unsqueeze", "contiguous", "detach", "clone",
    "to", "getitem", "select", "index_select", "expand", "mean",
}  # fmt: skip
_ROUNDING = 0.01  # of half precision
TERMS = "terms of a cosine"
COSINE = "cosine_similarity"
UNIT = "normalize"


class Cosines:
    """Which tensors are lengths of which others, while a function mode runs; by weak references."""

    def __init__(self, function_of: Callable[[Tensor], str | None]) -> None:
        """function_of: the name that was given to a tensor in -1..1, one of this file's three among others."""
        self._function_of = function_of
        self._lengths: dict[int, tuple[weakref.ref[Tensor], weakref.ref[Tensor]]] = {}

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> str | None:
        """What a call of a function makes: UNIT vectors, TERMS that sum up to cosines, COSINEs, or None."""
        tensors = [a for a in args if isinstance(a, Tensor)]
        if not tensors or not isinstance(out, Tensor):
            return None
        if name == "normalize":
            return UNIT if 1 <= kwargs.get("p", 2.0) <= 2 else None  # of length one at most
        if name in _LENGTHS:
            self._lengths[id(out)] = weakref.ref(out), weakref.ref(tensors[0])
        elif name in _KEEP_LENGTHS and (whose := self._whose(tensors[0])) is not None:
            self._lengths[id(out)] = weakref.ref(out), weakref.ref(whose)
        elif name in _DIVISIONS and len(tensors) == 2 and self._whose(tensors[1]) is tensors[0]:
            return UNIT
        known = {self._function_of(t) for t in tensors}
        if name in _KEEP_VECTORS and self._function_of(tensors[0]) == UNIT:
            return UNIT
        if name in _PRODUCTS and known == {UNIT}:
            return COSINE if _are_cosines(out) else None
        if name in ("mul", "multiply") and known == {UNIT} and len(tensors) == 2:
            return TERMS
        return COSINE if name == "sum" and known == {TERMS} and _are_cosines(out) else None

    def _whose(self, length: Tensor) -> Tensor | None:
        entry = self._lengths.get(id(length))
        return entry[1]() if entry is not None and entry[0]() is length else None


def _are_cosines(out: Tensor) -> bool:
    """False where the vectors have length one along another axis than the one that was summed over."""
    return not out.numel() or float(out.detach().abs().max()) < 1 + _ROUNDING
