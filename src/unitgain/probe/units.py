"""Units that were active and died: when each unit of a layer was active for the last time."""

from __future__ import annotations

from collections import deque

import numpy as np

from ..record import DiedFacts

_FEWEST_STEPS = 5  # sampled ones at the end, in which a dead unit is not active
_FEWEST_VALUES = (
    128  # per unit in them: a unit that is active one time in twenty is missed by 0.1% of such samples
)
_LONGEST = 64  # steps that are looked back at
_USUALLY = (
    0.5  # of the steps before: a unit that was active in fewer is sparse, and its silence may be chance
)
_TAILS = (5, 95)  # percent: between them nine tenths died


class Activity:
    """Of the units of one layer. Memory does not grow with the number of steps.

    active  in how many steps each unit was active; last: the latest of them, as (number of the step, how many steps
            had been seen by then)
    """

    def __init__(self, units: int):
        self.active = np.zeros(units, dtype=np.int64)
        self.last = np.full(units, -1, dtype=np.int64)
        self._seen_by = np.zeros(units, dtype=np.int64)
        self._seen = 0
        self._recent: deque[tuple[int, float]] = deque(maxlen=_LONGEST)

    def saw(self, step: int, alive: np.ndarray, values: float) -> None:
        """alive: which units were active in the step; values: seen of each."""
        self._seen += 1
        self.active += alive
        self.last[alive] = step
        self._seen_by[alive] = self._seen
        self._recent.append((step, values))

    def facts(self) -> DiedFacts | None:
        """None: no unit died, or the end of the run is too short to tell."""
        since, watched, values = None, 0, 0.0
        for step, number in reversed(self._recent):
            since, watched, values = step, watched + 1, values + number
            if watched >= _FEWEST_STEPS and values >= _FEWEST_VALUES:
                break
        else:
            return None
        died = (self.last >= 0) & (self.last < since) & (self.active >= _USUALLY * self._seen_by)
        if not died.any():
            return None
        low, high = np.percentile(self.last[died], _TAILS, method="nearest")
        return DiedFacts(len(died), int(died.sum()), int(low), int(high), watched)
