"""NumPy arrays in a batch, as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._base import InputError
from .tree import DEEPEST, map_tensors, parts

# torch computes little with these
_WIDER = {
    "uint16": np.int32,
    "uint32": np.int64,
    "uint64": np.int64,
    "longdouble": np.float64,
    "float128": np.float64,
}


def holds_array(value: Any, depth: int = DEEPEST) -> bool:
    if isinstance(value, np.ndarray):
        return True
    return bool(depth) and any(holds_array(part, depth - 1) for _, part in parts(value) or ())


def as_tensors(value: Any, dtype: torch.dtype) -> Any:
    """The same nesting with a tensor for each array. float64, which NumPy makes unless it is told otherwise, becomes
    dtype; everything else keeps its type where torch has it. Memory is shared where that is possible.

    Raises InputError for arrays of text and objects.

    >>> as_tensors((np.ones(2), np.array([1, 0])), torch.float32)
    (tensor([1., 1.]), tensor([1, 0]))
    """
    return map_tensors(value, lambda tensor: tensor, lambda leaf: _tensor(leaf, dtype))


def _tensor(leaf: Any, dtype: torch.dtype) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    if leaf.dtype.kind not in "fiubc":
        raise InputError(f"batch: an array of {leaf.dtype} cannot become a tensor; give numbers")
    known = leaf.astype(_WIDER.get(leaf.dtype.name, leaf.dtype.newbyteorder("=")), copy=False)
    if not known.flags.writeable or any(stride < 0 for stride in known.strides):
        known = known.copy()
    tensor: Tensor = torch.from_numpy(known)
    return tensor.to(dtype) if tensor.dtype == torch.float64 else tensor
