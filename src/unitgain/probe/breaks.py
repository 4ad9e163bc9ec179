"""Functions that make NaN or infinity out of finite tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._batch import tensors_in

# Masks hold infinities on purpose.
_MASKING = {"masked_fill", "masked_fill_", "where", "full", "full_like", "new_full", "fill_", "triu", "tril"}


@torch.no_grad()  # checkpointing counts what is saved for backward
def breaks(function: Any, args: Any, out: Any) -> bool:
    """Whether a function made NaN or infinity out of finite tensors. Waits for an accelerator."""
    if (
        not isinstance(out, Tensor)
        or not out.is_floating_point()
        or out.layout is not torch.strided
        or out.is_nested
        or getattr(function, "__name__", "") in _MASKING
    ):
        return False
    if bool(torch.isfinite(out).all()):
        return False
    given = [t for t in tensors_in(args, depth=2) if t is not out and t.is_floating_point()]
    return all(bool(torch.isfinite(t).all()) for t in given)
