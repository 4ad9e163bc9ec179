"""Histograms of many small samples at once: two bincounts a step, however many sites there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .. import stats
from ..record import HISTOGRAM_BINS, LOG2_LOW, SIGNED_BINS

_EXPONENT_BIAS = 127
_MAGNITUDE = 0x7FFFFFFF  # of the bits of a float32, all but the sign
_INFINITY = 0x7F800000  # float32 bits of infinity; those of NaN are larger
_ONE = 0x3F800000
_ONES_BIN = -LOG2_LOW  # of the log2 histogram: magnitudes in [1, 2)
_BEYOND = 1000  # one value in so many may lie outside a signed histogram's range, in its open bins


@dataclass
class Counts:
    """Of n samples: the signed histograms with their ranges and atoms, and those of log2 magnitudes."""

    signed: np.ndarray  # (n, 128)
    atoms: np.ndarray  # (n, 3): values that are exactly -1, 0 and 1
    low: np.ndarray  # (n,)
    high: np.ndarray  # (n,)
    log2: np.ndarray  # (n, 64)


def histograms(samples: Sequence[Tensor]) -> Counts:
    """Counts of floating-point samples; see `record.Histogram`. Values that are not finite are left out of all.

    The ranges are powers of two, so that no value is rounded on its way into a bin, and the bins of one step are
    unions of those of another.
    """
    n = len(samples)
    found = Counts(
        np.zeros((n, SIGNED_BINS), dtype=np.int64), np.zeros((n, 3), dtype=np.int64), np.zeros(n), np.ones(n),
        np.zeros((n, HISTOGRAM_BINS), dtype=np.int64),
    )  # fmt: skip
    sizes = np.array([s.numel() for s in samples])
    for size in np.unique(sizes[sizes > 0]):  # samples of equal size make a matrix
        members = np.flatnonzero(sizes == size)
        values = stats.to_host([samples[i] for i in members.tolist()]).float().numpy().reshape(-1, size)
        raw = values.view(np.int32)
        bits = raw & _MAGNITUDE  # ordered as the magnitudes are
        largest = bits.max(axis=1)
        outside = bits >= _INFINITY if largest.max() >= _INFINITY else None
        zero = bits == 0 if bits.min() == 0 else None
        log2 = _octaves(bits, zero, outside)
        found.log2[members] = log2
        ones = bits == _ONE if log2[:, _ONES_BIN].any() else None
        if zero is not None:
            found.atoms[members, 1] = zero.sum(axis=1)
        if ones is not None:
            positive = (raw == _ONE).sum(axis=1)
            found.atoms[members, 2] = positive
            found.atoms[members, 0] = ones.sum(axis=1) - positive
            log2 = log2.copy()  # the atoms do not decide about the range
            log2[:, _ONES_BIN] -= found.atoms[members, 0] + found.atoms[members, 2]
        high = _range(log2, bits)
        low = np.where(_has_negative(raw, zero, outside), -high, 0.0)
        elsewhere = [mask for mask in (zero, ones, outside) if mask is not None]
        found.signed[members] = _linear(values, low, high, elsewhere)
        found.low[members], found.high[members] = low, high
    return found


def _octaves(bits: np.ndarray, zero: np.ndarray | None, outside: np.ndarray | None) -> np.ndarray:
    log2 = bits >> 23
    log2 -= _EXPONENT_BIAS + LOG2_LOW
    np.maximum(log2, 0, out=log2)
    np.minimum(log2, HISTOGRAM_BINS - 1, out=log2)
    for mask in (zero, outside):
        if mask is not None:
            log2[mask] = HISTOGRAM_BINS
    return _count(log2, HISTOGRAM_BINS)


def _range(log2: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """For each row the smallest power of two that no more than one in _BEYOND of the values exceeds."""
    from_above = np.cumsum(log2[:, ::-1], axis=1)
    total = from_above[:, -1]
    first = np.argmax(from_above > (total // _BEYOND)[:, None], axis=1)  # counted from the highest bin
    exponent = np.where(total > 0, HISTOGRAM_BINS - first + LOG2_LOW, 0)
    for row in np.flatnonzero((total > 0) & (first == 0)):  # the highest bin of log2 has no upper edge
        finite = np.sort(bits[row][(bits[row] < _INFINITY) & (bits[row] != _ONE)])
        exponent[row] = (int(finite[-1 - total[row] // _BEYOND]) >> 23) - _EXPONENT_BIAS + 1
    return np.exp2(exponent.astype(np.float64))


def _has_negative(raw: np.ndarray, zero: np.ndarray | None, outside: np.ndarray | None) -> np.ndarray:
    """Of each row, whether a value lies below zero: the sign bit alone also marks -0.0, and NaN of either sign."""
    lowest: np.ndarray = raw.min(axis=1)
    negative = np.asarray(lowest < 0)
    if negative.any() and (zero is not None or outside is not None):
        true = raw < 0
        for mask in (zero, outside):
            if mask is not None:
                true &= ~mask
        negative = np.asarray(true.any(axis=1))
    return negative


def _linear(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, elsewhere: Sequence[np.ndarray]
) -> np.ndarray:
    scale = (SIGNED_BINS / (high - low)).astype(np.float32)
    start = np.where(low < 0, SIGNED_BINS // 2, 0).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        cells = values * scale[:, None]  # exact: the scale is a power of two
        np.floor(cells, out=cells)
        cells += start[:, None]
        np.minimum(cells, SIGNED_BINS - 1, out=cells)
        np.maximum(cells, 0, out=cells)
        for mask in elsewhere:
            cells[mask] = SIGNED_BINS
        return _count(cells.astype(np.int32), SIGNED_BINS)


def _count(cells: np.ndarray, bins: int) -> np.ndarray:
    """How often each bin occurs in each row; a last bin, which is dropped, holds what does not count."""
    columns = bins + 1
    cells += np.arange(len(cells), dtype=np.int32)[:, None] * columns
    return np.bincount(cells.ravel(), minlength=len(cells) * columns).reshape(-1, columns)[:, :bins]


def underflow(sample: Tensor, smallest_normal: float) -> float:
    """Fraction of the non-zero magnitudes below the dtype's smallest normal number; NaN if all are zero.

    float32 samples hold float16's subnormal numbers exactly.
    """
    magnitude = np.abs(sample.float().cpu().numpy())
    nonzero = magnitude[magnitude > 0]
    return float(np.mean(nonzero < smallest_normal)) if nonzero.size else float("nan")
