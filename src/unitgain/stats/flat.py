"""flat_numbers: statistics of many small tensors without channels at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .host import to_host
from .partial import finish
from .summarize import summarize

_BLOCK = 1 << 16  # values that are read at once: what is read several times is to stay in the cache


def blocks(sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Places of equal sizes above 0, at most so many at once that what lies there is no more than 65,536 values.

    >>> [block.tolist() for block in blocks(np.array([4, 60_000, 4, 0, 60_000]))]
    [[0, 2], [1], [4]]
    """
    for size in np.unique(sizes[sizes > 0]).tolist():
        members, most = np.flatnonzero(sizes == size), max(1, _BLOCK // size)
        yield from (members[start : start + most] for start in range(0, len(members), most))


def flat_numbers(tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """{statistic: (len(tensors),) float64} of small tensors without channels, those of equal size in one go.

    Each is scaled by its largest magnitude first, so float32 is exact enough for any range.
    """
    out = {
        name: np.full(len(tensors), np.nan) for name in ("mean", "std", "rms", "min", "max", "absmax", "zero")
    }
    sizes = np.array([t.numel() for t in tensors])
    out["count"] = sizes.astype(np.float64)
    out["nonfinite"] = np.zeros(len(tensors))
    for members in blocks(sizes):
        size = sizes[members[0]]
        block = to_host([tensors[i] for i in members.tolist()])
        values = (block if block.dtype == torch.float64 else block.float()).numpy().reshape(-1, size)
        high, low = values.max(1).astype(np.float64), values.min(1).astype(np.float64)
        largest = np.maximum(np.abs(high), np.abs(low))
        good = np.isfinite(largest)
        for i in members[~good]:
            exact = finish([summarize(tensors[i])])
            for name in out:
                out[name][i] = exact.get(name, [np.nan])[0]
        if not good.all():
            members, values, high, low, largest = (v[good] for v in (members, values, high, low, largest))
        scale = np.where(largest > 0, largest, 1.0)
        scaled = values / scale[:, None].astype(values.dtype)
        mean = scaled.mean(1)
        scaled -= mean[:, None]
        variance = np.einsum("ij,ij->i", scaled, scaled) / size
        mean = mean.astype(np.float64)
        out["mean"][members] = mean * scale
        out["std"][members] = np.sqrt(variance) * scale
        out["rms"][members] = np.sqrt(variance + mean**2) * scale
        out["max"][members], out["min"][members], out["absmax"][members] = high, low, largest
        zeros = values == 0
        out["zero"][members] = np.count_nonzero(zeros, axis=1) / size if zeros.any() else 0.0
    return out
