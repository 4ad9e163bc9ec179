"""Many numbers made few, so that a run of 100,000 steps is drawn as quickly as one of 100."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MOST_POINTS = 1_200  # of one line
MOST_COLUMNS = 240  # of a heat map


def line(
    steps: np.ndarray, values: np.ndarray, most: int = MOST_POINTS
) -> tuple[list[int], list[float | None]]:
    """A line with at most about `most` points: of each stretch the lowest and the highest, so that no spike is lost.

    Where a stretch holds a value that is not finite, the line has a gap there.

    >>> line(np.arange(4), np.array([1.0, 9.0, 1.0, np.inf]))
    ([0, 1, 2, 3], [1, 9, 1, None])
    >>> steps, values = line(np.arange(10_000), np.where(np.arange(10_000) == 5_000, 7.0, 1.0), 100)
    >>> len(steps) <= 100, max(values)
    (True, 7)
    """
    if len(steps) > most:
        stretch = -(-len(steps) // (most // 2))
        rows = np.arange(0, len(steps), stretch)
        chosen: set[int] = {0, len(steps) - 1}
        finite = np.where(np.isfinite(values), values, np.nan)
        for start in rows:
            part = finite[start : start + stretch]
            broken = np.flatnonzero(np.isnan(part))
            if len(broken):
                chosen.add(int(start + broken[0]))
            if len(broken) < len(part):
                chosen |= {int(start + np.nanargmin(part)), int(start + np.nanargmax(part))}
        kept = sorted(chosen)
        steps, values = steps[kept], values[kept]
    return steps.astype(int).tolist(), short(values)


def columns(steps: list[int], most: int = MOST_COLUMNS) -> list[int]:
    """Sampled steps for the columns of a heat map. They are every 1st, 2nd, 4th, 8th ..., so that while a run grows
    most of them stay the same; the last one is always there.

    >>> columns(list(range(0, 1000, 10)), 30)[:3], len(columns(list(range(1000)), 30))
    ([0, 40, 80], 17)
    """
    stride = 1
    while len(steps) / stride > most:
        stride *= 2
    kept = steps[::stride]
    return kept if not steps or kept[-1] == steps[-1] else [*kept, steps[-1]]


def short(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Numbers with few digits; None for what is not finite."""
    return [rounded(v, digits) for v in values.tolist()]


def rounded(value: Any, digits: int = 4) -> float | None:
    """
    >>> rounded(1.23456), rounded(float("nan")), rounded(None)
    (1.235, None, None)
    """
    if value is None or not math.isfinite(value):
        return None
    number = float(f"{value:.{digits}g}")
    return int(number) if number == int(number) and abs(number) < 1e9 else number
