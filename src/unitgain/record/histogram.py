"""Histogram: how the magnitudes of one tensor were distributed at one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HISTOGRAM_BINS = 64
"""Bins of a histogram."""
LOG2_LOW = -48
"""The lowest power of two of a log2 histogram, which has one bin per power of two."""
LOG2_HIGH = 16
"""The power of two above its highest bin."""


@dataclass(frozen=True)
class Histogram:
    """64 counts of a sample of one tensor's magnitudes.

    scale "linear": bins of equal width from low to high, the last one open to larger values.
    scale "log2": bin i holds magnitudes in [2**(low+i), 2**(low+i+1)); smaller ones (but not zero) fall into
    the first bin, larger ones into the last.
    """

    step: int
    site: str
    scale: str
    low: float
    high: float
    counts: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """The 65 bin edges, as magnitudes."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return 2.0**edges if self.scale == "log2" else edges
