"""Histograms of many small samples at once: two bincounts a step, however many sites there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .. import stats
from ..record import HISTOGRAM_BINS, LOG2_LOW, SIGNED_BINS

# of the bits of a float32
_EXPONENT_BIAS = 127
_EXPONENTS = 256
_NO_NUMBER = 255  # exponent of infinity and NaN
_MAGNITUDE = 0x7FFFFFFF  # all but the sign
_INFINITY = 0x7F800000  # those of NaN are larger
_ONE, _MINUS_ONE = 0x3F800000, 0x3F800000 - (1 << 31)
_MINUS_ZERO = -(1 << 31)
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
        exponents = _count((values.view(np.uint32) >> 23).astype(np.intp), 2 * _EXPONENTS)
        positive, negative = exponents[:, :_EXPONENTS], exponents[:, _EXPONENTS:]
        log2, zeros = positive + negative, np.zeros((2, len(values)), dtype=np.int64)  # 0.0 and -0.0
        if log2[:, 0].any():
            zeros[0], zeros[1] = (raw == 0).sum(axis=1), (raw == _MINUS_ZERO).sum(axis=1)
            log2[:, 0] -= zeros.sum(axis=0)
        outside = log2[:, _NO_NUMBER] > 0
        log2[:, _NO_NUMBER] = 0
        ones = np.zeros((2, len(values)), dtype=np.int64)  # 1 and -1
        if log2[:, _ONE >> 23].any():
            ones[0], ones[1] = (raw == _ONE).sum(axis=1), (raw == _MINUS_ONE).sum(axis=1)
        found.atoms[members] = np.stack([ones[1], zeros.sum(axis=0), ones[0]], axis=1)
        first = _EXPONENT_BIAS + LOG2_LOW
        octaves = log2[:, first : first + HISTOGRAM_BINS].copy()
        octaves[:, 0] += log2[:, :first].sum(axis=1)
        octaves[:, -1] += log2[:, first + HISTOGRAM_BINS :].sum(axis=1)
        found.log2[members] = octaves
        others = octaves.copy()  # the atoms do not decide about the range
        others[:, _ONES_BIN] -= ones.sum(axis=0)
        high = _range(others, raw)
        below = negative[:, :_NO_NUMBER].sum(axis=1) - zeros[1] > 0
        low = np.where(below, -high, 0.0)
        signed = _linear(values, low, high, outside)
        rows = np.arange(len(values))
        for value, counts in ((0.0, zeros.sum(axis=0)), (1.0, ones[0]), (-1.0, ones[1])):
            signed[rows, _bins(np.full(len(values), value), low, high)] -= counts
        found.signed[members] = signed
        found.low[members], found.high[members] = low, high
    return found


def _range(octaves: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """For each row the smallest power of two that no more than one in _BEYOND of the values exceeds."""
    from_above = np.cumsum(octaves[:, ::-1], axis=1)
    total = from_above[:, -1]
    first = np.argmax(from_above > (total // _BEYOND)[:, None], axis=1)  # counted from the highest bin
    exponent = np.where(total > 0, HISTOGRAM_BINS - first + LOG2_LOW, 0)
    for row in np.flatnonzero((total > 0) & (first == 0)):  # the highest bin of log2 has no upper edge
        bits = raw[row] & _MAGNITUDE  # ordered as the magnitudes are
        finite = np.sort(bits[(bits < _INFINITY) & (bits != _ONE)])
        exponent[row] = (int(finite[-1 - total[row] // _BEYOND]) >> 23) - _EXPONENT_BIAS + 1
    return np.exp2(exponent.astype(np.float64))


def _scale(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bins per unit, the bin that begins at zero) of each row."""
    return (SIGNED_BINS / (high - low)).astype(np.float32), np.where(low < 0, SIGNED_BINS // 2, 0)


def _bins(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The bins of a value of each row."""
    scale, start = _scale(low, high)
    with np.errstate(over="ignore"):
        return np.clip(np.floor(values * scale) + start, 0, SIGNED_BINS - 1).astype(np.intp)


def _linear(values: np.ndarray, low: np.ndarray, high: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Counts of all finite values. outside: rows that have others."""
    scale, start = _scale(low, high)
    lowest, highest = -start.astype(np.float32), (SIGNED_BINS - 1 - start).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * scale[:, None]  # exact: the scale is a power of two
        np.floor(scaled, out=scaled)
        np.clip(scaled, lowest[:, None], highest[:, None], out=scaled)
        cells = scaled.astype(np.intp)
    cells += start[:, None]
    for row in np.flatnonzero(outside):
        cells[row][~np.isfinite(values[row])] = SIGNED_BINS
    return _count(cells, SIGNED_BINS + 1)[:, :SIGNED_BINS]


def _count(cells: np.ndarray, bins: int) -> np.ndarray:
    """How often each bin occurs in each row."""
    cells += np.arange(0, len(cells) * bins, bins)[:, None]
    return np.bincount(cells.ravel(), minlength=len(cells) * bins).reshape(-1, bins)


def underflow(sample: Tensor, smallest_normal: float) -> float:
    """Fraction of the non-zero magnitudes below the dtype's smallest normal number; NaN if all are zero.

    float32 samples hold float16's subnormal numbers exactly.
    """
    magnitude = np.abs(sample.float().cpu().numpy())
    nonzero = magnitude[magnitude > 0]
    return float(np.mean(nonzero < smallest_normal)) if nonzero.size else float("nan")
