"""Sparse and nested tensors: what of them is measured.

Measured are the values that they store, as one row: a sparse tensor's zeros that are not stored do not count, and there
are neither channels nor examples (two stored values with the same index, before they are coalesced, are added first).
"""

from __future__ import annotations

import torch
from torch import Tensor

_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def is_plain(x: Tensor) -> bool:
    """Whether it has a value at every index: neither sparse nor nested."""
    return x.layout is torch.strided and not x.is_nested


def stored(x: Tensor) -> Tensor:
    """The values that a tensor stores, in one row; of a plain one all of them.

    >>> stored(torch.eye(3).to_sparse())
    tensor([1., 1., 1.])
    """
    x = x.detach()
    if x.layout is torch.sparse_coo:
        x = x.coalesce().values()
    elif x.layout in _COMPRESSED:
        x = x.values()
    elif x.is_nested:
        x = x.contiguous().values()
    elif x.layout is not torch.strided:  # of a library's own, like MKL-DNN's
        x = x.to_dense()
    return x.reshape(-1)


def shape_of(x: Tensor) -> tuple[int, ...]:
    """The shape; of a nested tensor that of the smallest tensor that would hold it."""
    if not x.is_nested:
        return tuple(x.shape)
    rows = [tuple(row.shape) for row in x.detach().unbind()]
    return (len(rows), *(max(sizes) for sizes in zip(*rows)))
