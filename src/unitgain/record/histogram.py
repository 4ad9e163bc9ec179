"""Histogram: how the values of one tensor were distributed at one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HISTOGRAM_BINS = 64
"""Bins of a log2 histogram, one per power of two."""
LOG2_LOW = -48
"""The lowest power of two of a log2 histogram."""
LOG2_HIGH = 16
"""The power of two above its highest bin."""
SIGNED_BINS = 128
"""Bins of a signed histogram."""
ATOMS = (-1.0, 0.0, 1.0)
"""Values that a signed histogram counts apart, where they are hit exactly: the ends of tanh, and what ReLU makes."""


@dataclass(frozen=True)
class Histogram:
    """Counts of a sample of one tensor's values.

    scale "signed": 128 bins of equal width from low to high. high is a power of two that no more than one value in a
    thousand exceeds, and low is -high, or 0 where no value is negative; both may differ from step to step. The first
    and the last bin are open. Values that are exactly -1, 0 or 1 lie in none of them: `atoms` counts these three.
    scale "log2": 64 bins of magnitudes, bin i holds [2**(low+i), 2**(low+i+1)); smaller ones (but not zero) fall into
    the first bin, larger ones into the last.
    scale "linear": what records of schema version 1 hold in place of "signed": 64 bins of magnitudes from 0 to high,
    the last one open, zeros in the first one.
    """

    step: int
    site: str
    scale: str
    low: float
    high: float
    counts: np.ndarray
    atoms: tuple[int, int, int] = (0, 0, 0)

    @property
    def edges(self) -> np.ndarray:
        """The bin edges, one more than there are bins; of a log2 histogram as magnitudes."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return 2.0**edges if self.scale == "log2" else edges

    @property
    def total(self) -> int:
        """How many values were counted: the finite ones of the sample (of a log2 histogram those that are not zero)."""
        return int(self.counts.sum()) + sum(self.atoms)

    def onto(self, edges: np.ndarray, atoms: bool = True) -> np.ndarray:
        """The counts in other bins, len(edges) - 1 floats: a bin that is cut is divided in proportion.

        edges must ascend; values beyond them are counted in the first and the last bin, so that nothing is lost.
        atoms: whether to count the values that are exactly -1, 0 or 1 too.
        """
        edges = np.asarray(edges, dtype=np.float64)
        below = np.concatenate([[0.0], np.cumsum(self.counts, dtype=np.float64)])
        cut = np.interp(edges, self.edges, below)
        cut[0], cut[-1] = 0.0, below[-1]
        counts = np.diff(cut)
        if atoms:
            for value, number in zip(ATOMS, self.atoms):
                counts[np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(counts) - 1)] += number
        return counts


def unpack_histogram(step: int, site: str, scale: str, low: float, high: float, counts: bytes) -> Histogram:
    """From a row of the table; the atoms of a signed histogram follow its bins."""
    numbers = np.frombuffer(counts, dtype="<u4")
    if scale != "signed":
        return Histogram(step, site, scale, low, high, numbers)
    minus, zero, plus = (int(n) for n in numbers[SIGNED_BINS:])
    return Histogram(step, site, scale, low, high, numbers[:SIGNED_BINS], (minus, zero, plus))


def common_edges(histograms: Sequence[Histogram], bins: int) -> np.ndarray:
    """`bins` + 1 edges for histograms of several steps or sites, over all their ranges; symmetric where one is."""
    high = max((h.high for h in histograms), default=1.0)
    low = -high if any(h.low < 0 for h in histograms) else 0.0
    return np.linspace(low, high, bins + 1)
