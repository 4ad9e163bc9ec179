"""Histograms of many small samples at once: two bincounts a step, however many sites there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .. import stats
from ..record import HISTOGRAM_BINS, LOG2_LOW

_EXPONENT_BIAS = 127
_INFINITY = 0x7F800000  # float32 bits of infinity; those of NaN are larger


def histograms(samples: Sequence[Tensor], tops: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(linear, log2) counts, each (len(samples), 64), of the magnitudes of floating-point samples.

    linear: equal bins from 0 to the sample's top, larger magnitudes in the last bin.
    log2: one bin per power of two from 2**-48 on, zeros left out. Values that are not finite are left out of both.
    """
    linear_counts = np.zeros((len(samples), HISTOGRAM_BINS), dtype=np.int64)
    log2_counts = np.zeros((len(samples), HISTOGRAM_BINS), dtype=np.int64)
    scale = (HISTOGRAM_BINS / np.asarray(tops, dtype=np.float64)).astype(np.float32)
    sizes = np.array([s.numel() for s in samples])
    for size in np.unique(sizes[sizes > 0]):  # samples of equal size make a matrix
        members = np.flatnonzero(sizes == size)
        block = stats.to_host([samples[i] for i in members.tolist()]).float().abs_()
        magnitude = block.numpy().reshape(-1, size)
        bits = magnitude.view(np.int32)  # ordered as the magnitudes are
        outside = bits >= _INFINITY if bits.max() >= _INFINITY else None
        with np.errstate(over="ignore", invalid="ignore"):
            linear = np.minimum(magnitude * scale[members, None], HISTOGRAM_BINS - 1)
        if outside is not None:
            linear[outside] = HISTOGRAM_BINS
        linear_counts[members] = _count(linear.astype(np.int32))
        log2 = bits >> 23
        log2 -= _EXPONENT_BIAS + LOG2_LOW
        np.maximum(log2, 0, out=log2)
        np.minimum(log2, HISTOGRAM_BINS - 1, out=log2)
        if bits.min() == 0:
            log2[bits == 0] = HISTOGRAM_BINS
        if outside is not None:
            log2[outside] = HISTOGRAM_BINS
        log2_counts[members] = _count(log2)
    return linear_counts, log2_counts


def _count(cells: np.ndarray) -> np.ndarray:
    """How often each bin occurs in each row; a last bin, which is dropped, holds what does not count."""
    columns = HISTOGRAM_BINS + 1
    cells += np.arange(len(cells), dtype=np.int32)[:, None] * columns
    return np.bincount(cells.ravel(), minlength=len(cells) * columns).reshape(-1, columns)[:, :HISTOGRAM_BINS]


def underflow(sample: Tensor, smallest_normal: float) -> float:
    """Fraction of the non-zero magnitudes below the dtype's smallest normal number; NaN if all are zero.

    float32 samples hold float16's subnormal numbers exactly.
    """
    magnitude = np.abs(sample.float().cpu().numpy())
    nonzero = magnitude[magnitude > 0]
    return float(np.mean(nonzero < smallest_normal)) if nonzero.size else float("nan")
