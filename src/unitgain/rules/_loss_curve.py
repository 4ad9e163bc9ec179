"""The recorded losses of a run: their course, and the step from which they have diverged."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ._rule import CannotJudge, Threshold
from ._view import View

FAR = Threshold(
    10.0, "times the first loss, above which all losses of the last fifth lie: diverged, however short"
)
FIFTH = Threshold(5, "the run's end is the last of so many equal parts")
ENDING = Threshold(3, "losses at least, that this last fifth has: one may be a hard batch")


_NORMAL = 1 / NormalDist().inv_cdf(3 / 4)  # median absolute deviation to standard deviation, of normal noise
_MEDIAN_ERROR = math.sqrt(math.pi / 2)  # a median's standard error over a mean's


@dataclass(frozen=True)
class Course:
    """A loss curve in windows of equal length.

    starts  (windows + 1,) index of each window's first value, and the number of all
    levels  (windows,) medians
    error   standard error of one level, from the scatter inside windows
    """

    starts: np.ndarray
    levels: np.ndarray
    error: float

    def middle(self, window: int) -> int:
        """Index of the value in the middle of a window."""
        return int(self.starts[window] + self.starts[window + 1]) // 2

    def onset(self, best: int, errors: float) -> int:
        """Index of the first value after the last window whose level was within so many errors of the best one's."""
        near = self.levels <= self.levels[best] + errors * self.error
        return int(self.starts[int(np.nonzero(near)[0][-1]) + 1])


def course_of(losses: np.ndarray, windows: float, in_window: float, trendless: float) -> Course:
    """windows    at most
    in_window  losses at least in each
    trendless  windows at least, before their wandering is an estimate of noise
    """
    number = int(min(windows, max(1, len(losses) // int(in_window))))
    starts = np.linspace(0, len(losses), number + 1).astype(int)
    levels = np.array([np.median(losses[a:b]) for a, b in itertools.pairwise(starts)])
    # differences of neighbours: a trend inside the windows is no noise
    jumps = np.abs(np.diff(losses))
    scatter = _NORMAL * float(np.median(jumps)) / math.sqrt(2) if len(jumps) else 0.0
    # second differences of levels have six times a level's variance
    bends = np.abs(np.diff(levels, 2))
    wander = _NORMAL * float(np.median(bends)) / math.sqrt(6) if number > trendless else 0.0
    return Course(starts, levels, max(_MEDIAN_ERROR * scatter / math.sqrt(len(losses) / number), wander))


def loss_curve(view: View, least: float) -> tuple[np.ndarray, np.ndarray]:
    """(steps, losses) of a training run with at least so many recorded losses."""
    steps, losses = view.losses
    if not view.training:
        raise CannotJudge("only training runs have a loss curve")
    if len(losses) < least:
        raise CannotJudge(f"too few steps were recorded: needs {least:g} losses, there are {len(losses)}")
    return steps, losses


def finite_until(losses: np.ndarray) -> int:
    """How many losses there are before the first that is not finite."""
    broken = ~np.isfinite(losses)
    return int(np.argmax(broken)) if broken.any() else len(losses)


def first_diverged(view: View) -> int | None:
    """Index of the first loss of a training run from which all are not finite, or from which all are far above the
    first loss. A loss that was not finite counts, even if later ones are. None: there is none."""
    losses = view.losses[1]
    if not view.training or not len(losses):
        return None
    end = finite_until(losses)
    if end == 0:
        return 0
    far = losses[:end] > FAR * losses[0] if losses[0] > 0 else np.zeros(end, dtype=bool)
    ending = max(int(ENDING), end // int(FIFTH))
    if end < len(losses) or (end > ending and far[-ending:].all()):
        return int(np.nonzero(~far)[0][-1]) + 1
    return None


def diverged_from(view: View) -> int | None:
    """The step of that loss, unless the run recovered: what was measured from there on is of a network whose training
    has failed, and says nothing about the learning rate or the layers."""
    index, (steps, losses) = first_diverged(view), view.losses
    recovered = len(losses) and np.isfinite(losses[-1]) and not np.isfinite(losses).all()
    return None if index is None or recovered else int(steps[index])
