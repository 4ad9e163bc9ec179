"""summarize_many: many small tensors at once.

One call of torch costs 3 to 5 microseconds, however small the tensor: the layers of a transformer block, a few thousand
values each, cost less stacked than one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .partial import Partial, Range
from .reduce import as_float, layout, reduce_stacked
from .sample import take_samples
from .similarity import measure_cosine
from .stored import is_plain
from .summarize import dead_or_alive, saturated, summarize

_LARGEST = 1 << 16  # values of one tensor: of larger ones the call is the smaller part of the cost
_MOST = 16  # stacked at once: what is read several times is to stay in the cache


def summarize_many(given: Sequence[tuple[Tensor, Mapping[str, Any]]]) -> list[Partial]:
    """`summarize(tensor, **arguments)` of each; the same numbers up to rounding.

    On a CPU those of equal shape and activation function are reduced together.

    >>> a, b = torch.randn(2, 8), torch.randn(2, 8)
    >>> [p.count for p in summarize_many([(a, {}), (b, {"channel_axis": 1})])]
    [16, 16]
    """
    found: list[Partial | None] = [None] * len(given)
    alike: dict[Any, list[tuple[int, Tensor, Tensor]]] = {}
    for i, (tensor, how) in enumerate(given):
        x = tensor.detach()
        if x.device.type != "cpu" or not is_plain(x) or not 0 < x.numel() <= _LARGEST or how.get("limit"):
            continue
        x = as_float(x)
        matrix = layout(x, how.get("channel_axis"))  # (P, C, S)
        key = (
            matrix.shape,
            matrix.dtype,
            how.get("function"),
            how.get("count_zeros", True),
            how.get("sample", 0),
        )
        alike.setdefault(key, []).append((i, x, matrix))
    for (_, _, function, count_zeros, sample), members in alike.items():
        for start in range(0, len(members), _MOST):
            some = members[start : start + _MOST]
            if len(some) == 1:
                continue
            stacked = torch.stack([matrix for _, _, matrix in some])  # (N, P, C, S)
            partials = reduce_stacked(stacked)
            if function is not None:
                _measure_function(stacked, function, partials, count_zeros)
            samples = _samples(stacked, sample)
            for (i, x, _), partial, values in zip(some, partials, samples):
                found[i] = partial
                if partial is None:  # the fast sums are not exact enough
                    continue
                partial.sample = values
                how = given[i][1]
                axis = how.get("batch_axis")
                if how.get("cosine") and axis is not None and x.dim() > 1 and x.shape[axis] > 1:
                    rows = x.movedim(axis, 0) if axis else x
                    measure_cosine(rows.reshape(x.shape[axis], -1), partial)
    return [
        summarize(tensor, **how) if partial is None else partial
        for partial, (tensor, how) in zip(found, given)
    ]


def _measure_function(
    stacked: Tensor, function: Range, partials: Sequence[Partial | None], count_zeros: bool
) -> None:
    flat = stacked.reshape(len(partials), -1)
    zeros = (flat.shape[1] - torch.count_nonzero(flat, dim=1)).tolist() if count_zeros else None
    tails = None
    if function.saturated != (None, None):
        tails = torch.count_nonzero(saturated(flat, function), dim=1).tolist()
    for i, partial in enumerate(partials):
        if partial is None:
            continue
        if zeros is not None:
            partial.scalars["zeros"] = float(zeros[i])
        if tails is not None:
            partial.scalars["saturated"] = float(tails[i])
        partial.alive = dead_or_alive(stacked[i], function, partial)


def _samples(stacked: Tensor, size: int) -> Sequence[Tensor | None]:
    """`take_sample` of each."""
    if not size:
        return [None] * len(stacked)
    return take_samples(stacked.reshape(len(stacked), -1), size).unbind()  # of (N, P * C * S)
