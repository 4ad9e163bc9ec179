"""The recorded losses of a run or a rehearsal: their course, and the step from which they have diverged."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ._rule import CannotJudge, Threshold
from ._view import View
from ._words import plural, show

FAR = Threshold(
    10.0,
    "times the first loss, above which all losses of the last fifth lie, or one of a rehearsal: diverged",
)
FIFTH = Threshold(5, "the run's end is the last of so many equal parts")
ENDING = Threshold(
    3,
    "losses at least, that this last fifth has: one may be a hard batch (of a rehearsal, on one batch, one is enough)",
)
REHEARSAL = Threshold(20, "rehearsed steps in which the loss of the batch that is repeated falls")
PROGRESS = Threshold(0.005, "of the first loss: the least fall in so many rehearsed steps")
FRESH_LOSSES = Threshold(
    10, "losses on different batches at least, before their fall says that the learning rate works"
)
FRESH_FALL = Threshold(0.9, "of the first loss, at the end of a rehearsal on different batches that works")
FRESH_ERRORS = Threshold(
    2.0, "standard errors, by which the last quarter of such losses lies below the first one"
)
FRESH_LEAP = Threshold(
    1.25,
    "times the first loss, above which the first steps went too far: of random networks and rates whose loss did and "
    "ended low all the same, most train well and some do not, which a short rehearsal cannot tell apart",
)
QUARTER = Threshold(4, "the end of a rehearsal, or of a series, is the last of so many equal parts")
AFTER = Threshold(
    5, "finite losses after the first that is not: a loss that comes back so often has spoilt no weight"
)
BEFORE = Threshold(8, "finite losses at least, that show that the loss was falling before it was not finite")
GRADIENT = Threshold(
    0.3,
    "of the fall that the gradient promises for a short step: rounding and curvature take a few percent of it",
)
FALLS = Threshold(0.05, "of the first loss: a fall by it within a rehearsal shows that steps lead down")
WINDOWS = Threshold(40, "at most; enough to say when, with enough values in each")
IN_WINDOW = Threshold(5, "losses at least in a window: fewer have no median that one outlier could not move")
STEADY = Threshold(
    0.1, "of all falls from one step to the next, which all rises stay below where each step leads down"
)
LEAP = Threshold(
    1.1,
    "times the first loss, which no later one exceeds where steps lead down; of one batch, or of a run's windows",
)

HUMP = Threshold(
    0.5, "of the first loss, that the end of a run lies below: a hump on the way there is forgiven"
)

FAR_DOWN = Threshold(
    0.9,
    "of the first loss, by which a rehearsal on one batch has to end lower to be forgiven its first steps",
)

_NORMAL = 1 / NormalDist().inv_cdf(3 / 4)  # median absolute deviation to standard deviation, of normal noise
_MEDIAN_ERROR = math.sqrt(math.pi / 2)  # a median's standard error over a mean's


def comes_back(losses: np.ndarray) -> bool:
    """Whether losses that are not finite lie between finite ones: the weights are, and those batches are at fault."""
    finite = np.isfinite(losses)
    after = finite[int(np.argmin(finite)) :]
    return not finite.all() and after.sum() >= AFTER and after.sum() >= (~after).sum()


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
    """(steps, losses) of a training run or a rehearsal with at least so many recorded losses."""
    steps, losses = view.losses
    if not (view.training or view.rehearsal):
        raise CannotJudge("only training runs and rehearsals have a loss curve")
    if len(losses) < least:
        raise CannotJudge(f"too few steps were recorded: needs {least:g} losses, there are {len(losses)}")
    return steps, losses


def finite_until(losses: np.ndarray) -> int:
    """How many losses there are before the first that is not finite."""
    broken = ~np.isfinite(losses)
    return int(np.argmax(broken)) if broken.any() else len(losses)


def first_diverged(view: View) -> int | None:
    """Index of the first loss from which all are not finite, or from which all are far above the first loss. A loss
    that was not finite counts, even if later ones are. None: there is none."""
    losses = view.losses[1]
    if not (view.training or view.rehearsal) or not len(losses):
        return None
    end = finite_until(losses)
    if end == 0:
        return 0
    far = losses[:end] > FAR * losses[0] if losses[0] > 0 else np.zeros(end, dtype=bool)
    ending = max(1 if view.rehearsal else int(ENDING), end // int(FIFTH))
    if end < len(losses) or (end > ending and far[-ending:].all()):
        return int(np.nonzero(~far)[0][-1]) + 1
    return None


def diverged_from(view: View) -> int | None:
    """The step of that loss, unless the run recovered: what was measured from there on is of a network whose training
    has failed, and says nothing about the learning rate or the layers."""
    index, (steps, losses) = first_diverged(view), view.losses
    recovered = len(losses) and np.isfinite(losses[-1]) and not np.isfinite(losses).all()
    return None if index is None or recovered else int(steps[index])


def is_sudden(steps: np.ndarray, losses: np.ndarray) -> bool:
    """Whether a loss that was recorded at every step fell to its lowest levels and then was not finite at once. Steps
    that are too large first lead up."""
    end = finite_until(losses)
    if (
        end == len(losses)
        or end < BEFORE
        or np.ptp(np.diff(steps[: end + 1])) > 0
        or steps[end] - steps[end - 1] > 1
    ):
        return False
    past = losses[:end]
    return bool(past[-int(ENDING) :].max() <= np.median(past) and np.median(past) < past[0])


def last_quarter(values: np.ndarray) -> float:
    """Median of the last quarter of a series."""
    return float(np.median(values[-max(1, len(values) // int(QUARTER)) :]))


def loss_falls(view: View) -> bool:
    """Whether the recorded losses show that training gets somewhere: the last ones lie clearly below the first, and
    none (of a training run: no window's level) far above it, unless the end is far below."""
    levels = _levels(view)
    if levels is None:
        return False
    first, size, last = float(levels[0]), abs(float(levels[0])), last_quarter(levels)
    far_down = last <= first - (HUMP if view.training else FAR_DOWN) * size
    return first - last > FALLS * size and (far_down or bool(np.all(levels <= first + (LEAP - 1) * size)))


def steps_lead_down(view: View) -> bool:
    """Whether steps of this size lower the loss: it falls clearly, or by little but at nearly every step."""
    levels = _levels(view)
    if levels is None:
        return False
    change = np.diff(levels)
    return loss_falls(view) or float(change[change > 0].sum()) < -STEADY * float(change[change < 0].sum())


def leaps(view: View) -> bool:
    """Whether a rehearsed step led far above the first loss of the batch that is repeated: it went too far."""
    losses = view.losses[1]
    return (
        view.rehearsal
        and len(losses) > 1
        and bool(np.nanmax(losses) > losses[0] + (LEAP - 1) * abs(losses[0]))
    )


def _levels(view: View) -> np.ndarray | None:
    """The losses of a rehearsal, or medians of windows of a run; None where there are too few, or not all finite (but
    for
    single batches of a run, between finite ones)."""
    losses = view.losses[1]
    if view.training and len(losses) and comes_back(losses):
        losses = losses[np.isfinite(losses)]
    if not (view.training or view.rehearsal) or len(losses) < REHEARSAL / 2 or not np.isfinite(losses).all():
        return None
    if view.rehearsal:
        return losses
    windows = min(int(WINDOWS), max(1, len(losses) // int(IN_WINDOW)))
    return np.array([np.median(part) for part in np.array_split(losses, windows)])


def falls_on_fresh_batches(view: View) -> bool:
    """Whether the loss of a rehearsal on different batches ends clearly below the first one. It may have leapt up
    before (`leapt_on_fresh_batches`)."""
    losses = view.losses[1]
    if not view.rehearsal or not view.facts.fresh_batches or len(losses) < FRESH_LOSSES:
        return False
    if not np.isfinite(losses).all():
        return False
    return last_quarter(losses) <= FRESH_FALL * losses[0] or falls_beyond_noise(losses, FALLS)


def learns_at_once(view: View, constant: float) -> bool:
    """Whether such a rehearsal brings the loss clearly below that of a constant within its few steps: what looked wrong
    at its beginning did not keep it from learning."""
    return falls_on_fresh_batches(view) and last_quarter(view.losses[1]) <= FRESH_FALL * constant


def falls_beyond_noise(losses: np.ndarray, least: float = 0.0) -> bool:
    """Whether the last quarter of a rehearsal's losses lies below the first quarter by more than their scatter, and by
    this share of the first loss."""
    part = max(1, len(losses) // int(QUARTER))
    error = _MEDIAN_ERROR * float(np.std(np.diff(losses))) / math.sqrt(2) * math.sqrt(2 / part)
    fall = float(np.median(losses[:part]) - np.median(losses[-part:]))
    return fall > max(FRESH_ERRORS * error, least * abs(losses[0]))


def leapt_on_fresh_batches(view: View) -> float:
    """How many times the first loss the highest of such a rehearsal is; 1 where none was far above it."""
    losses = view.losses[1]
    if not view.rehearsal or not view.facts.fresh_batches or not len(losses) or not losses[0] > 0:
        return 1.0
    times = float(np.max(losses) / losses[0])
    return times if times > FRESH_LEAP else 1.0


def no_progress(view: View) -> str | None:
    """Why a rehearsal does not show that training works: its loss does not fall. None if it falls, or there is none."""
    losses = view.losses[1]
    if not view.rehearsal or len(losses) < 2 or losses[0] == 0:
        return None
    steps = len(losses) - 1
    last = last_quarter(losses)
    enough = steps >= REHEARSAL
    if losses[0] - last > (PROGRESS * abs(losses[0]) if enough else 0):
        return None
    return (
        f"the loss does not fall in the rehearsal ({show(losses[0])} at first, {show(last)} after "
        f"{plural(steps, 'step')}{'' if enough else f'; rehearse {REHEARSAL:g} to see more'})"
    )
