"""Histograms of many small samples at once: two bincounts a step, however many sites there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .. import stats
from ..record import ATOMS, HISTOGRAM_BINS, LOG2_LOW, SIGNED_BINS

# of the bits of a float32
_EXPONENT_BIAS, _MANTISSA = 127, 23
_MAGNITUDE = 0x7FFFFFFF  # all but the sign
_INFINITY = 0x7F800000  # those of NaN are larger
_ONE, _MINUS_ONE = 0x3F800000, 0x3F800000 - (1 << 31)
_MINUS_ZERO = -(1 << 31)
_ONES_BIN = -LOG2_LOW  # of the log2 histogram: magnitudes in [1, 2)
_LOWEST = _EXPONENT_BIAS + LOG2_LOW  # exponent of the first bin of a log2 histogram
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
    for members in stats.blocks(sizes):  # samples of equal size make a matrix
        values = stats.to_host([samples[i] for i in members.tolist()]).float().numpy()
        _count_block(values.reshape(len(members), -1), members, found)
    return found


def _count_block(values: np.ndarray, members: np.ndarray, found: Counts) -> None:
    """Counts the rows of a float32 matrix into the places `members` of what is found."""
    raw = values.view(np.int32)
    magnitude = raw & _MAGNITUDE
    not_finite = np.flatnonzero(magnitude.max(axis=1) >= _INFINITY)
    codes = magnitude >> _MANTISSA
    np.clip(codes, _LOWEST, _LOWEST + HISTOGRAM_BINS - 1, out=codes)
    codes -= _LOWEST
    octaves = _count(codes, HISTOGRAM_BINS)  # of the magnitudes, zeros in the first one
    for row in not_finite:
        octaves[row, -1] -= np.count_nonzero(magnitude[row] >= _INFINITY)
    atoms = found.atoms[members]  # a copy
    if octaves[:, 0].any():
        atoms[:, 1] = _number(magnitude == 0)
        octaves[:, 0] -= atoms[:, 1]
    if octaves[:, _ONES_BIN].any():
        atoms[:, 0], atoms[:, 2] = _number(raw == _MINUS_ONE), _number(raw == _ONE)
    found.atoms[members], found.log2[members] = atoms, octaves
    others = octaves.copy()  # the atoms do not decide about the range
    others[:, _ONES_BIN] -= atoms[:, 0] + atoms[:, 2]
    high = _range(others, raw)
    lowest = values.min(axis=1)
    for row in not_finite:
        lowest[row] = np.min(values[row], where=np.isfinite(values[row]), initial=0.0)
    low = np.where(lowest < 0, -high, 0.0)
    signed = _linear(values, low, high, not_finite)
    rows = np.arange(len(values))
    for value, counts in zip(ATOMS, atoms.T):
        if counts.any():
            signed[rows, _bins(np.full(len(values), value), low, high)] -= counts
    found.signed[members] = signed
    found.low[members], found.high[members] = low, high


def _range(octaves: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """For each row the smallest power of two that no more than one in _BEYOND of the values exceeds."""
    from_above = np.cumsum(octaves[:, ::-1], axis=1)
    total = from_above[:, -1]
    first = np.argmax(from_above > (total // _BEYOND)[:, None], axis=1)  # counted from the highest bin
    exponent = np.where(total > 0, HISTOGRAM_BINS - first + LOG2_LOW, 0)
    for row in np.flatnonzero((total > 0) & (first == 0)):  # the highest bin of log2 has no upper edge
        bits = raw[row] & _MAGNITUDE  # ordered as the magnitudes are
        finite = np.sort(bits[(bits < _INFINITY) & (bits != _ONE)])
        exponent[row] = (int(finite[-1 - total[row] // _BEYOND]) >> _MANTISSA) - _EXPONENT_BIAS + 1
    return np.exp2(exponent.astype(np.float64))


def _scale(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bins per unit, the bin that begins at zero) of each row."""
    return (SIGNED_BINS / (high - low)).astype(np.float32), np.where(low < 0, SIGNED_BINS // 2, 0)


def _bins(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The bins of a value of each row."""
    scale, start = _scale(low, high)
    with np.errstate(over="ignore"):
        return np.clip(np.floor(values * scale) + start, 0, SIGNED_BINS - 1).astype(np.intp)


def _linear(values: np.ndarray, low: np.ndarray, high: np.ndarray, not_finite: np.ndarray) -> np.ndarray:
    """Counts of all finite values. not_finite: rows that have others."""
    scale, start = _scale(low, high)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * scale[:, None]  # exact: the scale is a power of two
        np.floor(scaled, out=scaled)
        scaled += start.astype(np.float32)[:, None]  # exact for all that are not beyond the range
        cells = np.clip(scaled, 0, SIGNED_BINS - 1, out=scaled).astype(np.int32)
    bins = SIGNED_BINS + 1 if len(not_finite) else SIGNED_BINS
    for row in not_finite:
        cells[row][~np.isfinite(values[row])] = SIGNED_BINS
    return _count(cells, bins)[:, :SIGNED_BINS]


def _number(flags: np.ndarray) -> np.ndarray | int:
    """How many are set in each row; 0 if none is, which is quickly seen."""
    return np.count_nonzero(flags, axis=1) if flags.any() else 0


def _count(cells: np.ndarray, bins: int) -> np.ndarray:
    """How often each bin occurs in each row of int32 numbers, which are written over."""
    cells += np.arange(0, len(cells) * bins, bins, dtype=np.int32)[:, None]
    return np.bincount(cells.ravel(), minlength=len(cells) * bins).reshape(-1, bins)


def underflow(sample: Tensor, smallest_normal: float) -> float:
    """Fraction of the non-zero magnitudes below the dtype's smallest normal number; NaN if all are zero.

    float32 samples hold float16's subnormal numbers exactly.
    """
    magnitude = np.abs(sample.float().cpu().numpy())
    nonzero = magnitude[magnitude > 0]
    return float(np.mean(nonzero < smallest_normal)) if nonzero.size else float("nan")
