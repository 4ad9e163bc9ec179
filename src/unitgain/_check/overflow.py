"""Functions that overflow in half precision although everything around them stays finite. For rule UG306.

float16 ends at 65504, so that the square of 300 is infinite. Divided by it, what was to be normalized is zero, and no
NaN ever shows. Exponentials are left alone: one over one plus infinity is a sigmoid's right end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..record import OverflowFacts
from .where import calling_line

_GROWS = {
    "pow", "square", "mul", "rmul", "sum", "var", "std", "norm", "vector_norm", "linalg_vector_norm", "matmul",
    "rmatmul", "bmm", "mm", "einsum", "linear", "cumsum", "var_mean", "dot",
}  # fmt: skip


def overflow(name: str, args: Any, out: Any) -> OverflowFacts | None:
    """Of a call that makes positive infinity out of finite values in float16."""
    made = out[0] if isinstance(out, (tuple, list)) and out else out
    if name not in _GROWS or not isinstance(made, Tensor) or made.dtype != torch.float16 or not made.numel():
        return None
    if not bool(torch.isposinf(made).any()):
        return None
    given = [a for a in args if isinstance(a, Tensor) and a.is_floating_point()]
    if not given or not all(bool(a.isfinite().all()) for a in given):
        return None
    return OverflowFacts(name, calling_line(), max(float(a.detach().abs().max()) for a in given))
