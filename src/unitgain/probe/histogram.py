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
    sizes = [s.numel() for s in samples]
    joined = samples[0] if len(samples) == 1 else torch.cat(list(samples))
    values = joined.float().cpu().numpy()
    row = np.repeat(np.arange(len(samples), dtype=np.int64) * BINS, sizes)
    magnitude = np.abs(values)
    finite = magnitude < np.inf  # False for NaN too
    if not finite.all():
        magnitude, row = magnitude[finite], row[finite]
        sizes = np.add.reduceat(finite, np.cumsum([0, *sizes[:-1]])) * (np.array(sizes) > 0)
    scale = np.repeat(np.array([BINS / top for top in tops], dtype=np.float32), sizes)
    linear = np.minimum(magnitude * scale, BINS - 1).astype(np.int64)
    linear_counts = np.bincount(row + linear, minlength=len(samples) * BINS)
    exponent = (magnitude.view(np.int32) >> 23) - (_EXPONENT_BIAS + LOG2_LOW)
    log2 = np.clip(exponent, 0, BINS - 1)
    log2_counts = np.bincount((row + log2)[magnitude > 0], minlength=len(samples) * BINS)
    return linear_counts.reshape(-1, BINS), log2_counts.reshape(-1, BINS)


def underflow(sample: Tensor, smallest_normal: float) -> float:
    """Fraction of the non-zero magnitudes below the dtype's smallest normal number; NaN if all are zero.

    float32 samples hold float16's subnormal numbers exactly.
    """
    magnitude = np.abs(sample.float().cpu().numpy())
    nonzero = magnitude[magnitude > 0]
    return float(np.mean(nonzero < smallest_normal)) if nonzero.size else float("nan")
