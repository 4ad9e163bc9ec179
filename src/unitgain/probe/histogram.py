"""Histograms of many small samples at once: two bincounts a step, however many sites there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BINS = 64
LOG2_LOW = -48
_EXPONENT_BIAS = 127


def histograms(samples: Sequence[Tensor], tops: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(linear, log2) counts, each (len(samples), 64), of the magnitudes of floating-point samples.

    linear: equal bins from 0 to the sample's top, larger magnitudes in the last bin.
    log2: one bin per power of two from 2**-48 on, zeros left out. Values that are not finite are left out of both.
    """
    linear_counts = np.zeros((len(samples), BINS), dtype=np.int64)
    log2_counts = np.zeros((len(samples), BINS), dtype=np.int64)
    scale = (BINS / np.asarray(tops, dtype=np.float64)).astype(np.float32)
    sizes = np.array([s.numel() for s in samples])
    for size in np.unique(sizes[sizes > 0]):  # samples of equal size make a matrix
        members = np.flatnonzero(sizes == size)
        block = torch.cat([samples[i].reshape(-1) for i in members.tolist()]).float().cpu().numpy()
        magnitude = np.abs(block.reshape(-1, size))
        row = np.arange(len(members), dtype=np.intp)[:, None] * BINS
        with np.errstate(over="ignore", invalid="ignore"):
            linear = np.minimum(magnitude * scale[members, None], BINS - 1)
        exponent = np.clip((magnitude.view(np.int32) >> 23) - (_EXPONENT_BIAS + LOG2_LOW), 0, BINS - 1)
        finite = magnitude < np.inf  # False for NaN too
        if not finite.all():
            linear = np.where(finite, linear, 0)
        linear_counts[members] = _count(linear.astype(np.intp) + row, None if finite.all() else finite)
        nonzero = magnitude > 0
        log2_counts[members] = _count(exponent + row, None if (nonzero & finite).all() else nonzero & finite)
    return linear_counts, log2_counts


def _count(cells: np.ndarray, keep: np.ndarray | None) -> np.ndarray:
    chosen = cells.ravel() if keep is None else cells[keep]
    return np.bincount(chosen, minlength=cells.shape[0] * BINS).reshape(-1, BINS)


def underflow(sample: Tensor, smallest_normal: float) -> float:
    """Fraction of the non-zero magnitudes below the dtype's smallest normal number; NaN if all are zero.

    float32 samples hold float16's subnormal numbers exactly.
    """
    magnitude = np.abs(sample.float().cpu().numpy())
    nonzero = magnitude[magnitude > 0]
    return float(np.mean(nonzero < smallest_normal)) if nonzero.size else float("nan")
